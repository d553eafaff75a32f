"""`compat.focus.Renderer` against the FOCUS authors' own answers, and against their rules written out in float64."""

import copy
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from focus_kernels import Camera, Topology, render_sh, shade_sh, vertex_normals
from focus_kernels.compat.focus import RASTERIZE_DIFFERENTIABLE_IMAGE, RASTERIZE_IMAGE, SAMPLE_IMAGE, Renderer

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "focus_renderer_a.npz"
SH = [0.282095, 0.488603, 0.488603, 0.488603, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274]


def rotation(angles):
    a, b, c = np.cos(angles)
    p, q, r = np.sin(angles)
    rx = np.array([[1, 0, 0], [0, a, -p], [0, p, a]])
    ry = np.array([[b, 0, q], [0, 1, 0], [-q, 0, b]])
    rz = np.array([[c, -r, 0], [r, c, 0], [0, 0, 1]])
    return np.diag([1.0, -1.0, -1.0]) @ rx @ ry @ rz


def scene(batch=2, size=(20, 26), seed=0):
    """A lumpy octahedron, subdivided once, 100 mm wide, 1 m away; every tensor float64."""
    rng = np.random.default_rng(seed)
    points = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    points = [np.array(p, float) for p in points]
    coarse = [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)]
    middle, faces = {}, []

    def between(i, j):
        key = (min(i, j), max(i, j))
        if key not in middle:
            middle[key] = len(points)
            points.append((points[i] + points[j]) / np.linalg.norm(points[i] + points[j]))
        return middle[key]

    for i, j, k in coarse:
        ij, jk, ki = between(i, j), between(j, k), between(k, i)
        faces += [(i, ij, ki), (ij, j, jk), (ki, jk, k), (ij, jk, ki)]
    vertex = np.array(points)[None] * (50 + 6 * rng.standard_normal((batch, len(points), 1)))
    height, width = size
    focal = 14.0 * min(size) / 2
    arrays = {
        "face": np.array(faces).T,
        "vertex": vertex.transpose(0, 2, 1),
        "color": rng.uniform(0.2, 1, (batch, 3, len(points))),
        "sh_coef": rng.standard_normal((batch, 27)),
        "A": np.array([[[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]]),
        "R": np.stack([rotation(0.4 * rng.standard_normal(3)) for _ in range(batch)]),
        "T": np.array([0, 0, 1000.0])[None, :, None] + 5 * rng.standard_normal((batch, 3, 1)),
        "image": rng.uniform(0, 1, (batch, 3, *size)),
    }
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}


def edge(p, a, b):
    return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])


def by_rule(inputs, b, rotate_normal):
    """Image b by upstream's formulas, one face and one pixel at a time: projected, shaded, image, mask."""
    a = {name: value.numpy() for name, value in inputs.items()}
    faces, vertex, color = a["face"].T, a["vertex"][b].T, a["color"][b].T
    R, T, K = a["R"][b], a["T"][b][:, 0], a["A"][0]
    height, width = a["image"].shape[2:]

    camera = vertex @ R.T + T
    pixels = camera @ K.T
    projected = np.concatenate([pixels[:, :2] / pixels[:, 2:], pixels[:, 2:]], 1)

    total, weight = np.zeros_like(vertex), np.zeros(len(vertex))
    front = []
    for index, (i, j, k) in enumerate(faces):
        cross = np.cross(vertex[j] - vertex[i], vertex[k] - vertex[i])
        doubled = np.linalg.norm(cross)
        for corner in (i, j, k):
            total[corner] += cross / doubled * (doubled / 2)
            weight[corner] += doubled / 2
        if (vertex[i] + R.T @ T) @ cross < 0 and projected[[i, j, k], 2].min() > 0:
            front.append(index)
    normal = total / weight[:, None]
    if rotate_normal:
        normal = normal @ R.T
    theta, phi = np.arccos(normal[:, 2]), np.arctan2(normal[:, 1], normal[:, 0])
    x, y, z = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)
    basis = [np.ones_like(x), -y, z, -x, x * y, -y * z, 3 * z * z - 1, -x * z, x * x - y * y]
    light = np.stack([c * f for c, f in zip(SH, basis, strict=True)], 1) @ a["sh_coef"][b].reshape(3, 9).T
    shaded = light * color

    image, mask = np.zeros((3, height, width)), np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            p, nearest = (column, row), np.inf
            for index in front:
                v = projected[faces[index]]
                w = np.array([edge(p, v[1], v[2]), edge(p, v[2], v[0]), edge(p, v[0], v[1])])
                w = w / w.sum()
                if (w >= 0).all() and w @ v[:, 2] < nearest:
                    nearest = w @ v[:, 2]
                    image[:, row, column], mask[row, column] = w @ shaded[faces[index]], 1
    return projected.T, shaded.T, image, mask


@pytest.mark.parametrize("rotate_normal", [True, False])
@pytest.mark.parametrize("mode", [RASTERIZE_IMAGE, RASTERIZE_DIFFERENTIABLE_IMAGE])
def test_rules_pixel_by_pixel(mode, rotate_normal):
    inputs = scene()
    projected, sampled, shaded, occlusion, image, mask = Renderer()(
        **inputs, render_mode=mode, rotate_normal=rotate_normal
    )
    assert sampled is None and occlusion is None
    for b in range(2):
        expected = by_rule(inputs, b, rotate_normal)
        assert 60 < expected[3].sum() < 400
        np.testing.assert_array_equal(mask[b].numpy(), expected[3])
        # float64 rounding for the geometry; the printed SH constants have six digits
        np.testing.assert_allclose(projected[b].numpy(), expected[0], rtol=1e-13)
        np.testing.assert_allclose(shaded[b].numpy(), expected[1], rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(image[b].numpy(), expected[2], rtol=2e-6, atol=1e-6)


def test_gradcheck():
    inputs = scene(batch=1, size=(9, 11))
    names = ("vertex", "color", "sh_coef", "A", "R", "T")
    leaves = [inputs[name].clone().requires_grad_() for name in names]
    renderer = Renderer()

    def render(*values):
        out = renderer(**{**inputs, **dict(zip(names, values, strict=True))}, render_mode=2)
        return out[0], out[2], out[4]

    assert torch.autograd.gradcheck(render, leaves, eps=1e-6, atol=1e-5, fast_mode=True)


def test_modes_fill_what_upstream_fills():
    inputs = scene()
    inputs["vertex"].requires_grad_()
    filled = {
        SAMPLE_IMAGE: (True, True, True, True, False, False),
        RASTERIZE_IMAGE: (True, False, True, False, True, True),
        RASTERIZE_DIFFERENTIABLE_IMAGE: (True, False, True, False, True, True),
    }
    for mode, expected in filled.items():
        renderer = Renderer()
        assert renderer.vertex_to_face is renderer.raster_net is renderer.diff_raster_net is renderer.ocl_net is None
        out = renderer(**inputs, render_mode=mode, self_occlusion=True)
        assert tuple(value is not None for value in out) == expected
        assert (renderer.ocl_net is not None) == (mode == SAMPLE_IMAGE)
        assert (renderer.raster_net is not None) == (mode == RASTERIZE_IMAGE)
        assert (renderer.diff_raster_net is not None) == (mode == RASTERIZE_DIFFERENTIABLE_IMAGE)
        assert not list(renderer.state_dict()) and not list(renderer.parameters()) and not list(renderer.buffers())
    assert out[4].requires_grad and not out[5].requires_grad
    assert out[5].shape == (2, 20, 26) and out[5].dtype == inputs["vertex"].dtype
    assert torch.equal(out[4][:, :, 0, 0], torch.zeros(2, 3, dtype=torch.float64))
    assert not Renderer()(**inputs, render_mode=RASTERIZE_IMAGE)[4].requires_grad


def test_signature():
    parameters = inspect.signature(Renderer.forward).parameters
    names = "self face vertex color sh_coef A R T image render_mode self_occlusion occlusion_th rotate_normal"
    assert list(parameters) == names.split()
    assert [p.default for p in parameters.values()][9:] == [SAMPLE_IMAGE, False, 5, True]
    assert inspect.signature(Renderer).parameters["block_size"].default == 32
    assert (SAMPLE_IMAGE, RASTERIZE_IMAGE, RASTERIZE_DIFFERENTIABLE_IMAGE) == (0, 1, 2)


def test_samples_the_projected_pixel():
    inputs = scene(batch=1, size=(20, 26))
    row, column = torch.meshgrid(torch.arange(20.0), torch.arange(26.0), indexing="ij")
    ramp = torch.stack([column, row, 2 * column - row])[None].double()
    projected, sampled, *_ = Renderer()(**{**inputs, "image": ramp})
    x, y = projected[0, 0], projected[0, 1]
    inside = (x >= 0) & (x <= 25) & (y >= 0) & (y <= 19)
    assert inside.sum() > 10
    torch.testing.assert_close(sampled[0][:, inside], torch.stack([x, y, 2 * x - y])[:, inside])
    far = inputs["T"] + torch.tensor([500.0, 0.0, 0.0], dtype=torch.float64)[:, None]
    assert not Renderer()(**{**inputs, "image": ramp, "T": far})[1].any()


def layers(gap):
    """Two squares that face the camera, the second `gap` mm behind and shifted right by 10 px."""
    square = torch.tensor([[5.2, 5.2], [24.7, 5.2], [24.7, 24.7], [5.2, 24.7]], dtype=torch.float64)
    points = torch.cat([square, square + torch.tensor([10.0, 0.0])])
    depth = torch.tensor([1000.0] * 4 + [1000.0 + gap] * 4, dtype=torch.float64)
    vertex = torch.cat([points * depth[:, None], depth[:, None]], 1).T[None]  # A is the identity
    face = torch.tensor([[0, 2, 1], [0, 3, 2], [4, 6, 5], [4, 7, 6]]).T
    eye = torch.eye(3, dtype=torch.float64)[None]
    return {
        "face": face,
        "vertex": vertex,
        "color": torch.ones_like(vertex),
        "sh_coef": torch.ones(1, 27, dtype=torch.float64),
        "A": eye,
        "R": eye,
        "T": torch.zeros(1, 3, 1, dtype=torch.float64),
        "image": torch.zeros(1, 3, 32, 40, dtype=torch.float64),
    }


def test_self_occlusion():
    # corner 4 and 7 of the rear square lie behind the front one; the map at a square's own corner pixels includes
    # background, which hides the corner as upstream does, so the corners are moved inward by a second mesh
    inputs = layers(gap=20.0)
    inner = torch.tensor([[10.0, 10.0], [20.0, 20.0], [17.3, 15.6], [29.5, 12.2]], dtype=torch.float64)
    depth = torch.tensor([1000.0, 1020.0, 1020.0, 1020.0], dtype=torch.float64)
    extra = torch.cat([inner * depth[:, None], depth[:, None]], 1).T[None]
    inputs["vertex"] = torch.cat([inputs["vertex"], extra], 2)
    inputs["color"] = torch.ones_like(inputs["vertex"])
    for threshold, expected in ((5, [1, 0, 0, 1]), (19, [1, 0, 0, 1]), (21, [1, 1, 1, 1])):
        occlusion = Renderer()(**inputs, self_occlusion=True, occlusion_th=threshold)[3]
        assert occlusion.shape == (1, 12) and not occlusion.requires_grad
        assert occlusion[0, 8:].tolist() == expected
        assert occlusion[0, :4].tolist() == [0, 0, 0, 0]
    # without self-occlusion only the normal decides: squares face the camera, loose points have none
    assert Renderer()(**inputs)[3][0].tolist() == [1] * 8 + [0] * 4


def test_no_block_is_lost():
    # upstream leaves out row and column 64 when the largest coordinate is 64.4
    inputs = layers(gap=20.0)
    square = torch.tensor([[10.2, 10.2], [64.4, 10.2], [64.4, 64.4], [10.2, 64.4]], dtype=torch.float64)
    points = torch.cat([square, square]) * 1000.0
    inputs["vertex"] = torch.cat([points, torch.full((8, 1), 1000.0, dtype=torch.float64)], 1).T[None]
    inputs["image"] = torch.zeros(1, 3, 96, 96, dtype=torch.float64)
    mask = Renderer()(**inputs, render_mode=RASTERIZE_DIFFERENTIABLE_IMAGE)[5][0]
    rows, columns = mask.nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (11, 64, 11, 64)


def test_edges_are_inclusive():
    inputs = layers(gap=20.0)
    square = torch.tensor([[3.0, 3.0], [7.0, 3.0], [7.0, 7.0], [3.0, 7.0]], dtype=torch.float64)
    points = torch.cat([square, square]) * 1000.0
    inputs["vertex"] = torch.cat([points, torch.full((8, 1), 1000.0, dtype=torch.float64)], 1).T[None]
    mask = Renderer()(**inputs, render_mode=RASTERIZE_DIFFERENTIABLE_IMAGE)[5][0]
    rows, columns = mask.nonzero().T
    assert mask.sum() == 25 and (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 7, 3, 7)


@pytest.mark.parametrize("mode", [SAMPLE_IMAGE, RASTERIZE_DIFFERENTIABLE_IMAGE])
def test_bad_faces_leave_no_trace(mode):
    inputs = scene(batch=1)
    clean = Renderer()(**inputs, render_mode=mode)
    # a degenerate first face and one through the camera's centre, on vertices of their own
    extra = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)  # xyz rows
    centre = -inputs["R"].transpose(1, 2) @ inputs["T"]
    vertex = torch.cat([inputs["vertex"], extra[None] + centre], 2).requires_grad_()
    color = torch.cat([inputs["color"], torch.ones(1, 3, 3, dtype=torch.float64)], 2).requires_grad_()
    count = inputs["vertex"].shape[2]
    face = torch.cat([torch.tensor([[0], [0], [0]]), inputs["face"], count + torch.arange(3)[:, None]], 1)
    out = Renderer()(**{**inputs, "face": face, "vertex": vertex, "color": color}, render_mode=mode)
    used = 1 if mode == SAMPLE_IMAGE else 4
    ours = out[used][..., :count] if mode == SAMPLE_IMAGE else out[used]
    assert torch.equal(ours, clean[used])
    out[used].sum().backward()
    assert vertex.grad.isfinite().all()
    if mode == RASTERIZE_DIFFERENTIABLE_IMAGE:
        assert color.grad.isfinite().all()
        assert not color.grad[:, :, count:].any() and not vertex.grad[:, :, count:].any()


def test_faces_may_change():
    inputs = scene(batch=1)
    renderer = Renderer()
    render = lambda **changes: renderer(**{**inputs, **changes}, render_mode=2)
    fresh = lambda **changes: Renderer()(**{**inputs, **changes}, render_mode=2)
    render()
    table, net = renderer.vertex_to_face, renderer.diff_raster_net
    render()
    render(face=inputs["face"].clone())
    assert renderer.vertex_to_face is table and renderer.diff_raster_net is net
    # fewer faces, another image size, an in-place edit, another vertex count
    half = inputs["face"][:, ::2]
    assert torch.equal(render(face=half)[4], fresh(face=half)[4])
    assert renderer.vertex_to_face is not table
    small = torch.zeros(1, 3, 8, 15, dtype=torch.float64)
    assert render(image=small)[4].shape == (1, 3, 8, 15)
    face = inputs["face"].clone()
    before = render(face=face)[4]
    face[:, 5] = face[:, 6]
    after = render(face=face)[4]
    assert torch.equal(after, fresh(face=face)[4]) and not torch.equal(before, after)
    padded = {name: torch.cat([inputs[name], inputs[name][:, :, :1]], 2) for name in ("vertex", "color")}
    assert torch.equal(render(**padded)[4], fresh(**padded)[4])
    twin = copy.deepcopy(renderer)
    assert torch.equal(twin(**inputs, render_mode=2)[4], fresh()[4])


def test_inference_mode_does_not_spoil_training():
    inputs = scene(batch=1)
    renderer = Renderer()
    with torch.inference_mode():
        renderer(**{**inputs, "face": inputs["face"].clone()}, render_mode=2)
    vertex = inputs["vertex"].clone().requires_grad_()
    renderer(**{**inputs, "vertex": vertex}, render_mode=2)[4].sum().backward()
    assert vertex.grad.isfinite().all() and vertex.grad.any()


def test_vertex_to_face_table():
    inputs = scene(batch=1)
    renderer = Renderer()
    renderer(**inputs)
    table, faces = renderer.vertex_to_face, inputs["face"].T.tolist()
    incident = [[f for f, corners in enumerate(faces) if v in corners] for v in range(inputs["vertex"].shape[2])]
    assert table.shape[0] == max(map(len, incident)) and table.dtype == torch.int64
    assert [[f for f in column if f >= 0] for column in table.T.tolist()] == incident


def test_errors():
    inputs = scene(batch=2)

    def fails(kind, message, **changes):
        with pytest.raises(kind, match=message):
            Renderer()(**{**inputs, **changes})

    fails(ValueError, "render_mode to be 0, 1 or 2, got 3", render_mode=3)
    fails(ValueError, r"face to be shape \[3, \*\]", face=inputs["face"].T)
    fails(ValueError, r"vertex to be shape \[\*, 3, \*\]", vertex=inputs["vertex"].transpose(1, 2))
    fails(ValueError, r"color to be shape \[2, 3, 18\], got \[1, 3, 18\]", color=inputs["color"][:1])
    fails(ValueError, r"sh_coef to be shape \[2, 27\]", sh_coef=inputs["sh_coef"].view(2, 3, 9))
    fails(ValueError, r"A to be shape \[1\|2, 3, 3\]", A=inputs["A"].expand(3, 3, 3))
    fails(ValueError, r"T to be shape \[1\|2, 3, 1\]", T=inputs["T"][..., 0])
    fails(ValueError, r"image to be shape \[2, \*, \*, \*\]", image=inputs["image"][:1])
    fails(TypeError, "vertex to be float32 or float64", vertex=inputs["vertex"].half())
    fails(TypeError, "color to be float64 as vertex", color=inputs["color"].float())
    fails(TypeError, "image to be float64 as vertex", image=inputs["image"].float())
    fails(TypeError, "face to be a torch.Tensor, got list", face=inputs["face"].tolist())
    fails(ValueError, r"Topology\(\): expected faces", face=inputs["face"] + 1)


def test_image_may_be_anything_with_a_size():
    inputs = scene(batch=1)
    expected = Renderer()(**inputs, render_mode=RASTERIZE_IMAGE)[4]
    photo = torch.zeros(1, 1, 20, 26, dtype=torch.uint8)
    assert torch.equal(Renderer()(**{**inputs, "image": photo}, render_mode=RASTERIZE_IMAGE)[4], expected)


def test_autocast_does_not_reach_the_geometry():
    inputs = {name: value.float() if value.is_floating_point() else value for name, value in scene().items()}
    expected = Renderer()(**inputs, render_mode=RASTERIZE_DIFFERENTIABLE_IMAGE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = Renderer()(**inputs, render_mode=RASTERIZE_DIFFERENTIABLE_IMAGE)
    assert torch.equal(out[0], expected[0]) and torch.equal(out[4], expected[4])


def test_image_equals_the_fused_kernel():
    """What `render_sh` draws with the same rules, so that either may be used for rotate_normal=True."""
    inputs = {name: value.float() if value.is_floating_point() else value for name, value in scene().items()}
    names = ("vertex", "color", "sh_coef", "A", "R", "T")
    leaves = [inputs[name].clone().requires_grad_() for name in names]
    vertex, color, sh_coef, A, R, T = leaves
    _, _, _, _, image, mask = Renderer()(inputs["face"], *leaves, inputs["image"], RASTERIZE_DIFFERENTIABLE_IMAGE)
    half = torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    fused = render_sh(
        vertex.transpose(1, 2),
        color.transpose(1, 2),
        sh_coef.view(-1, 3, 9),
        Topology(inputs["face"].T, vertex.shape[2]),
        Camera(A + half, R, T[..., 0]),
        (20, 26),
        normals="focus",
        coverage="inclusive",
        perspective_correct=False,
    )
    assert torch.equal(fused.mask[:, 0], mask)
    # both round pixel coordinates of up to 26 to 2^-20; colours differ by up to 0.5 per pixel
    torch.testing.assert_close(fused.image, image, rtol=0, atol=5e-6)
    cotangent = torch.rand(image.shape, generator=torch.Generator().manual_seed(1))
    for name, ours, theirs in zip(
        names,
        torch.autograd.grad((image * cotangent).sum(), leaves, retain_graph=True),
        torch.autograd.grad((fused.image * cotangent).sum(), leaves),
        strict=True,
    ):
        if name == "A":  # the camera of the fused op has no third row
            ours, theirs = ours[:, :2], theirs[:, :2]
        assert (ours - theirs).abs().max() <= 1e-4 * ours.abs().max(), name


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.exists():
        pytest.skip("needs ../shared/golden")
    return {name: torch.from_numpy(value) for name, value in np.load(GOLDEN).items()}


def test_golden_normals_and_harmonics(golden, device):
    data = {name: value.to(device) for name, value in golden.items()}
    vertices = data["vertices"].transpose(1, 2)
    normals = vertex_normals(vertices, Topology(data["faces"].T, vertices.shape[1]), normalize=False)
    # float32 rounding: 2.4e-7 of a unit vector; 5e-6 where the azimuth of a normal near the axis is ill-conditioned
    assert (normals.transpose(1, 2) - data["vertex_normals"]).abs().max() <= 1e-6
    rotated = normals @ data["R"].transpose(1, 2)
    for k, coefficients in enumerate(torch.eye(9, device=device)):
        basis = shade_sh(rotated, torch.ones_like(rotated), coefficients.expand(3, 3, 9), convention="focus")[..., 0]
        assert (basis - data["sh_basis"][:, k]).abs().max() <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_golden(golden, dtype, device):
    data = {k: v.to(device, dtype if v.is_floating_point() else v.dtype) for k, v in golden.items()}
    leaves = [data[name].clone().requires_grad_() for name in ("vertices", "albedo", "sh_coeffs")]
    projected, _, shaded, _, image, mask = Renderer()(
        data["faces"], *leaves, data["K"], data["R"], data["T"], data["image"], RASTERIZE_DIFFERENTIABLE_IMAGE
    )
    grads = torch.autograd.grad(image, leaves, data["grad_image"])
    # The bounds of the image are those of the README beside the file; of the gradients, twice the distance of the
    # authors' float32 answers from float64 (measured: 8.1e-4, 1.6e-5, 8.1e-6 of the norm).
    assert torch.equal(mask, data["mask"])  # not one pixel of 37,632 differs
    assert (projected - data["projected"]).abs().max() <= 1e-4  # depth of 1,000 mm in float32
    assert (shaded - data["shaded"]).abs().max() <= 2e-6
    error = (image - data["image"]).abs()
    assert error.mean() <= 1e-5 and error.max() <= 2e-3
    for name, grad, bound in zip(("grad_vertices", "grad_albedo", "grad_sh"), grads, (1.6e-3, 4e-5, 2e-5), strict=True):
        assert (grad - data[name]).norm() <= bound * data[name].norm(), name
