"""The FOCUS authors' `geometry` and `shading` in `compat.focus`: their answers, and their formulas in float64."""

import copy
import importlib
import inspect
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from focus_kernels.compat import focus
from focus_kernels.compat.focus.geometry import (
    calc_face_normal,
    calc_vertex_normal,
    calc_vertex_to_face_map,
    perspective_projection,
)
from focus_kernels.compat.focus.shading import calc_sh_basis

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "focus_renderer_a.npz"
FTINY = float(np.finfo(np.float32).tiny) * 1000
SIGNATURES = {
    ("geometry", "calc_face_normal"): "vertex face",
    ("geometry", "calc_vertex_to_face_map"): "vertex face",
    ("geometry", "calc_vertex_normal"): "face_normal face_area vertex_to_face",
    ("geometry", "perspective_projection"): "A R T vertex",
    ("shading", "calc_sh_basis"): "normal",
    ("camera_matrix", "euler_rotation"): "rot_param",
    ("camera_matrix", "calc_extrinxic_camera_matrix"): "param T_ini camera2world",
}
for name in ("convert_params", "convert_params_noexp"):
    SIGNATURES["encoder", name] = (
        "shape_param exp_param color_param camera_param sh_param obj T_ini sh_ini camera2world"
    )


def random(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def soup(seed=0, batch=2, vertices=9, faces=14):
    """Faces over few vertices, some of which repeat one; the last vertex has none."""
    face = torch.randint(vertices - 1, (3, faces), generator=torch.Generator().manual_seed(seed))
    face[:, 0] = torch.tensor([2, 2, 5])
    return random(seed, batch, 3, vertices), face


def harmonics(x, y, z):
    """The nine real harmonics of upstream's angles, from associated Legendre functions with their sign."""
    theta, phi = math.acos(z), math.atan2(y, x)
    c, s = math.cos(theta), math.sin(theta)
    legendre = {(0, 0): 1, (1, 0): c, (1, 1): -s, (2, 0): (3 * c * c - 1) / 2, (2, 1): -3 * c * s, (2, 2): 3 * s * s}
    values = []
    for degree in range(3):
        for order in range(-degree, degree + 1):
            m = abs(order)
            ratio = math.factorial(degree - m) / math.factorial(degree + m)
            value = math.sqrt((2 * degree + 1) / (4 * math.pi) * ratio) * legendre[degree, m]
            if order:
                value *= math.sqrt(2) * (math.cos(m * phi) if order > 0 else math.sin(m * phi))
            values.append(value)
    return values


def unit_normals(seed=0, batch=2, count=7):
    """Some shorter than 1, as means of unit normals are."""
    normals = random(seed, batch, 3, count)
    lengths = torch.rand(batch, 1, count, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return normals / normals.norm(dim=1, keepdim=True) * (0.8 + 0.2 * lengths)


@pytest.mark.parametrize(("module", "name"), SIGNATURES)
def test_signature(module, name):
    function = getattr(importlib.import_module(f"focus_kernels.compat.focus.{module}"), name)
    assert function is getattr(focus, name)
    given = inspect.signature(function).parameters
    assert list(given) == SIGNATURES[module, name].split()
    if "camera2world" in given:
        assert given["camera2world"].default is True
    documented = inspect.getdoc(function)
    assert "ifferentiable" in documented or "those of ``convert_params``" in documented


def test_the_renderer_is_where_upstream_has_it():
    rendering = importlib.import_module("focus_kernels.compat.focus.rendering")
    for name in ("Renderer", "SAMPLE_IMAGE", "RASTERIZE_IMAGE", "RASTERIZE_DIFFERENTIABLE_IMAGE"):
        assert getattr(rendering, name) is getattr(focus, name)


def test_face_normals_and_areas():
    vertex, face = soup()
    normal, area = calc_face_normal(vertex, face)
    assert normal.shape == (2, 3, 14) and area.shape == (2, 1, 14)
    for b in range(2):
        for f in range(14):
            v0, v1, v2 = (vertex[b, :, face[k, f]].numpy() for k in range(3))
            cross = np.cross(v1 - v0, v2 - v0)
            length = np.linalg.norm(cross)
            if length == 0:
                assert not normal[b, :, f].any() and area[b, 0, f] == FTINY / 2
            else:
                np.testing.assert_allclose(normal[b, :, f], cross / length, rtol=1e-12, atol=1e-12)
                np.testing.assert_allclose(area[b, 0, f], length / 2, rtol=1e-12)
    assert len(set(face[:, 0].tolist())) == 2 and not normal[:, :, 0].any()  # a face without area was among them


@pytest.mark.parametrize("integer", [torch.int64, torch.int32])
def test_vertex_to_face_map(integer):
    vertex, face = soup()
    table = calc_vertex_to_face_map(vertex, face.to(integer))
    incident = [[f for f in range(14) for k in range(3) if face[k, f] == v] for v in range(9)]
    assert table.dtype == torch.int64 and table.shape == (max(map(len, incident)), 9)
    assert not incident[8] and incident[2][:2] == [0, 0]  # no face; a face that has the vertex twice
    for v in range(9):
        assert table[:, v].tolist() == incident[v] + [-1] * (len(table) - len(incident[v]))
    assert calc_vertex_to_face_map(vertex, face[:, :0]).shape == (0, 9)


@pytest.mark.parametrize("integer", [torch.int64, torch.int32])
def test_vertex_normals(integer):
    vertex, face = soup()
    normal, area = random(5, 2, 3, 14), random(6, 2, 1, 14).abs()
    table = calc_vertex_to_face_map(vertex, face)
    ours = calc_vertex_normal(normal, area, table.to(integer))
    for b in range(2):
        for v in range(9):
            ids = [f for f in table[:, v].tolist() if f >= 0]
            weights = area[b, 0, ids].numpy()
            expected = (normal[b][:, ids].numpy() * weights).sum(1) / weights.sum() if ids else np.zeros(3)
            np.testing.assert_allclose(ours[b, :, v], expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(calc_vertex_normal(normal, area, table[:0]), torch.zeros(2, 3, 9, dtype=torch.float64))


def test_the_three_together_are_the_kernel_of_the_renderer():
    from focus_kernels import Topology, vertex_normals

    vertex, face = soup(seed=3, vertices=20, faces=40)
    vertex.requires_grad_()
    ours = calc_vertex_normal(*calc_face_normal(vertex, face), calc_vertex_to_face_map(vertex, face))
    fused = vertex_normals(vertex.transpose(1, 2), Topology(face.T, 20), normalize=False).transpose(1, 2)
    torch.testing.assert_close(ours, fused, rtol=1e-10, atol=1e-12)  # float64, other orders of summation
    cotangent = random(4, 2, 3, 20)
    grads = [torch.autograd.grad(value, vertex, cotangent)[0] for value in (ours, fused)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-10)


def test_projection():
    A, R = random(0, 1, 3, 3), random(1, 2, 3, 3)
    T, vertex = random(2, 2, 3, 1), random(3, 2, 3, 6)
    projected = perspective_projection(A, R, T, vertex)
    for b in range(2):
        for n in range(6):
            x = A[0].numpy() @ (R[b].numpy() @ vertex[b, :, n].numpy() + T[b, :, 0].numpy())
            np.testing.assert_allclose(projected[b, :, n], [x[0] / x[2], x[1] / x[2], x[2]], rtol=1e-11)
    alone = perspective_projection(A, R[:1], T, vertex[:1])
    assert torch.equal(alone[:1], projected[:1]) and alone.shape == (2, 3, 6)


def test_sh_basis():
    normal = unit_normals()
    basis = calc_sh_basis(normal)
    assert basis.shape == (2, 27, 3, 7) and basis.dtype == torch.float64
    expected = np.zeros((2, 27, 3, 7))
    for b in range(2):
        for n in range(7):
            for colour in range(3):
                expected[b, 9 * colour : 9 * colour + 9, colour, n] = harmonics(*normal[b, :, n].tolist())
    np.testing.assert_allclose(basis, expected, rtol=1e-9, atol=1e-12)


def test_sh_basis_lights_as_the_renderer_does():
    from test_compat_focus import scene

    inputs = scene()
    shaded = focus.Renderer()(**inputs)[2]
    table = calc_vertex_to_face_map(inputs["vertex"], inputs["face"])
    normals = inputs["R"] @ calc_vertex_normal(*calc_face_normal(inputs["vertex"], inputs["face"]), table)
    light = (inputs["sh_coef"][:, :, None, None] * calc_sh_basis(normals)).sum(1)
    torch.testing.assert_close(light * inputs["color"], shaded, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(batch):
    vertex, face = soup(batch=batch)
    normal, area = calc_face_normal(vertex, face)
    assert calc_vertex_normal(normal, area, calc_vertex_to_face_map(vertex, face)).shape == (batch, 3, 9)
    assert calc_sh_basis(vertex).shape == (batch, 27, 3, 9)


def test_gradcheck():
    vertex, face = soup(seed=1, batch=1)
    check = lambda function, *inputs: torch.autograd.gradcheck(
        function, [value.clone().requires_grad_() for value in inputs], eps=1e-6, atol=1e-5
    )
    table = calc_vertex_to_face_map(vertex, face)
    assert check(lambda v: calc_face_normal(v, face), vertex)
    assert check(lambda n, a: calc_vertex_normal(n, a, table), random(1, 1, 3, 14), random(2, 1, 1, 14).abs() + 0.1)
    camera = (random(3, 1, 3, 3), random(4, 1, 3, 3), random(5, 1, 3, 1) + 9, vertex)
    assert check(perspective_projection, *camera)
    assert check(calc_sh_basis, 0.9 * unit_normals(batch=1, count=4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_everywhere(dtype):
    big = 1e6  # of the cotangent
    corners = torch.tensor(
        [[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 1e-33, 0], [0, 0, 1e-20], [1e-20, 0, 0], [1e38, 0, 1e38]],
        dtype=dtype,
    )
    # without area; repeated corners; a sliver 1e-33 high; 1e-20 wide; overflow; a sound one
    face = torch.tensor([[0, 1, 2], [0, 0, 1], [0, 1, 4], [0, 5, 6], [7, 1, 3], [0, 1, 3]]).T
    vertex = corners.T[None].clone().requires_grad_()
    normal, area = calc_face_normal(vertex, face)
    table = calc_vertex_to_face_map(vertex, face)
    means = calc_vertex_normal(normal, area, table)
    for value in (normal, area, means):
        assert value.isfinite().all()
        (grad,) = torch.autograd.grad(value.sum() * big, vertex, retain_graph=True)
        assert grad.isfinite().all()
    torch.testing.assert_close(normal[0, :, 5], torch.tensor([0, 0, 1], dtype=dtype))
    assert torch.equal(normal[0, :, 0], torch.zeros(3, dtype=dtype))

    leaves = [random(1, 1, 3, 6, dtype=dtype).requires_grad_(), torch.zeros(1, 1, 6, dtype=dtype).requires_grad_()]
    for grad in torch.autograd.grad(calc_vertex_normal(*leaves, table).sum() * big, leaves):
        assert grad.isfinite().all()

    eye = torch.eye(3, dtype=dtype)[None]
    vertex = torch.tensor([[0, 0, 0], [1, 2, 0], [1, 2, -1e-38], [0, 1, 5]], dtype=dtype).T[None].requires_grad_()
    projected = perspective_projection(eye, eye, torch.zeros(1, 3, 1, dtype=dtype), vertex)
    assert projected.isfinite().all() and projected[0, 0, 2] < 0 < projected[0, 0, 1]
    assert torch.autograd.grad(projected.sum() * big, vertex)[0].isfinite().all()

    poles = [[0, 0, 1], [0, 0, -1], [0, 0, 0], [0, 1, 0], [1e-9, 0, 1], [0, 0.6, 0.8], [0, 0, 0.5], [0, 0, -1.0000001]]
    normals = torch.tensor(poles, dtype=dtype).T[None].requires_grad_()
    basis = calc_sh_basis(normals)
    assert basis.isfinite().all()
    assert torch.autograd.grad(basis.sum() * big, normals)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [-40, -34, -19, -17, -12, 0, 12, 18, 20, 37])
def test_normals_of_every_size(dtype, exponent):
    """The normals do not depend on the unit, where areas are numbers of the dtype above upstream's smallest one."""
    vertex, face = soup(seed=7, vertices=6, faces=8)
    scaled = (vertex * 10.0**exponent).to(dtype).requires_grad_()
    normal, area = calc_face_normal(scaled, face)
    mean = calc_vertex_normal(normal, area, calc_vertex_to_face_map(scaled, face))
    for value in (normal, area, mean):
        assert value.isfinite().all()
        assert torch.autograd.grad(1e3 * value.sum(), scaled, retain_graph=True)[0].isfinite().all()
    if exponent >= -17 and (exponent <= 18 or dtype == torch.float64):
        unit = calc_face_normal(vertex, face)
        # float32 coordinates of a soup: cross products cancel to a few hundredths of the edges' product
        close = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
        torch.testing.assert_close(normal.double(), unit[0], **close)
        sound = unit[1] > FTINY  # but the face that repeats a vertex
        torch.testing.assert_close(area.double()[sound], unit[1][sound] * 10.0 ** (2 * exponent), rtol=1e-4, atol=0)


def test_bad_faces_spoil_their_own_vertices_only():
    vertex, face = soup(seed=2)
    face = torch.cat([torch.full((3, 1), 8), face], 1)  # face 0 at the last vertex, which has no other
    normal, area = calc_face_normal(vertex, face)
    table = calc_vertex_to_face_map(vertex, face)
    clean = calc_vertex_normal(normal, area, table)
    normal[:, :, 0], area[:, :, 0] = math.nan, math.nan
    spoilt = calc_vertex_normal(normal, area, table)
    assert torch.equal(spoilt[:, :, :8], clean[:, :, :8]) and spoilt[:, :, 8].isnan().all()


def test_gradients_do_not_depend_on_threads():
    # so many numbers that torch would share a scattered sum among threads
    side, threads = 90, torch.get_num_threads()
    step = torch.arange(side * side).view(side, side)
    corner = step[:-1, :-1].reshape(-1)
    face = torch.cat(
        [torch.stack([corner, corner + 1, corner + side]), torch.stack([corner + 1, corner + side + 1, corner + side])],
        1,
    )
    vertex = torch.rand(2, 3, side * side, generator=torch.Generator().manual_seed(3))
    grads = []
    try:
        for count in (1, 4, 4):
            torch.set_num_threads(count)
            leaf = vertex.clone().requires_grad_()
            normal, area = calc_face_normal(leaf, face)
            mean = calc_vertex_normal(normal, area, calc_vertex_to_face_map(leaf, face))
            grads.append(torch.autograd.grad((mean * vertex).sum(), (leaf, normal, area)))
    finally:
        torch.set_num_threads(threads)
    for other in grads[1:]:
        assert all(torch.equal(a, b) for a, b in zip(grads[0], other, strict=True))
    assert grads[0][0].any()


def test_autocast_does_not_reach_the_projection():
    inputs = [random(i, 2, *shape).float() for i, shape in enumerate(((3, 3), (3, 3), (3, 1), (3, 6)))]
    expected = perspective_projection(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(perspective_projection(*inputs), expected)


def test_errors():
    vertex, face = soup()
    normal, area = calc_face_normal(vertex, face)
    table = calc_vertex_to_face_map(vertex, face)
    eye = torch.eye(3, dtype=torch.float64)[None]
    shift = torch.zeros(1, 3, 1, dtype=torch.float64)

    def fails(kind, message, function, *args):
        with pytest.raises(kind, match=message):
            function(*args)

    for function in (calc_face_normal, calc_vertex_to_face_map):
        name = function.__name__
        fails(TypeError, rf"{name}\(\): expected vertex to be a torch.Tensor, got list", function, [1.0], face)
        fails(TypeError, rf"{name}\(\): expected vertex to be float32 or float64", function, vertex.half(), face)
        fails(ValueError, r"vertex to be shape \[\*, 3, \*\]", function, vertex[0], face)
        fails(ValueError, r"face to be shape \[3, \*\], got \[14, 3\]", function, vertex, face.T)
        fails(TypeError, "expected faces to be an integer tensor", function, vertex, face.float())
        fails(ValueError, r"expected faces to be in \[0, 9\), got 9", function, vertex, face + 2)
    fails(
        ValueError, r"face_area to be shape \[2, 1, 14\], got \[2, 14\]", calc_vertex_normal, normal, area[:, 0], table
    )
    fails(TypeError, "face_area to be float64 as face_normal", calc_vertex_normal, normal, area.float(), table)
    fails(TypeError, "vertex_to_face to be int64 or int32, got float32", calc_vertex_normal, normal, area, table * 1.0)
    fails(ValueError, r"vertex_to_face to be in \[-1, 14\), got -2", calc_vertex_normal, normal, area, table - 1)
    fails(ValueError, r"vertex_to_face to be in \[-1, 14\), got 14", calc_vertex_normal, normal, area, table + 1)
    fails(ValueError, r"perspective_projection\(\): expected A", perspective_projection, eye[0], eye, shift, vertex)
    fails(ValueError, r"T to be shape \[\*, 3, 1\]", perspective_projection, eye, eye, shift[..., 0], vertex)
    three = eye.expand(3, 3, 3)
    fails(ValueError, "vertex to be of batch 1 or 3, got 2", perspective_projection, eye, three, shift, vertex)
    fails(ValueError, r"calc_sh_basis\(\): expected normal to be shape", calc_sh_basis, vertex.transpose(1, 2))


def test_renderers_copy_and_pickle():
    from test_compat_focus import scene

    inputs = {**scene(batch=1), "render_mode": focus.RASTERIZE_DIFFERENTIABLE_IMAGE}
    renderer = focus.Renderer()
    expected = renderer(**inputs)[4]
    for twin in (copy.deepcopy(renderer), pickle.loads(pickle.dumps(renderer))):
        # other faces at the address that the original knows, by an edit that torch does not count
        face = inputs["face"]
        kept = face.clone()
        face.data[:] = kept.flip(1)[[0, 2, 1]]
        turned = twin(**inputs)[4]
        face.data[:] = kept
        assert not torch.equal(turned, expected)
        assert torch.equal(twin(**{**inputs, "face": kept})[4], expected)


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.exists():
        pytest.skip("needs ../shared/golden")
    return {name: torch.from_numpy(value) for name, value in np.load(GOLDEN).items()}


def test_golden_geometry(golden, device):
    data = {name: value.to(device) for name, value in golden.items()}
    table = calc_vertex_to_face_map(data["vertices"], data["faces"])
    normals = calc_vertex_normal(*calc_face_normal(data["vertices"], data["faces"]), table)
    # float32 rounding of a unit vector, a few steps of 1.2e-7
    assert (normals - data["vertex_normals"]).abs().max() <= 1e-6
    projected = perspective_projection(data["K"], data["R"], data["T"], data["vertices"])
    assert (projected - data["projected"]).abs().max() <= 1e-4  # a depth of 1,000 mm in float32 is 6e-5 coarse


def test_golden_harmonics(golden, device):
    data = {name: value.to(device) for name, value in golden.items()}
    basis = calc_sh_basis(data["R"] @ data["vertex_normals"])
    # float32 rounding of values below 1.1, through upstream's cosines of an arc cosine; measured: 3.3e-7
    for colour in range(3):
        rows = basis[:, 9 * colour : 9 * colour + 9]
        assert (rows[:, :, colour] - data["sh_basis"]).abs().max() <= 1e-6
        others = [c for c in range(3) if c != colour]
        assert not rows[:, :, others].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_the_cpus_answers():
    vertex, face = soup(seed=4)
    A, R, T = random(1, 1, 3, 3), random(2, 2, 3, 3), random(3, 2, 3, 1)

    def answers(place):
        leaf = vertex.to(place).requires_grad_()
        normal, area = calc_face_normal(leaf, face.to(place))
        table = calc_vertex_to_face_map(leaf, face.to(place))
        mean = calc_vertex_normal(normal, area, table)
        pixels = perspective_projection(A.to(place), R.to(place), T.to(place), leaf)
        values = [normal, area, mean, pixels, calc_sh_basis(mean)]
        (grad,) = torch.autograd.grad(sum(value.sin().sum() for value in values), leaf)
        return [value.cpu() for value in (*values, grad, table)]

    for ours, theirs in zip(answers("cuda"), answers("cpu"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)  # float64, other orders of summation
