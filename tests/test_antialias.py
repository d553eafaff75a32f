"""antialias against exact areas of half planes and against supersampling, its rules of what a silhouette is, and its
arguments."""

import math

import pytest
import torch
from antialiasing import blobs, cosine, drawn, gradient_of_samples, half_plane_area, smooth, supersampled
from meshes import generator, scene, soup, topology, triangles
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels import _extension
from focus_kernels.ops.antialias import op

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
slow_here = pytest.mark.skipif(
    getattr(_extension._C, "cuda_emulation", None) is not None, reason="images of 10^6 samples, on emulated threads"
)


def antialiased(positions, faces, image, size, cull=None, device="cpu"):
    mesh = topology(faces, positions.shape[1], device)
    positions = positions.to(device)
    raster = fk.rasterize(positions, mesh, size, cull=cull)
    return fk.antialias(image.to(positions), raster, positions, mesh), raster


@DTYPES
@pytest.mark.parametrize("degrees", [0, 7, 30, 44, 45, 46, 63, 90, 135, 200, 225, 271, 333])
def test_a_straight_edge_covers_exact_areas(backend, dtype, degrees):
    """One triangle whose edge crosses the whole image; the corner lies far outside, at either side of the edge."""
    size, angle = (9, 8), math.radians(degrees)
    along, point = (math.cos(angle), math.sin(angle)), (4.13, 4.71)
    ends = [(point[0] + s * along[0], point[1] + s * along[1]) for s in (-60, 60)]
    corner = (point[0] - 60 * along[1], point[1] + 60 * along[0])
    positions = triangles([*ends, corner], 2.0, dtype)
    image = torch.zeros(1, 2, *size, dtype=dtype)
    raster = fk.rasterize(positions, topology([[0, 1, 2]], 3), size, cull=None)
    image[:, 0] = (raster.face_index >= 0).to(dtype)
    image[:, 1] = 3 - 2 * image[:, 0]
    out, _ = antialiased(positions, [[0, 1, 2]], image, size, device=backend.device)
    for row in range(1, size[0] - 1):  # an edge between an outer pixel and nothing is not seen
        for column in range(1, size[1] - 1):
            want = half_plane_area(column + 0.5, row + 0.5, point, along)
            assert abs(float(out[0, 0, row, column]) - want) < 64 * torch.finfo(dtype).eps
            assert abs(float(out[0, 1, row, column]) - (3 - 2 * want)) < 256 * torch.finfo(dtype).eps


def grid(n: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """A turned square of n * n cells in the middle of an image: positions [1, V, 3] and faces [2 n n, 3]."""
    s = torch.linspace(-1, 1, n + 1, dtype=torch.float64)
    v, u = torch.meshgrid(s, s, indexing="ij")
    x = size[1] / 2 + size[1] * (0.31 * u - 0.123 * v) + 0.07
    y = size[0] / 2 + size[0] * (0.123 * u + 0.31 * v) + 0.11
    k = torch.arange(n * (n + 1)).view(n, n + 1)[:, :-1].reshape(-1)
    faces = torch.cat([torch.stack([k, k + n + 1, k + 1], 1), torch.stack([k + 1, k + n + 1, k + n + 2], 1)])
    return torch.stack([x, y, 5 + 0.1 * u + 0.2 * v], -1).reshape(1, -1, 3), faces


@pytest.mark.parametrize("n", [3, 40])
def test_any_number_of_faces_between_pixels(backend, n):
    """A plane cut into cells, of many pixels or of a fraction of one, has the silhouette of the plane."""
    size = (14, 13)
    image = torch.randn(1, 3, *size, generator=generator(0), dtype=torch.float64)
    whole, _ = antialiased(*grid(1, size), image, size, device=backend.device)
    cells, raster = antialiased(*grid(n, size), image, size, device=backend.device)
    assert len(raster.face_index.unique()) > 0.5 * min(2 * n * n, 60)
    assert (whole - image.to(whole)).abs().amax(1).count_nonzero() > 20
    torch.testing.assert_close(cells, whole, rtol=0, atol=1e-12)


def test_pixels_without_silhouette_keep_their_bits(backend):
    """A surface that fills the image, another that cuts through it, and numbers that no sum would keep."""
    size = (12, 11)
    positions, faces = grid(9, size)
    positions[..., :2] = (positions[..., :2] - 6) * 4 + 6
    image = torch.tensor([-0.0, math.nan, math.inf, 1e300])[torch.arange(132).view(1, 1, *size) % 4].double()
    out, raster = antialiased(positions, faces, image, size, device=backend.device)
    assert raster.face_index.min() >= 0 and len(raster.face_index.unique()) > 9
    assert_same_bits(out.cpu(), image)
    cut = positions.clone()
    cut[..., 2] = 4.5 + 0.1 * positions[..., 0]
    both, pair = torch.cat([positions, cut], 1), torch.cat([faces, faces + positions.shape[1]])
    out, raster = antialiased(both, pair, image, size, device=backend.device)
    shown = raster.face_index >= len(faces)
    assert shown.any() and not shown.all()
    assert_same_bits(out.cpu(), image)


LEFT = [[0, 1, 2], [0, 2, 3]]


def pairs_of(faces, bend, backend):
    """The pairs (column, column + 1) between which row 1 has an edge, of faces that share the edge 1-2."""
    xy = [(1.2, -20), (5.3, -20), (5.3, 40), (1.2, 40), (5.3 + bend, -20), (5.3 + bend, 40)]
    positions = triangles(xy, [3.0, 3.0, 3.0, 3.0, 2.9, 2.9]).to(backend.device)
    mesh = topology(faces, 6, backend.device)
    raster = fk.rasterize(positions, mesh, (4, 9), cull=None)
    image = torch.zeros(1, 1, 4, 9, dtype=torch.float64, device=backend.device)
    edges = between(image, positions, mesh, raster, backend)
    assert not edges[:, 1].any()
    return edges[0, 0, 1].nonzero()[:, 0].tolist()


def between(image, positions, mesh, raster, backend):
    """What the backend finds between the pixels."""
    args = (positions, mesh.faces, mesh.opposite, raster.face_index, raster.depth)
    return op.ref._EDGES(*args) if backend.name == "ref" else op._FORWARD(image, *args)[1]


@pytest.mark.parametrize(
    "right, bend, want",
    [
        ([], 0, [0, 4]),  # a border at 5.3
        ([[1, 4, 5], [1, 5, 2]], 2.4, [0, 7]),  # a neighbour beside it: the border is at 7.7
        ([[1, 4, 5], [1, 5, 2]], -2.4, [0, 2, 4]),  # folded over: the fold at 5.3, and its border at 2.9
        ([[4, 1, 5], [5, 1, 2]], 2.4, [0, 4, 7]),  # it has the other orientation: a border for both
        ([[1, 4, 5], [1, 5, 2], [1, 2, 4]], 2.4, [0, 4, 7]),  # three faces at an edge: a border for each
    ],
)
def test_what_is_a_silhouette(backend, right, bend, want):
    assert pairs_of([*LEFT, *right], bend, backend) == want


def test_the_nearer_surface_has_the_silhouette(backend):
    """A far triangle ends under a near one: only the edge of the near one is seen."""
    far = [(2.3, -30), (2.3, 60), (60, 10)]
    near = [(5.6, -30), (5.6, 60), (-60, 10)]
    positions = triangles([*far, *near], [5.0, 5, 5, 2, 2, 2]).to(backend.device)
    mesh = topology([[0, 1, 2], [3, 4, 5]], 6, backend.device)
    raster = fk.rasterize(positions, mesh, (3, 9), cull=None)
    image = torch.zeros(1, 1, 3, 9, dtype=torch.float64, device=backend.device)
    edges = between(image, positions, mesh, raster, backend)
    found = edges[0].nonzero().tolist()
    assert found == [[0, row, 5] for row in range(3)]
    assert edges[0, 0, :, 5].unique().tolist() == [3 * 1 + 2 + 1]  # the edge 3-4, opposite corner 2 of face 1


def test_faces_that_are_not_drawn_end_a_surface(backend):
    """The neighbour of the left half lies behind the camera, or has no area."""
    for change in ({"depth": -1.0}, {"x": 5.3}):
        xy = [(1.2, -20), (5.3, -20), (5.3, 40), (1.2, 40), (change.get("x", 7.7), 10)]
        positions = triangles(xy, [3.0, 3, 3, 3, change.get("depth", 3.0)]).to(backend.device)
        mesh = topology([*LEFT, [1, 4, 2]], 5, backend.device)
        raster = fk.rasterize(positions, mesh, (2, 9), cull=None)
        image = torch.zeros(1, 1, 2, 9, dtype=torch.float64, device=backend.device)
        edges = between(image, positions, mesh, raster, backend)
        assert edges[0, 0, 0].nonzero()[:, 0].tolist() == [0, 4], change


# Where the strips of a band begin and end, along u. The first is seen at 4.5 and ends at 5.1.
FOLDS = {
    "ends there": ([5.1], None, 0),
    "comes forward and farther": ([5.1, 4.8, 5.4], None, 2),
    "ends on the way": ([5.1, 4.8, 4.95], None, 0),
    "farthest at its second fold": ([5.1, 4.8, 5.3, 4.7, 5.2], None, 2),
    "farthest at its third fold": ([5.1, 4.8, 5.3, 4.7, 5.4, 4.9], None, 4),
    "reaches the other centre": ([5.1, 4.8, 6.2], None, 0),
    "folds outside of the pixel": ([5.1, 3.9, 5.4], None, 0),
    "before a wall": ([5.1, 4.8, 5.4], 9.0, 2),
    "behind a wall": ([5.1, 4.8, 5.4], 3.15, 0),
    "30 faces on the way": ([5.1, *torch.linspace(5.09, 4.8, 14).tolist(), 5.4], None, 15),
    "34 faces on the way": ([5.1, *torch.linspace(5.09, 4.8, 16).tolist(), 5.4], None, 0),
}


@pytest.mark.parametrize("axis, mirrored", [(0, False), (1, True)])
@pytest.mark.parametrize("ends, wall, want", FOLDS.values(), ids=FOLDS)
def test_the_outline_is_where_a_folded_surface_ends_last(backend, ends, wall, want, axis, mirrored):
    along, depth = [1.2, *ends], [3.0, 3.01, *[3.3, 3.2] * len(ends)][: len(ends) + 1]
    strips = list(range(len(ends)))
    if wall is not None:
        strips.append(len(along))
        along, depth = [*along, 3.2, 30], [*depth, wall, wall]
    faces = [[2 * k + i for i in face] for k in strips for face in ((0, 2, 3), (0, 3, 1))]
    uw = [((9 - u if mirrored else u), w) for u in along for w in (-20, 40)]
    positions = triangles([point[:: 1 - 2 * axis] for point in uw], [z for z in depth for _ in range(2)])
    mesh = topology(faces, positions.shape[1], backend.device)
    positions = positions.to(backend.device)
    raster = fk.rasterize(positions, mesh, (9, 9), cull=None)
    image = torch.zeros(1, 1, 9, 9, dtype=torch.float64, device=backend.device)
    edges = between(image, positions, mesh, raster, backend)[0, axis]
    code = 6 * want + 1  # the edge that ends a strip lies opposite the first corner of its first face
    assert (edges if axis == 0 else edges.T)[1, 3 if mirrored else 4] == (-code if mirrored else code)


# ---- supersampling

SLOW = [pytest.param(*recipe, marks=pytest.mark.slow) for recipe in ((4, 2, 1), (6, 1, 2), (8, 1, 3), (16, 1, 4))]
MESHES = [(6, 1), (12, 4), (30, 3), (70, 2)]  # rings, bodies: faces of 30 pixels to faces of a third of one


@slow_here
@pytest.mark.parametrize("rings, bodies", MESHES, ids=str)
def test_error_against_supersampling(kernel, rings, bodies):
    """At silhouette pixels, at most a quarter of the error without; measured: 0.07 to 0.17 of it."""
    size = 48
    before, after = [], []
    for seed in range(3):
        mesh, positions, colors = blobs(seed, rings, bodies, size, kernel.device)
        raster, image = drawn(positions, mesh, colors, size)
        out = fk.antialias(image, raster, positions, mesh)
        exact, at_silhouette = supersampled(positions, mesh, colors, size)
        assert at_silhouette.sum() > 60
        off = [(picture - exact).abs().mean(1)[at_silhouette] for picture in (image, out)]
        before.append(off[0])
        after.append(off[1])
        untouched = (out == image).all(1)
        assert at_silhouette[untouched].sum() < 0.1 * at_silhouette.sum()
    assert torch.cat(after).mean() < 0.25 * torch.cat(before).mean()


def gradients(rings, bodies, seed, device):
    """By x and y of all vertices [1, V, 2]: with antialias, without, and of 16 x 16 samples (differences of 0.1 px)."""
    size = 32
    mesh, positions, colors = blobs(seed, rings, bodies, size, device)
    weight = smooth(seed, size).to(positions)
    leaf = positions.clone().requires_grad_()
    raster, image = drawn(leaf, mesh, colors, size)
    pictures = fk.antialias(image, raster, leaf, mesh), image
    found = [torch.autograd.grad((picture * weight).sum(), leaf, retain_graph=True)[0][..., :2] for picture in pictures]
    return *found, gradient_of_samples(positions, mesh, colors, size, weight)


@slow_here
@pytest.mark.parametrize("rings, bodies, seed", [(4, 1, 0), *SLOW])
def test_gradient_against_supersampling(kernel, rings, bodies, seed):
    found, without, want = gradients(rings, bodies, seed, kernel.device)
    assert cosine(found, want) > 0.95 and cosine(without, want) < 0.7
    assert 0.9 < found.norm() / want.norm() < 1.1


@slow_here
@pytest.mark.slow
def test_gradient_of_small_faces_against_supersampling(kernel):
    """Edges of 3 to 5 pixels, at the outline often less than one. Measured: 0.862 to 0.986, median 0.960."""
    cosines = []
    for seed in range(12):
        found, _, want = gradients(16, 1, seed, kernel.device)
        cosines.append(cosine(found, want))
    assert torch.tensor(cosines).quantile(0.5) > 0.95 and min(cosines) > 0.85


# ---- gradients, layouts, arguments


def ball(dtype, device, B=2, size=(17, 19)):
    inputs = scene(5, B, 6, size)
    positions = fk.Camera(inputs["K"], inputs["R"], inputs["t"]).project(inputs["vertices"]).to(device, dtype)
    mesh = topology(inputs["faces"], positions.shape[1], device)
    image = torch.randn(B, 3, *size, generator=generator(1), dtype=torch.float64).to(positions)
    return mesh, positions, fk.rasterize(positions, mesh, size), image


@DTYPES
def test_only_ends_of_silhouettes_have_a_gradient(backend, dtype):
    mesh, positions, raster, image = ball(dtype, backend.device)
    positions.requires_grad_()
    out = fk.antialias(image, raster, positions, mesh)
    grad = torch.autograd.grad(out, positions, torch.ones_like(out))[0]
    assert not grad[..., 2].any()
    edges = between(image, positions.detach(), mesh, raster, backend)
    for b in range(len(edges)):
        corner = edges[b][edges[b] != 0].abs().long() - 1
        face, k = mesh.faces.long()[corner // 3], corner % 3
        ends = torch.stack([face.gather(1, ((k + i) % 3)[:, None]) for i in (1, 2)])
        touched = torch.zeros(mesh.num_vertices, dtype=torch.bool, device=grad.device)
        touched[ends.unique()] = True
        assert grad[b, touched].any(1).all() and not grad[b, ~touched].any()
        assert 10 < touched.sum() < mesh.num_vertices / 2


def test_gradients_are_taken_where_asked(kernel, monkeypatch):
    mesh, positions, raster, image = ball(torch.float64, kernel.device)
    made, raw = [], op._BACKWARD
    monkeypatch.setattr(op, "_BACKWARD", lambda *args: made.append(raw(*args)) or made[-1])
    grads = {}
    for wanted in (("image", "positions"), ("image",), ("positions",)):
        leaves = {name: value.clone() for name, value in (("image", image), ("positions", positions))}
        asked = [leaves[name].requires_grad_() for name in wanted]
        out = fk.antialias(leaves["image"], raster, leaves["positions"], mesh)
        for name, grad in zip(wanted, torch.autograd.grad(out.square().sum(), asked), strict=True):
            assert_same_bits(grad, grads.setdefault(name, grad))
        assert [grad.numel() > 0 for grad in made[-1]] == ["image" in wanted, "positions" in wanted]


@pytest.mark.parametrize("C, size", [(0, (5, 6)), (1, (1, 6)), (5, (6, 1)), (2, (1, 1))])
def test_any_channels_and_small_images(backend, C, size):
    positions, faces = soup(3, 2, 6, size, scale=1.5)
    mesh = topology(faces, 18, backend.device)
    positions = positions.to(backend.device).requires_grad_()
    raster = fk.rasterize(positions.detach(), mesh, size, cull=None)
    image = torch.randn(2, C, *size, generator=generator(0), dtype=torch.float64).to(positions).requires_grad_()
    out = fk.antialias(image, raster, positions, mesh)
    assert out.shape == image.shape
    for grad in torch.autograd.grad(out.sum(), (image, positions)):
        assert grad.isfinite().all()


@pytest.mark.parametrize("V, F", [(0, 0), (5, 0)])
def test_no_faces(backend, V, F):
    mesh = topology(torch.zeros(F, 3).long(), V, backend.device)
    positions = torch.rand(2, V, 3, device=backend.device, requires_grad=True)
    image = torch.rand(2, 3, 4, 5, device=backend.device, requires_grad=True)
    out = fk.antialias(image, fk.rasterize(positions.detach(), mesh, (4, 5)), positions, mesh)
    assert_same_bits(out, image)
    grads = torch.autograd.grad(out.sum(), (image, positions))
    assert grads[0].eq(1).all() and not grads[1].any()


def test_faces_of_another_mesh_are_background(backend):
    mesh, positions, raster, image = ball(torch.float64, backend.device)
    want = fk.antialias(image, raster, positions, mesh)
    for stranger in (mesh.num_faces, 2**31 - 1, -7):
        index = torch.where(raster.face_index < 0, stranger, raster.face_index)
        assert_same_bits(fk.antialias(image, raster._replace(face_index=index), positions, mesh), want)


def test_what_is_not_finite_stays_where_it_is_blended(backend):
    mesh, positions, raster, image = ball(torch.float64, backend.device)
    want = fk.antialias(image, raster, positions, mesh)
    changed = (want != image).any(1, keepdim=True)
    reached = []
    for row, column in changed[0, 0].nonzero().tolist():
        spoilt = image.clone()
        spoilt[0, 1, row, column] = torch.nan
        bad = fk.antialias(spoilt, raster, positions, mesh).isnan().nonzero().tolist()
        assert all(b == 0 and c == 1 and abs(r - row) + abs(k - column) <= 1 for b, c, r, k in bad)
        assert [0, 1, row, column] in bad
        reached.append(len(bad))
    assert len(reached) > 20 and max(reached) > 1


def test_positions_of_another_picture_are_harmless(backend):
    """A raster that does not fit: weights stay between 0 and 1."""
    mesh, positions, raster, image = ball(torch.float64, backend.device)
    shifted = (positions + torch.tensor([1.7, -2.3, 0.0]).to(positions)).requires_grad_()
    out = fk.antialias(image.abs(), raster, shifted, mesh)
    assert out.isfinite().all() and torch.autograd.grad(out.sum(), shifted)[0].isfinite().all()


@DTYPES
def test_same_bits_for_any_number_of_threads(kernel, dtype, threads):
    mesh, positions, raster, image = ball(dtype, kernel.device, 3, (61, 83))
    leaves = image.requires_grad_(), positions.requires_grad_()
    cotangent = torch.randn(image.shape, generator=generator(0), dtype=torch.float64).to(image)
    first = None
    for count in (1, 2, 3, 1):
        threads(count)
        out = fk.antialias(leaves[0], raster, leaves[1], mesh)
        result = [out.detach(), *torch.autograd.grad(out, leaves, cotangent)]
        first = first or result
        for one, other in zip(result, first, strict=True):
            assert_same_bits(one, other, f"{count} threads")


def _raster(**change):
    tensors = {"face_index": torch.zeros(2, 5, 6).int(), "barycentrics": None, "depth": torch.zeros(2, 5, 6)}
    return fk.Raster(**{**tensors, **change})


ERRORS = [
    ({"image": None}, TypeError, "image to be a torch.Tensor, got NoneType"),
    ({"image": torch.zeros(2, 5, 6)}, ValueError, r"image to be shape \[\*, \*, \*, \*\], got \[2, 5, 6\]"),
    ({"image": torch.zeros(3, 1, 5, 6)}, ValueError, r"positions to be shape \[3, \*, 3\], got \[2, 3, 3\]"),
    ({"image": torch.zeros(2, 1, 5, 7)}, ValueError, r"raster.face_index to be shape \[2, 5, 7\], got \[2, 5, 6\]"),
    ({"positions": torch.zeros(2, 3, 3).double()}, TypeError, "positions to be float32 as image, got float64"),
    ({"positions": torch.zeros(2, 4, 3)}, ValueError, r"positions to be shape \[\*, 3, 3\], got \[2, 4, 3\]"),
    ({"raster": (1, 2, 3)}, TypeError, "raster to be a focus_kernels.Raster, got tuple"),
    ({"raster": _raster(face_index=None)}, TypeError, "raster.face_index to be a torch.Tensor, got NoneType"),
    (
        {"raster": _raster(face_index=torch.zeros(2, 5, 6).long())},
        TypeError,
        "raster.face_index to be int32, got int64",
    ),
    ({"raster": _raster(depth=None)}, TypeError, "raster.depth to be a torch.Tensor, got NoneType"),
    (
        {"raster": _raster(depth=torch.zeros(2, 5, 6, 1))},
        ValueError,
        r"raster.depth to be shape \[2, 5, 6\], got \[2, 5, 6, 1\]",
    ),
    ({"topology": 3}, TypeError, "topology to be a focus_kernels.Topology, got int"),
]


@pytest.mark.parametrize("change, kind, message", ERRORS)
def test_errors(change, kind, message):
    arguments = {
        "image": torch.zeros(2, 1, 5, 6),
        "raster": _raster(),
        "positions": torch.zeros(2, 3, 3),
        "topology": topology([[0, 1, 2]], 3),
        **change,
    }
    with pytest.raises(kind, match=r"antialias\(\): expected " + message):
        fk.antialias(**arguments)
