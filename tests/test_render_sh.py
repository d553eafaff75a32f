"""render_sh against the composition of the other ops, with hostile inputs, and its arguments."""

import pytest
import torch
from meshes import cast, generator, scene, topology
from tolerances import assert_accurate, assert_same_bits, assert_same_faces

import focus_kernels as fk
from focus_kernels import _backends
from focus_kernels.ops.interpolate import ref as interpolate_ref
from focus_kernels.ops.rasterize import ref as rasterize_ref
from focus_kernels.ops.shade_sh import ref as shade_ref
from focus_kernels.ops.vertex_normals import ref as normals_ref

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
MODES = {
    "default": {},
    "orthographic": {"orthographic": True},
    "focus": {"normals": "focus", "perspective_correct": False, "coverage": "inclusive"},
    "inside_out": {"cull": "front", "tie": "highest", "coverage": "strict"},
    "affine": {"cull": None, "perspective_correct": False},
}
MODE = pytest.mark.parametrize("mode", MODES)
NAMES = ("vertices", "albedo", "sh_coeffs", "K", "R", "t")


def prepared(mode, size, B, rings, dtype, device):
    """Inputs as leaves, the mesh, and the options of render_sh for a mode."""
    options = dict(MODES[mode])
    orthographic = options.pop("orthographic", False)
    tensors = scene(17, B, rings, size, orthographic)
    mesh = topology(tensors.pop("faces"), tensors["vertices"].shape[1], device)
    return cast(cast(tensors, torch.float32, device), dtype, device, grad=True), mesh, orthographic, options


def render(inputs, mesh, size, orthographic, **options):
    camera = fk.Camera(inputs["K"], inputs["R"], inputs["t"], orthographic=orthographic)
    return fk.render_sh(inputs["vertices"], inputs["albedo"], inputs["sh_coeffs"], mesh, camera, size, **options)


def composed(inputs, mesh, size, orthographic, **options):
    """The same from the unfused ops."""
    normals = options.pop("normals", "unit")
    options.setdefault("perspective_correct", not orthographic)
    camera = fk.Camera(inputs["K"], inputs["R"], inputs["t"], orthographic=orthographic)
    positions = camera.project(inputs["vertices"])
    directions = fk.vertex_normals(inputs["vertices"], mesh, normalize=normals == "unit")
    turned = (camera.R[:, None] @ directions[..., None])[..., 0]
    colors = fk.shade_sh(turned, inputs["albedo"], inputs["sh_coeffs"], convention=normals)
    raster = fk.rasterize(positions, mesh, size, **options)
    image = fk.interpolate(colors, raster, mesh)
    return fk.Render(image, (raster.face_index >= 0).to(image)[:, None], raster, positions)


def gradients(render, inputs, seed=0):
    outputs = (render.image, render.raster.barycentrics, render.raster.depth, render.positions)
    draw = lambda out, k: torch.randn(out.shape, generator=generator(seed + k), dtype=torch.float64).to(out)
    cotangents = [draw(out, k) for k, out in enumerate(outputs)]
    return torch.autograd.grad(outputs, [inputs[name] for name in NAMES], cotangents)


@MODE
def test_is_the_composition_of_the_other_ops(backend, mode):
    """In float64, where rounding flips no face: outputs and gradients, to what twice the roundings may differ."""
    size = (38, 45)
    inputs, mesh, orthographic, options = prepared(mode, size, 2, 10, torch.float64, backend.device)
    one = render(inputs, mesh, size, orthographic, **options)
    other = composed(inputs, mesh, size, orthographic, **options)
    assert_same_bits(one.raster.face_index, other.raster.face_index)
    assert_same_bits(one.mask, other.mask)
    assert one.mask.mean() > 0.3 and not one.mask.requires_grad
    for got, want in (
        (one.image, other.image),
        (one.positions, other.positions),
        *zip(one.raster[1:], other.raster[1:], strict=True),
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12 * float(want.abs().max()))
    for name, got, want in zip(NAMES, gradients(one, inputs), gradients(other, inputs), strict=True):
        torch.testing.assert_close(
            got, want, rtol=0, atol=1e-11 * float(want.abs().max()), msg=lambda m, n=name: f"{n}: {m}"
        )


@MODE
@DTYPES
def test_matches_ref_on_a_mesh(kernel, dtype, mode, monkeypatch):
    """Faces may flip where the projection rounds; elsewhere values are as exact as those of plain torch."""
    size = (90, 101)
    inputs, mesh, orthographic, options = prepared(mode, size, 2, 20, dtype, kernel.device)
    got = render(inputs, mesh, size, orthographic, **options)
    wide = cast(inputs, torch.float64, "cpu", grad=True)
    with monkeypatch.context() as patch:
        patch.setattr(_backends, "FORCED", "ref")
        want = render(wide, mesh.to("cpu"), size, orthographic, **options)
    perspective = options.get("perspective_correct", not orthographic)
    # Positions up to 101 px and depths of 1000 mm carry a few roundings each.
    eps = torch.finfo(dtype).eps
    index = got.raster.face_index.cpu()
    faces = mesh.faces.cpu()
    agree = assert_same_faces(
        index,
        want.raster.face_index,
        want.positions.detach(),
        faces,
        perspective=perspective,
        edge=512 * eps,
        depth=32 * eps,
    )
    assert agree.double().mean() > 0.999
    grads = gradients(got, inputs)

    focus = options.get("normals") == "focus"
    results = {}
    for precision in (torch.float32, torch.float64):
        leaf = cast(inputs, precision, "cpu", grad=True)
        camera = fk.Camera(leaf["K"], leaf["R"], leaf["t"], orthographic=orthographic)
        positions = camera.project(leaf["vertices"])
        normals = normals_ref.forward(leaf["vertices"], faces, *(None, None), not focus)
        colors = shade_ref.forward(
            (leaf["R"][:, None] * normals[:, :, None]).sum(-1), leaf["albedo"], leaf["sh_coeffs"], focus
        )
        bary, depth = rasterize_ref.at_pixels(positions, faces, index, perspective)
        image = interpolate_ref.forward(colors, faces, index, bary)
        drawn = fk.Render(image, None, fk.Raster(index, bary, depth), positions)
        results[precision] = [image, bary, depth, positions, *gradients(drawn, leaf)]
    values = [got.image, *got.raster[1:], got.positions, *grads]
    whats = ["image", "barycentrics", "depth", "positions", *(f"grad_{name}" for name in NAMES)]
    for what, value, near, true in zip(whats, values, *results.values(), strict=True):
        assert_accurate(value.detach().cpu(), near.detach(), true.detach(), what)


@MODE
@DTYPES
def test_same_bits_for_any_number_of_threads(kernel, dtype, threads, mode):
    size = (61, 83)
    inputs, mesh, orthographic, options = prepared(mode, size, 3, 30, dtype, kernel.device)
    first = None
    for count in (1, 2, 3, 1):
        threads(count)
        out = render(inputs, mesh, size, orthographic, **options)
        tensors = (out.image, out.mask, *out.raster, out.positions)
        result = [tensor.detach() for tensor in tensors] + list(gradients(out, inputs))
        first = first or result
        for one, other in zip(result, first, strict=True):
            assert_same_bits(one, other, f"{count} threads")


@pytest.mark.parametrize("kind", ["color", "image", "batch"])
def test_background(backend, kind):
    size = (20, 24)
    inputs, mesh, orthographic, _ = prepared("default", size, 2, 6, torch.float64, backend.device)
    black = render(inputs, mesh, size, orthographic)
    assert_same_bits(black.image.detach() * (1 - black.mask), torch.zeros_like(black.image))
    shape = {"color": (3,), "image": (3, *size), "batch": (2, 3, *size)}[kind]
    background = torch.rand(shape, generator=generator(0), dtype=torch.float64).to(backend.device).requires_grad_()
    image = render(inputs, mesh, size, orthographic, background=background).image
    wide = (background[:, None, None] if kind == "color" else background).expand(2, 3, *size)
    assert_same_bits(image.detach(), torch.where(black.mask > 0, black.image, wide).detach())
    grad = torch.autograd.grad(image.sum(), background)[0]
    outside = (1 - black.mask).expand(2, 3, *size)
    want = outside if kind == "batch" else outside.sum(0) if kind == "image" else outside.sum((0, 2, 3))
    torch.testing.assert_close(grad, want)


@DTYPES
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e30, "behind", "eye"])
def test_bad_vertices_spoil_only_themselves(backend, dtype, bad):
    """One vertex is not finite, or far behind, or in the eye itself: its faces vanish, nothing else becomes NaN."""
    size = (30, 30)
    inputs, mesh, orthographic, _ = prepared("default", size, 2, 8, dtype, backend.device)
    with torch.no_grad():  # a camera whose eye is exactly at (0, 0, 1000)
        inputs["R"][0] = torch.diag(torch.tensor([1.0, -1, -1]))
        inputs["t"][0] = torch.tensor([0.0, 0, 1000])
    clean = render(inputs, mesh, size, orthographic)
    victim = int(mesh.faces[clean.raster.face_index[0, 15, 15].long()][0])
    vertices = inputs["vertices"].detach().clone()
    if bad in ("eye", "behind"):
        vertices[0, victim] = torch.tensor([0.0, 0, 1000 if bad == "eye" else 2000])
    else:
        vertices[0, victim, 1] = bad
    inputs["vertices"] = vertices.requires_grad_()
    out = render(inputs, mesh, size, orthographic)
    gone = (mesh.faces == victim).any(1).nonzero()[:, 0].int()
    assert torch.isin(clean.raster.face_index[0], gone).any() and not torch.isin(out.raster.face_index[0], gone).any()
    assert out.image.isfinite().all() and out.raster.depth.isfinite().all() and out.raster.barycentrics.isfinite().all()
    assert_same_bits(out.image[1].detach(), clean.image[1].detach())
    # Only what a user gets from pictures: positions of such a vertex may be infinite themselves.
    total = out.image.sum() + out.raster.depth.sum() + (out.raster.barycentrics**2).sum()
    for name, grad in zip(NAMES, torch.autograd.grad(total, [inputs[name] for name in NAMES]), strict=True):
        assert grad.isfinite().all(), name
        if name == "vertices" and bad in (torch.nan, torch.inf):
            assert grad[0, victim].eq(0).all()
    # And a loss on all positions that are finite leaves the camera's gradient finite.
    out = render(inputs, mesh, size, orthographic)
    loss = torch.where(out.positions.isfinite(), out.positions, 0).sum()
    for name, grad in zip("KRt", torch.autograd.grad(loss, [inputs[name] for name in "KRt"]), strict=True):
        assert grad.isfinite().all(), name


def test_unseen_vertices_have_no_gradient(backend):
    """The far side of a ball, and a small ball behind it, get exactly zero from the picture."""
    size = (30, 30)
    inputs, mesh, orthographic, _ = prepared("default", size, 2, 8, torch.float64, backend.device)
    V = mesh.num_vertices
    small = inputs["vertices"].detach() * 0.2 - torch.tensor([0.0, 0, 300], device=backend.device)
    inputs["vertices"] = torch.cat([inputs["vertices"].detach(), small], 1).requires_grad_()
    inputs["albedo"] = torch.cat([inputs["albedo"].detach()] * 2, 1).requires_grad_()
    both = topology(torch.cat([mesh.faces, mesh.faces + V]).cpu(), 2 * V, backend.device)
    out = render(inputs, both, size, orthographic)
    assert out.raster.face_index.max() < mesh.num_faces
    grads = torch.autograd.grad(out.image.sum() + out.raster.depth.sum(), [inputs["vertices"], inputs["albedo"]])
    for b in range(2):
        faces = both.faces.long()
        seen = faces[out.raster.face_index[b].unique().clamp(min=0).long()].unique()
        unseen = torch.ones(2 * V, dtype=torch.bool, device=backend.device)
        unseen[seen] = False
        assert unseen[:V].any() and unseen[V:].all()
        assert grads[1][b, unseen].eq(0).all() and grads[1][b, seen].ne(0).any()
        # Normals reach one ring further than what is seen.
        ring = faces[torch.isin(faces, seen).any(1)].unique()
        unseen[ring] = False
        assert grads[0][b, unseen].eq(0).all() and unseen[V:].all()


def test_one_camera_for_the_batch(backend):
    """K, R and t with batch 1 are the same as repeated ones, and their gradient is the sum."""
    size = (20, 24)
    inputs, mesh, orthographic, _ = prepared("default", size, 3, 6, torch.float64, backend.device)
    shared = {name: inputs[name][:1].detach().requires_grad_() for name in "KRt"}
    repeated = {
        name: shared[name].detach().expand(3, *shared[name].shape[1:]).clone().requires_grad_() for name in "KRt"
    }
    one = render({**inputs, **shared}, mesh, size, orthographic)
    many = render({**inputs, **repeated}, mesh, size, orthographic)
    assert_same_bits(one.image.detach(), many.image.detach())
    got = gradients(one, {**inputs, **shared})
    want = gradients(many, {**inputs, **repeated})
    for name, a, b in zip(NAMES, got, want, strict=True):
        torch.testing.assert_close(a, b.sum(0, keepdim=True) if name in "KRt" else b)


@pytest.mark.parametrize("needed", NAMES)
def test_each_input_alone_may_need_the_gradient(backend, needed):
    size = (12, 12)
    inputs, mesh, orthographic, _ = prepared("default", size, 1, 4, torch.float64, backend.device)
    full = torch.autograd.grad(render(inputs, mesh, size, orthographic).image.sum(), inputs[needed])[0]
    alone = {name: value.detach() for name, value in inputs.items()}
    alone[needed].requires_grad_()
    torch.testing.assert_close(
        torch.autograd.grad(render(alone, mesh, size, orthographic).image.sum(), alone[needed])[0], full
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 12), (12, 1)], ids=str)
def test_smallest_sizes(backend, size):
    inputs, mesh, orthographic, _ = prepared("default", (12, 12), 2, 4, torch.float32, backend.device)
    out = render(inputs, mesh, size, orthographic)
    assert out.image.shape == (2, 3, *size) and out.mask.shape == (2, 1, *size)
    assert all(grad.isfinite().all() for grad in gradients(out, inputs))


@pytest.mark.parametrize("V", [0, 5])
def test_no_faces(backend, V):
    inputs, _, _, _ = prepared("default", (4, 5), 2, 4, torch.float32, backend.device)
    inputs["vertices"], inputs["albedo"] = (inputs[n][:, :V].detach().requires_grad_() for n in ("vertices", "albedo"))
    out = render(inputs, topology(torch.zeros(0, 3).long(), V, backend.device), (4, 5), False)
    assert out.image.eq(0).all() and out.mask.eq(0).all() and out.positions.shape == (2, V, 3)
    grads = torch.autograd.grad(out.image.sum() + out.raster.depth.sum(), [inputs[n] for n in NAMES], allow_unused=True)
    assert all(grad is None or grad.eq(0).all() for grad in grads)


def arguments(**change):
    eye = torch.eye(3)[None]
    values = {"vertices": torch.zeros(2, 3, 3), "albedo": torch.zeros(2, 3, 3), "sh_coeffs": torch.zeros(2, 3, 9)}
    values |= {"topology": topology([[0, 1, 2]], 3), "camera": fk.Camera(eye, eye, torch.zeros(1, 3)), "size": (4, 5)}
    return values | change


EYES = torch.eye(3).expand(3, 3, 3)
ERRORS = [
    ({"vertices": "face"}, TypeError, "vertices to be a torch.Tensor, got str"),
    ({"vertices": torch.zeros(2, 4, 3)}, ValueError, r"vertices to be shape \[\*, 3, 3\], got \[2, 4, 3\]"),
    ({"albedo": torch.zeros(1, 3, 3)}, ValueError, r"albedo to be shape \[2, 3, 3\], got \[1, 3, 3\]"),
    ({"albedo": torch.zeros(2, 3, 3).double()}, TypeError, "albedo to be float32 as vertices, got float64"),
    ({"sh_coeffs": torch.zeros(2, 27)}, ValueError, r"sh_coeffs to be shape \[2, 3, 9\], got \[2, 27\]"),
    ({"topology": None}, TypeError, "topology to be a focus_kernels.Topology, got NoneType"),
    ({"camera": EYES}, TypeError, "camera to be a focus_kernels.Camera, got Tensor"),
    (
        {"camera": fk.Camera(EYES, EYES, torch.zeros(1, 3))},
        ValueError,
        "camera.K to be a batch of 1 or 2 as vertices, got 3",
    ),
    (
        {"camera": fk.Camera(EYES[:1].double(), EYES[:1].double(), torch.zeros(1, 3).double())},
        TypeError,
        "camera.K to be float32 as vertices, got float64",
    ),
    ({"size": (4, 0)}, ValueError, r"size to be in \[1, 8388608\], got 0"),
    ({"normals": "mean"}, ValueError, "normals to be one of 'unit', 'focus', got 'mean'"),
    ({"coverage": "loose"}, ValueError, "coverage to be one of 'top_left', 'inclusive', 'strict', got 'loose'"),
    ({"cull": "all"}, ValueError, "cull to be one of 'back', 'front', None, got 'all'"),
    ({"tie": "first"}, ValueError, "tie to be one of 'lowest', 'highest', got 'first'"),
    ({"perspective_correct": "yes"}, TypeError, "perspective_correct to be a bool, got str"),
    ({"background": 0.5}, TypeError, "background to be a torch.Tensor, got float"),
    ({"background": torch.zeros(4)}, ValueError, r"background to be shape \[3\], got \[4\]"),
    ({"background": torch.zeros(3, 5, 4)}, ValueError, r"background to be shape \[3, 4, 5\], got \[3, 5, 4\]"),
    ({"background": torch.zeros(1, 3, 4, 5)}, ValueError, r"background to be shape \[2, 3, 4, 5\], got \[1, 3, 4, 5\]"),
    ({"background": torch.zeros(3).double()}, TypeError, "background to be float32 as vertices, got float64"),
]


@pytest.mark.parametrize("change, kind, message", ERRORS)
def test_errors(change, kind, message):
    with pytest.raises(kind, match=r"render_sh\(\): expected " + message):
        fk.render_sh(**arguments(**change))
