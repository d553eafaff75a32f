"""`compat.pytorch3d` against PyTorch3D's own answers, and against its rules written out pixel by pixel in float64."""

import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from ndc_rules import by_rule, soup

from focus_kernels import _backends
from focus_kernels.compat.pytorch3d import Meshes, rasterize_meshes

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


@pytest.mark.parametrize("size", [(9, 9), (7, 12), (13, 6), (1, 1)])
@pytest.mark.parametrize("perspective_correct", [False, True])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("cull", [False, True])
def test_rules_pixel_by_pixel(size, perspective_correct, clip, cull):
    verts, faces = soup(size[0] + 100 * perspective_correct, 14)
    # triangles whose area is of the order of epsilon, in front of the others, so that the bias shows
    verts[:6, :2] = verts[:6, :2] * 2e-4 + torch.tensor([1e-5, -2e-5], dtype=torch.float64)
    verts[:6, 2] -= 0.9
    out = rasterize_meshes(
        Meshes([verts], [faces]),
        size,
        perspective_correct=perspective_correct,
        clip_barycentric_coords=clip,
        cull_backfaces=cull,
    )
    ids, zbuf, bary, dists = by_rule(verts.view(-1, 3, 3).numpy(), size, perspective_correct, clip, cull)
    assert (ids >= 0).any()
    np.testing.assert_array_equal(out[0][0, :, :, 0].numpy(), ids)
    # double rounding only; the tiny triangles lose four digits to cancellation in their edges
    np.testing.assert_allclose(out[1][0, :, :, 0].numpy(), zbuf, rtol=1e-11)
    np.testing.assert_allclose(out[2][0, :, :, 0].numpy(), bary, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(out[3][0, :, :, 0].numpy(), dists, rtol=1e-9, atol=1e-13)


def test_bias_of_small_faces():
    # doubled area 3e-8: barycentrics sum to 3 / 4 or, seen from behind, to 3 / 2
    side = (3e-8) ** 0.5
    corners = torch.tensor([[0.0, 0.0, 1.0], [side, 0.0, 1.0], [0.0, side, 1.0]], dtype=torch.float64)
    corners[:, :2] -= 0.3 * side
    for order, expected in (([0, 2, 1], 3 / 4), ([0, 1, 2], 3 / 2)):
        _, zbuf, bary, _ = rasterize_meshes(Meshes([corners], [torch.tensor([order])]), 1)
        torch.testing.assert_close(bary.sum().item(), expected, rtol=1e-9, atol=0)
        torch.testing.assert_close(zbuf.item(), expected, rtol=1e-9, atol=0)


def test_strict_edges_leave_holes():
    # two triangles share the diagonal of the image, which passes through the pixel centres
    verts = torch.tensor([[-1.0, -1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    pix_to_face = rasterize_meshes(Meshes([verts], [faces]), 8)[0][0, :, :, 0]
    assert torch.equal(pix_to_face < 0, torch.eye(8, dtype=torch.bool))


def test_x_is_left_and_y_is_up():
    verts = torch.tensor([[0.2, 0.2, 1.0], [0.9, 0.2, 1.0], [0.2, 0.9, 1.0]])
    rows, columns = (rasterize_meshes(Meshes([verts], [torch.tensor([[0, 1, 2]])]), 8)[0][0, :, :, 0] == 0).nonzero().T
    assert rows.max() < 4 and columns.max() < 4


def test_dropped_faces():
    good = torch.tensor([[0.9, -0.9, 2.0], [-0.9, -0.9, 2.0], [0.0, 0.9, 2.0]])
    bad = {
        "behind": good * torch.tensor([1.0, 1.0, -0.5]),
        "partly behind": good - torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        "too near": good * torch.tensor([1.0, 1.0, 1e-9]),
        "too thin": good * torch.tensor([1e-8, 0.5, 0.5]),
        "nan": torch.where(good == 0.0, torch.nan, good),
        "infinite": torch.where(good == 0.0, torch.inf, good),
        "overflowing": good * torch.tensor([1e30, 1e30, 0.5]),
    }
    for name, corners in bad.items():
        verts = torch.cat([corners, good]).requires_grad_()
        out = rasterize_meshes(Meshes([verts], [torch.arange(6).view(2, 3)]), 16, perspective_correct=True)
        assert set(out[0].unique().tolist()) == {-1, 1}, name
        sum(values.sum() for values in out[1:]).backward()
        assert torch.equal(verts.grad[:3], torch.zeros(3, 3)), name
        assert verts.grad[3:].isfinite().all() and (verts.grad[3:] != 0).any(), name


def test_meshes_of_different_sizes():
    without_faces = torch.zeros(4, 3, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.int64)
    parts = [soup(1, 5), soup(2, 1), without_faces, soup(3, 9)]
    verts = [v.requires_grad_() for v, _ in parts]
    together = rasterize_meshes(Meshes(verts, [f for _, f in parts]), (10, 14))
    grads = torch.autograd.grad(sum(values.square().sum() for values in together[1:]), verts, allow_unused=True)
    first = 0
    for b, (v, f) in enumerate(parts):
        alone = rasterize_meshes(Meshes([v], [f]), (10, 14))
        grad = torch.autograd.grad(sum(values.square().sum() for values in alone[1:]), v)[0]
        assert torch.equal(together[0][b], torch.where(alone[0][0] >= 0, alone[0][0] + first, -1))
        for ours, theirs in zip(together[1:], alone[1:], strict=True):
            assert torch.equal(ours[b], theirs[0])
        assert torch.equal(grads[b], grad)
        first += len(f)


def count_draws(monkeypatch):
    module, calls = import_module("focus_kernels.compat.pytorch3d.rasterize"), []
    draw = module.rasterize_ndc
    monkeypatch.setattr(module, "rasterize_ndc", lambda *args, **options: calls.append(args) or draw(*args, **options))
    return calls


@pytest.mark.parametrize("layout", ["expanded", "copied", "same list", "equal list", "packed"])
def test_equal_faces_are_drawn_in_one_call(layout, monkeypatch):
    verts = torch.stack([soup(seed, 6)[0] for seed in range(3)]).requires_grad_()
    faces = soup(0, 6)[1][torch.randperm(6, generator=torch.Generator().manual_seed(1))][:5]
    meshes = {
        "expanded": lambda: Meshes(verts, faces.expand(3, -1, -1)),
        "copied": lambda: Meshes(verts, faces.repeat(3, 1, 1)),
        "same list": lambda: Meshes(list(verts), [faces] * 3),
        "equal list": lambda: Meshes(list(verts), [faces.clone() for _ in range(3)]),
        "packed": lambda: Foreign(verts.flatten(0, 1), torch.cat([faces + 18 * k for k in range(3)]), 3),
    }[layout]()
    alone = [rasterize_meshes(Meshes([v], [faces]), (8, 11)) for v in verts]
    calls = count_draws(monkeypatch)
    together = rasterize_meshes(meshes, (8, 11))
    assert len(calls) == 1 and calls[0][0].shape == (3, 18, 3)
    ids = torch.cat([torch.where(out[0] >= 0, out[0] + 5 * k, -1) for k, out in enumerate(alone)])
    assert torch.equal(together[0], ids) and len(ids.unique()) > 8
    for ours, theirs in zip(together[1:], zip(*(out[1:] for out in alone), strict=True), strict=True):
        assert torch.equal(ours, torch.cat(theirs))
    total = lambda out: sum(values.square().sum() for values in out[1:])
    got = torch.autograd.grad(total(together), verts)[0]
    assert torch.equal(got, torch.autograd.grad(sum(map(total, alone)), verts)[0]) and got.any()


def test_different_faces_are_drawn_one_by_one(monkeypatch):
    verts = torch.stack([soup(seed, 4)[0] for seed in range(2)])
    faces = torch.stack([soup(0, 4)[1], soup(0, 4)[1].flip(0)])
    calls = count_draws(monkeypatch)
    for meshes in (Meshes(verts, faces), Foreign(verts.flatten(0, 1), torch.cat([faces[0], faces[1] + 12]), 2)):
        calls.clear()
        pix_to_face = rasterize_meshes(meshes, 9)[0]
        assert len(calls) == 2
        for b in range(2):
            alone = rasterize_meshes(Meshes([verts[b]], [faces[b]]), 9)[0]
            assert torch.equal(pix_to_face[b], torch.where(alone[0] >= 0, alone[0] + 4 * b, -1))


def test_faces_edited_in_place_are_seen():
    verts, faces = soup(3, 2)
    before = rasterize_meshes(Meshes([verts], [faces]), 16)[0]
    faces.copy_(faces.flip(0))
    after = rasterize_meshes(Meshes([verts], [faces]), 16)[0]
    assert torch.equal(after >= 0, before >= 0) and torch.equal(after[after >= 0], 1 - before[before >= 0])


def test_gradients_do_not_depend_on_threads(monkeypatch):
    reasons = import_module("focus_kernels._extension").why_not(torch.zeros(1))
    if reasons:
        pytest.skip("; ".join(reasons))
    monkeypatch.setattr(_backends, "FORCED", "native")  # the reference adds as torch does
    # small triangles on a jittered grid, enough of them that torch would share a scattered sum among threads
    side = 120
    step = torch.linspace(-1, 1, side)
    grid = torch.stack([*torch.meshgrid(step, step, indexing="ij"), torch.ones(side, side)], -1).view(-1, 3)
    grid = grid + 0.02 * torch.rand(grid.shape, generator=torch.Generator().manual_seed(11))
    corner = torch.arange(side * side).view(side, side)[:-1, :-1].reshape(-1)
    faces = torch.cat([corner + torch.tensor(c)[:, None] for c in ((0, 1, side), (1, side + 1, side))], 1).T
    threads, grads = torch.get_num_threads(), []
    try:
        for count in (1, 4, 4):
            torch.set_num_threads(count)
            leaf = grid.clone().requires_grad_()
            out = rasterize_meshes(Meshes([leaf, leaf], [faces, faces]), 150)
            grads.append(torch.autograd.grad(out[1].sum() + out[2].square().sum() + out[3].sum(), leaf)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(grads[0], grads[1]) and torch.equal(grads[1], grads[2])


@pytest.mark.parametrize("perspective_correct", [False, True])
@pytest.mark.parametrize("clip", [False, True])
def test_gradcheck(perspective_correct, clip):
    verts, faces = soup(7, 3)
    tiny = torch.tensor([[1e-4, 0.0, 0.5], [-1e-4, 2e-4, 0.6], [-1e-4, -2e-4, 0.7]], dtype=torch.float64)
    verts, faces = torch.cat([verts, tiny]).requires_grad_(), torch.cat([faces, torch.tensor([[9, 10, 11]])])

    def render(v):
        out = rasterize_meshes(
            Meshes([v], [faces]), 5, perspective_correct=perspective_correct, clip_barycentric_coords=clip
        )
        assert (out[0] == 3).any()
        return out[1:]

    # the step is small beside the tiny triangle (1e-4), whose derivatives reach 1e4
    assert torch.autograd.gradcheck(render, (verts,), eps=1e-10, atol=2e-4, rtol=1e-3)


def test_signature():
    parameters = inspect.signature(rasterize_meshes).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "meshes": inspect.Parameter.empty,
        "image_size": 256,
        "blur_radius": 0.0,
        "faces_per_pixel": 1,
        "bin_size": None,
        "max_faces_per_bin": None,
        "perspective_correct": False,
        "clip_barycentric_coords": False,
        "cull_backfaces": False,
        "z_clip_value": None,
        "cull_to_frustum": False,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_background(dtype):
    verts, faces = soup(0, 1, dtype, spread=0.2)
    meshes = Meshes([verts, verts + 5], [faces, faces])
    pix_to_face, zbuf, bary, dists = rasterize_meshes(meshes, [6, 10], 0.0, 1, 0, 100)
    assert pix_to_face.shape == zbuf.shape == dists.shape == (2, 6, 10, 1) and bary.shape == (2, 6, 10, 1, 3)
    assert pix_to_face.dtype == torch.int64 and zbuf.dtype == bary.dtype == dists.dtype == dtype
    for values in (pix_to_face, zbuf, bary, dists):
        assert (values[1] == -1).all() and (values[0, 0] == -1).all()
    assert rasterize_meshes(meshes)[0].shape == (2, 256, 256, 1)
    assert rasterize_meshes(meshes, np.int64(7))[0].shape == (2, 7, 7, 1)


def test_nothing_to_draw():
    for meshes in (
        Meshes([], []),
        Meshes(torch.zeros(0, 4, 3), torch.zeros(0, 2, 3, dtype=torch.int64)),
        Meshes([torch.zeros(0, 3)], [torch.zeros(0, 3, dtype=torch.int64)]),
        Meshes(torch.zeros(2, 4, 3, requires_grad=True), torch.full((2, 5, 3), -1)),
    ):
        out = rasterize_meshes(meshes, 4)
        assert meshes.isempty() and out[2].shape == (len(meshes), 4, 4, 1, 3)
        assert all((values == -1).all() for values in out)
        if meshes.verts_packed().requires_grad:
            out[1].sum().backward()


def test_inference_mode_does_not_spoil_training():
    verts, faces = soup(4, 23)
    with torch.inference_mode():
        rasterize_meshes(Meshes([verts], [faces]), 8)
    verts.requires_grad_()
    rasterize_meshes(Meshes([verts], [faces]), 8)[1].sum().backward()
    assert verts.grad.any()


def test_options_that_are_refused():
    meshes = Meshes(*([part] for part in soup(0, 1)))
    for name, value in (("blur_radius", 0.1), ("faces_per_pixel", 8), ("z_clip_value", 0.1), ("cull_to_frustum", True)):
        with pytest.raises(ValueError, match=rf"rasterize_meshes\(\): expected {name} to be .*, got {value}"):
            rasterize_meshes(meshes, 8, **{name: value})
    for size in (0, (4, -1), (4,), (4, 4.0), 8.0):
        with pytest.raises(ValueError, match="expected image_size to be"):
            rasterize_meshes(meshes, size)


class Foreign:
    """The part of PyTorch3D's own `Meshes` that is relied upon: `count` meshes of equal sizes, packed."""

    def __init__(self, verts, faces, count=1):
        self.verts, self.faces, self.count = verts, faces, count

    def verts_packed(self):
        return self.verts

    def faces_packed(self):
        return self.faces

    def num_verts_per_mesh(self):
        return torch.full((self.count,), len(self.verts) // self.count)

    def num_faces_per_mesh(self):
        return torch.full((self.count,), len(self.faces) // self.count)

    def mesh_to_faces_packed_first_idx(self):
        return torch.arange(self.count) * (len(self.faces) // self.count)


def test_meshes_of_another_class():
    verts, faces = soup(5, 6)
    for ours, theirs in zip(
        rasterize_meshes(Foreign(verts, faces), 9), rasterize_meshes(Meshes([verts], [faces]), 9), strict=True
    ):
        assert torch.equal(ours, theirs)
    with pytest.raises(TypeError, match=r"meshes to be of float32 or float64 vertices, got torch\.float16"):
        rasterize_meshes(Foreign(verts.half(), faces), 9)


def test_meshes_layouts():
    verts = [torch.rand(4, 3), torch.rand(0, 3), torch.rand(6, 3)]
    faces = [torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.zeros(0, 3, dtype=torch.int32), torch.tensor([[3, 4, 5]])]
    meshes = Meshes(verts, faces)
    assert len(meshes) == 3 and not meshes.isempty() and meshes.device == torch.device("cpu")
    assert torch.equal(meshes.verts_packed(), torch.cat(verts))
    assert meshes.faces_packed().tolist() == [[0, 1, 2], [1, 2, 3], [7, 8, 9]]
    assert meshes.num_verts_per_mesh().tolist() == [4, 0, 6] and meshes.num_faces_per_mesh().tolist() == [2, 0, 1]
    assert meshes.mesh_to_verts_packed_first_idx().tolist() == [0, 4, 4]
    assert meshes.mesh_to_faces_packed_first_idx().tolist() == [0, 2, 2]
    assert meshes.verts_packed_to_mesh_idx().tolist() == [0] * 4 + [2] * 6
    assert meshes.faces_packed_to_mesh_idx().tolist() == [0, 0, 2]
    padded = meshes.verts_padded()
    assert padded.shape == (3, 6, 3) and not padded[0, 4:].any() and not padded[1].any()
    assert meshes.faces_padded().tolist() == [
        [[0, 1, 2], [1, 2, 3]],
        [[-1, -1, -1], [-1, -1, -1]],
        [[3, 4, 5], [-1, -1, -1]],
    ]
    again = Meshes(padded, meshes.faces_padded())
    assert [f.tolist() for f in again.faces_list()] == [f.tolist() for f in meshes.faces_list()]
    assert [f.shape for f in again.verts_list()] == [(6, 3)] * 3
    assert torch.equal(again.to("cpu").verts_padded(), padded)


def test_meshes_errors():
    verts, faces = torch.rand(4, 3), torch.tensor([[0, 1, 2]])

    def fails(kind, message, *arguments):
        with pytest.raises(kind, match=message):
            Meshes(*arguments)

    fails(ValueError, r"verts to be shape \[\*, \*, 3\], got \[4, 3\]", verts, [faces])
    fails(ValueError, r"faces to be shape \[\*, 3\], got \[3\]", [verts], [faces[0]])
    fails(ValueError, "faces to be 1 meshes as verts, got 2", [verts], [faces, faces])
    fails(ValueError, r"faces to be in \[0, 4\), got 0\.\.4", [verts], [torch.tensor([[0, 1, 4]])])
    fails(ValueError, r"faces to be in \[0, 4\), got -1\.\.2", [verts], [torch.tensor([[0, -1, 2]])])
    fails(TypeError, "verts to be all float32 or all float64", [verts.half()], [faces])
    fails(TypeError, "verts to be all float32 or all float64", [verts, verts.double()], [faces, faces])
    fails(TypeError, "faces to be integers", [verts], [faces.float()])
    fails(TypeError, "verts to be a tensor or a list of tensors, got dict", {}, [faces])


@pytest.mark.parametrize("case", ["a", "b", "c"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_golden(case, dtype, device):
    path = GOLDEN / f"pytorch3d_{case}.npz"
    if not path.exists():
        pytest.skip("needs ../shared/golden")
    data = dict(np.load(path))
    cotangents = [torch.from_numpy(data[name]).to(device, dtype) for name in ("grad_zbuf", "grad_bary")]
    parts = np.split(data["face_verts_ndc"], data["faces_per_mesh"].cumsum()[:-1])
    verts = [torch.from_numpy(part).reshape(-1, 3).to(device, dtype).requires_grad_() for part in parts]
    pix_to_face, *floats = rasterize_meshes(
        Meshes(verts, [torch.arange(len(part), device=device).view(-1, 3) for part in verts]),
        tuple(data["image_size"].tolist()),
        perspective_correct=bool(data["perspective_correct"]),
        cull_backfaces=bool(data["cull_backfaces"]),
    )
    grad = torch.cat(torch.autograd.grad(floats[:2], verts, cotangents)).view(-1, 3, 3).cpu().numpy()
    zbuf, bary = (values.detach().cpu().numpy() for values in floats[:2])

    assert pix_to_face.dtype == torch.int64
    np.testing.assert_array_equal(pix_to_face.cpu().numpy(), data["pix_to_face"])  # not one pixel of 40,960 differs
    # About twice what was measured in float32, ours and upstream's rounding together (docs/dropins/pytorch3d.md).
    most_zbuf, most_bary, most_grad = {
        "a": (1.6e-5, 1e-5, 8e-6),
        "b": (8e-5, 1.2e-4, 8e-5),
        "c": (1e-6, 2.4e-4, 1.1e-4),
    }[case]
    assert np.abs(zbuf - data["zbuf"]).max() <= most_zbuf
    assert np.abs(bary - data["bary"]).max() <= most_bary
    assert np.linalg.norm(grad - data["grad_face_verts"]) <= most_grad * np.linalg.norm(data["grad_face_verts"])
