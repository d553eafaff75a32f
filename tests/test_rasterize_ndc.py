"""rasterize_ndc against PyTorch3D's rules pixel by pixel, against the definition in plain torch, and its arguments."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from meshes import generator, scene, soup, to_ndc, topology
from ndc_rules import EPSILON, by_rule
from ndc_rules import soup as ndc_soup
from tolerances import assert_accurate, assert_same_bits, assert_same_faces

import focus_kernels as fk
from focus_kernels.ops.rasterize_ndc import ref

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
OPTIONS = [
    {"perspective_correct": perspective, "clip_barycentrics": clip, "cull_backfaces": cull}
    for perspective in (False, True)
    for clip in (False, True)
    for cull in (False, True)
]
ALL = pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(k for k, v in o.items() if v) or "plain")


def assert_rule(raster, b, corners, size, options):
    """float64: double rounding only; faces of an area near epsilon lose four digits to cancellation in their edges."""
    want = by_rule(corners, size, *options.values())
    got = [out[b].detach().cpu().numpy() for out in raster]
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1], rtol=1e-11)
    np.testing.assert_allclose(got[2], want[2], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(got[3], want[3], rtol=1e-9, atol=1e-13)
    return want[0]


@ALL
@pytest.mark.parametrize("size", [(8, 8), (5, 9), (11, 4)], ids=str)
def test_pixel_by_pixel(backend, size, options):
    verts = torch.stack([ndc_soup(seed, 12)[0] for seed in (size[0], 40 + size[0])])
    # in the second image two triangles, one of each winding, of areas near epsilon lie around a centre, in front
    x, y = to_ndc(torch.tensor([2.5, 2.5, 0.0]), size)[:2].tolist()
    around = torch.tensor([[0.0, 1.0], [-0.9, -0.4], [0.8, -0.6]], dtype=torch.float64)
    for first, shape in ((0, 1.5e-4 * around), (3, 1.1e-4 * around.flip(0))):
        verts[1, first : first + 3, :2] = torch.tensor([x, y]) + shape
        verts[1, first : first + 3, 2] = 0.2 + 0.1 * torch.rand(3, generator=generator(first), dtype=torch.float64)
    mesh = topology(torch.arange(36).view(-1, 3), 36, backend.device)
    raster = fk.rasterize_ndc(verts.to(backend.device), mesh, size, **options)
    seen = [assert_rule(raster, b, verts[b].view(-1, 3, 3).numpy(), size, options) for b in (0, 1)]
    assert (seen[0] >= 0).any() and seen[1][2, 2] in (0, 1)


@ALL
def test_near_depths_clamp_the_perspective_denominator(backend, options):
    """One face: upstream's product of three depths is below its 1e-8, and clipping's 1e-5 is reached too."""
    for scale in (1e-3, 2e-5, 3e-7):
        verts = torch.tensor([[0.9, -0.8, 1.0], [-0.9, -0.7, 2.0], [0.1, 0.9, 1.5]], dtype=torch.float64)
        verts[:, 2] *= scale
        mesh = topology([[0, 1, 2]] if options["cull_backfaces"] else [[0, 2, 1]], 3, backend.device)
        raster = fk.rasterize_ndc(verts[None].to(backend.device), mesh, (6, 6), **options)
        seen = assert_rule(raster, 0, verts[mesh.faces.cpu().long()].numpy(), (6, 6), options)
        assert (seen == 0).any()


@DTYPES
@pytest.mark.parametrize("options", OPTIONS[::2], ids=["affine", "affine-clip", "perspective", "perspective-clip"])
def test_matches_ref_on_a_mesh(kernel, dtype, options):
    size = (70, 91)
    ball = scene(5, 2, 20, size)
    positions = fk.Camera(ball["K"], ball["R"], ball["t"]).project(ball["vertices"])
    compare(kernel, to_ndc(positions, size).float(), topology(ball["faces"], positions.shape[1]), size, dtype, options)


@DTYPES
@pytest.mark.parametrize("seed", range(10))
def test_matches_ref_on_soups(kernel, dtype, seed):
    """Every kind of trouble, all options, several shapes."""
    g = generator(seed)
    pick = lambda *choices: choices[int(torch.randint(len(choices), (1,), generator=g))]
    size = pick((17, 23), (1, 31), (40, 1), (32, 32))
    F = pick(1, 40, 300)
    positions, faces = soup(seed, 2, F, size, scale=pick(0.1, 0.6, 3.0))
    grid = pick(None, 0.5, 1 / 16)
    if grid is not None:
        positions[..., :2] = (positions[..., :2] / grid).round() * grid
    positions = to_ndc(positions, size)
    trouble = torch.tensor([torch.nan, torch.inf, -torch.inf, 0, -3, 1e30, 2.0**23, 1e-8, 1e-9, 0.5])
    wild = torch.rand(positions.shape, generator=g) < 0.02
    positions[wild] = trouble.double()[torch.randint(len(trouble), (int(wild.sum()),), generator=g)]
    faces = torch.cat([faces, torch.randint(3 * F, (F // 4, 3), generator=g), faces[: F // 8]])
    compare(kernel, positions.float(), topology(faces, 3 * F), size, dtype, pick(*OPTIONS))


def compare(kernel, positions, mesh, size, dtype, options):
    """A kernel with the definition: equal faces, and values and gradients as exact as those of plain torch."""
    perspective, clip, cull = options.values()
    given = positions.to(kernel.device, dtype).requires_grad_()
    got = fk.rasterize_ndc(given, mesh.to(kernel.device), size, **options)
    want = ref.forward(positions.to(dtype), mesh.faces, *size, 0 if cull else 2, perspective, clip)[0]
    index = got.face_index.cpu()
    # Coverage of the positions in pixels is exact; depths are rounded, here a dozen times.
    pixels = ref._in_pixels(positions.to(dtype), *size).double()
    eps = torch.finfo(dtype).eps
    agree = assert_same_faces(index, want, pixels, mesh.faces, perspective=perspective, edge=0, depth=12 * eps)
    assert agree.double().mean() > 0.99
    covered = index >= 0
    assert all((out.detach().cpu()[~covered] == -1).all() for out in got)

    g = generator(1)
    cotangents = [torch.randn(out.shape, generator=g, dtype=torch.float64) for out in got[1:]]
    grad = torch.autograd.grad(got[1:], given, [c.to(out) for c, out in zip(cotangents, got[1:], strict=True)])[0].cpu()
    masks = [covered, covered[..., None], covered]
    results = {}
    for precision in (torch.float32, torch.float64):
        leaf = positions.to(precision).requires_grad_()
        outs = ref._at_pixels(ref._in_pixels(leaf, *size), mesh.faces, index, perspective, clip)
        outs = [torch.where(mask, out, -1) for mask, out in zip(masks, outs, strict=True)]
        results[precision] = [*outs, *torch.autograd.grad(outs, leaf, [c.to(precision) for c in cotangents])]
    for what, value, near, true in zip(
        ("depth", "barycentrics", "distances", "gradient"), (*got[1:], grad), *results.values(), strict=True
    ):
        assert_accurate(value.detach().cpu(), near.detach(), true.detach(), what)


def shoelace(corners):
    (ax, ay), (bx, by), (cx, cy) = ([Fraction(v) for v in corner[:2]] for corner in corners)
    return (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)


@DTYPES
def test_least_area_is_decided_in_float64(backend, dtype):
    """Images of one triangle each around a centre, their doubled areas within a hundredth of the threshold."""
    g = generator(3)
    size, B = (4, 4), 400
    around = torch.randn(B, 3, 2, generator=g, dtype=torch.float64)
    around -= around.mean(1, keepdim=True)
    area = torch.linalg.det(around[:, 1:] - around[:, :1]).abs()
    wanted = 4 * EPSILON * (1 + 0.02 * (torch.rand(B, generator=g, dtype=torch.float64) - 0.5))  # px^2
    xy = 1.5 + around * (wanted / area).sqrt()[:, None, None]
    pixels = torch.cat([xy, torch.ones(B, 3, 1)], -1)
    positions = to_ndc(pixels, size).to(backend.device, dtype)
    seen = fk.rasterize_ndc(positions, topology([[0, 1, 2]], 3, backend.device), size).face_index[:, 1, 1] == 0
    corners = ref._in_pixels(positions.cpu(), *size).tolist()
    # float32 rounds the corners such that the centre may lie outside
    inside = fk.rasterize(
        torch.tensor(corners, dtype=dtype), topology([[0, 1, 2]], 3), size, coverage="strict", cull=None
    )
    inside = inside.face_index[:, 1, 1] == 0
    large = torch.tensor([float(abs(shoelace(c))) > EPSILON * (size[0] / 2) ** 2 for c in corners])
    assert torch.equal(seen.cpu(), inside & large)
    assert 50 < (inside & large).sum() < 350 and (inside & ~large).sum() > 50


@DTYPES
def test_bias_of_small_areas(backend, dtype):
    """Corners that are exact in float32: the doubled area A is 1.5e-8 and more, the weights sum to A / (A + 1e-8)."""
    mesh = topology([[0, 1, 2]], 3, backend.device)
    for steps in (1, 2, 5, 40):
        x, y = steps * 2.0**-13, 2.0**-13
        for turn in (1, -1):
            verts = torch.tensor([[0.0, 0.0, 2.0], [turn * x, 0.0, 2.0], [0.0, y, 2.0]], dtype=torch.float64)
            verts[:, :2] -= torch.tensor([turn * x / 4, y / 4])
            A = -turn * x * y
            raster = fk.rasterize_ndc(verts[None].to(backend.device, dtype), mesh, (1, 1))
            expected = A / (A + EPSILON)
            tolerance = 64 * torch.finfo(dtype).eps
            assert abs(raster.barycentrics.sum().item() / expected - 1) < tolerance
            assert abs(raster.depth.item() / (2 * expected) - 1) < tolerance


@DTYPES
def test_biased_depths_decide(backend, dtype):
    """A small face behind, whose bias lowers its depth to three quarters, is in front of a large one."""
    small = (3 * EPSILON) ** 0.5 * torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]) - 3e-5
    large = torch.tensor([[0.9, -0.9], [-0.9, -0.9], [0.0, 0.9]])
    verts = torch.cat([torch.cat([large, small]), torch.tensor([1.0, 1, 1, 1.2, 1.2, 1.2])[:, None]], 1)
    verts, mesh = verts[None].to(backend.device, dtype), topology([[0, 1, 2], [3, 4, 5]], 6, backend.device)
    for options, face in (({}, 1), ({"perspective_correct": True}, 0), ({"clip_barycentrics": True}, 0)):
        assert fk.rasterize_ndc(verts, mesh, (3, 3), **options).face_index[0, 1, 1] == face


@DTYPES
def test_edges_belong_to_no_face(backend, dtype):
    # two triangles share the diagonal of the image, which passes through the pixel centres
    verts = torch.tensor([[-1.0, -1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]], dtype=dtype)
    mesh = topology([[0, 1, 2], [0, 2, 3]], 4, backend.device)
    index = fk.rasterize_ndc(verts[None].to(backend.device), mesh, (8, 8)).face_index[0].cpu()
    assert torch.equal(index < 0, torch.eye(8, dtype=torch.bool))


@DTYPES
def test_of_equal_depths_the_lowest_index_is_seen(backend, dtype):
    verts = torch.tensor([[0.9, -0.9, 2.0], [-0.9, -0.9, 3.0], [0.0, 0.9, 2.5]], dtype=dtype)
    mesh = topology([[0, 1, 2]] * 20, 3, backend.device)
    for options in OPTIONS[::2]:
        index = fk.rasterize_ndc(verts[None].to(backend.device), mesh, (9, 9), **options).face_index
        assert set(index.unique().tolist()) == {-1, 0}


@DTYPES
@ALL
def test_dropped_faces_have_no_gradient(backend, dtype, options):
    good = torch.tensor([[-0.9, -0.9, 2.0], [0.9, -0.9, 2.0], [0.0, 0.9, 2.0]], dtype=dtype).flip(0)
    partly = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
    bad = [
        good * torch.tensor(by, dtype=dtype) for by in ([1, 1, -0.5], [1, 1, 1e-9], [1e-8, 0.5, 0.5], [1e30, 1e30, 0.5])
    ]
    bad += [good - partly, torch.where(good == 0, torch.nan, good), torch.where(good == 0, torch.inf, good)]
    verts = torch.stack([torch.cat([corners, good]) for corners in bad]).to(backend.device).requires_grad_()
    raster = fk.rasterize_ndc(verts, topology([[0, 1, 2], [3, 4, 5]], 6, backend.device), (16, 16), **options)
    assert all(set(index.unique().tolist()) == {-1, 1} for index in raster.face_index)
    sum((out * 1.5).sum() for out in raster[1:]).backward()
    assert not verts.grad[:, :3].any() and verts.grad[:, 3:].isfinite().all()
    assert verts.grad[:, 3:].flatten(1).any(1).all()


@pytest.mark.parametrize("options", OPTIONS[::2], ids=["affine", "affine-clip", "perspective", "perspective-clip"])
@pytest.mark.parametrize("depth", [1.0, 1e-4], ids=["far", "clamped"])
def test_gradcheck(backend, options, depth):
    verts, faces = ndc_soup(7, 3)
    tiny = torch.tensor([[1e-4, 0.0, 0.5], [-1e-4, 2e-4, 0.6], [-1e-4, -2e-4, 0.7]], dtype=torch.float64)
    verts, faces = torch.cat([verts, tiny]), torch.cat([faces, torch.tensor([[9, 10, 11]])])
    verts[:, 2] *= depth
    mesh = topology(faces, 12, backend.device)
    verts = verts[None].to(backend.device).requires_grad_()

    def render(verts):
        raster = fk.rasterize_ndc(verts, mesh, (5, 5), **options)
        assert (raster.face_index == 3).any()
        return raster[1:]

    # the step is small beside the tiny triangle (1e-4), whose derivatives reach 1e4
    assert torch.autograd.gradcheck(render, (verts,), eps=1e-10, atol=2e-4, rtol=1e-3)


def test_outputs_without_a_gradient(backend):
    verts, faces = ndc_soup(7, 6)
    verts = verts[None].to(backend.device).requires_grad_()
    raster = fk.rasterize_ndc(verts, topology(faces, 18, backend.device), (6, 7))
    assert not raster.face_index.requires_grad
    for k in (1, 2, 3):
        one = torch.autograd.grad(raster[k].sum(), verts, retain_graph=True)[0]
        others = sum(out.sum() * 0 for out in raster[1:])
        with_zeros = torch.autograd.grad(raster[k].sum() + others, verts, retain_graph=True)[0]
        assert one.any()
        torch.testing.assert_close(one, with_zeros)


@pytest.mark.parametrize("F", [0, 1, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)], ids=str)
def test_smallest_sizes(backend, F, size):
    positions, faces = soup(7, 2, F, size, scale=3.0)
    if F:
        positions[:, :3, :2] = torch.tensor([[-60.0, -61], [100, -60], [-60, 100]])  # covers any of the sizes
    given = to_ndc(positions, size).to(backend.device).requires_grad_()
    raster = fk.rasterize_ndc(given, topology(faces, 3 * F, backend.device), size)
    assert raster.face_index.shape == raster.depth.shape == raster.distances.shape == (2, *size)
    assert (raster.face_index >= 0).any() == (F > 0)
    sum(out.sum() for out in raster[1:]).backward()
    assert given.grad.shape == given.shape and given.grad.isfinite().all()


def test_instruction_sets_and_stripes_give_the_same_bits(kernel, threads, instruction_sets):
    from focus_kernels._extension import _C

    size = (64, 61)
    ball = scene(6, 2, 30, size)
    verts = to_ndc(fk.Camera(ball["K"], ball["R"], ball["t"]).project(ball["vertices"]), size).float()
    verts[:, ::7, :2] = verts[:, ::7, :2].round()  # slivers and large faces
    mesh, given = topology(ball["faces"], verts.shape[1], kernel.device), verts.to(kernel.device)
    for options in OPTIONS:
        want = None
        for name in instruction_sets:
            _C.set_cpu_isa(name)
            for count in (1, 5):
                threads(count)
                got = fk.rasterize_ndc(given, mesh, size, **options)
                want = want or got
                for one, other in zip(got, want, strict=True):
                    assert_same_bits(one, other, f"{name}, {count} threads")


ERRORS = [
    ({"positions": None}, TypeError, "positions to be a torch.Tensor, got NoneType"),
    ({"positions": torch.zeros(1, 3, 3).half()}, TypeError, "positions to be float32 or float64, got float16"),
    ({"positions": torch.zeros(1, 4, 3)}, ValueError, r"positions to be shape \[\*, 3, 3\], got \[1, 4, 3\]"),
    ({"positions": torch.zeros(1, 3, 3, device="meta")}, ValueError, "topology to be on meta as positions, got cpu"),
    ({"topology": torch.zeros(1, 3)}, TypeError, "topology to be a focus_kernels.Topology, got Tensor"),
    ({"size": 5}, TypeError, r"size to be a pair \(H, W\) of ints, got int"),
    ({"size": (0, 5)}, ValueError, r"size to be in \[1, 8388608\], got 0"),
    ({"perspective_correct": 1}, TypeError, "perspective_correct to be a bool, got int"),
    ({"clip_barycentrics": None}, TypeError, "clip_barycentrics to be a bool, got NoneType"),
    ({"cull_backfaces": "back"}, TypeError, "cull_backfaces to be a bool, got str"),
]


@pytest.mark.parametrize("change, kind, message", ERRORS)
def test_errors(change, kind, message):
    arguments = {"positions": torch.zeros(1, 3, 3), "topology": topology([[0, 1, 2]], 3), "size": (5, 5), **change}
    with pytest.raises(kind, match=r"rasterize_ndc\(\): expected " + message):
        fk.rasterize_ndc(**arguments)
