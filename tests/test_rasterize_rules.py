"""What rasterize promises about geometry: no holes, no doubles, dropped triangles, ties, symmetries, the same bits."""

import pytest
import torch
from meshes import generator, scene, sphere, topology, triangles
from tolerances import assert_same_bits

import focus_kernels as fk

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
FRONT = [(1, 1), (1, 9), (9, 1)]  # counter-clockwise to the viewer


def net(seed: int, n: int, pitch: float, grid: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """A jittered net of n x n cells, pitch in pixels, corners rounded to `grid`: xy [V, 2] and front faces [F, 3]."""
    g = generator(seed)
    row, column = torch.meshgrid(torch.arange(n + 1), torch.arange(n + 1), indexing="ij")
    xy = torch.stack([column, row], -1).reshape(-1, 2).double()
    xy = (xy - 0.75 + 0.4 * (torch.rand(xy.shape, generator=g, dtype=torch.float64) - 0.5)) * pitch
    if grid is not None:
        xy = (xy / grid).round() * grid
    xy = xy.float().double()
    a = (row * (n + 1) + column)[:-1, :-1].reshape(-1)
    b, c, d = a + 1, a + n + 1, a + n + 2
    flip = torch.rand(len(a), generator=g) < 0.5
    first = torch.where(flip[:, None], torch.stack([a, c, b], 1), torch.stack([a, c, d], 1))
    second = torch.where(flip[:, None], torch.stack([b, c, d], 1), torch.stack([a, d, b], 1))
    return xy, torch.cat([first, second])


def signed_areas(xy, faces):
    v0, v1, v2 = (xy[faces[:, k]] for k in range(3))
    return (v1[:, 0] - v0[:, 0]) * (v2[:, 1] - v0[:, 1]) - (v2[:, 0] - v0[:, 0]) * (v1[:, 1] - v0[:, 1])


@DTYPES
@pytest.mark.parametrize(
    "pitch, grid", [(2.0, 0.5), (3.0, 0.25), (0.7, 0.125), (1.37, None), (0.41, None)], ids=lambda value: str(value)
)
def test_each_sample_of_a_net_is_covered_once(backend, dtype, pitch, grid):
    size = (8, 7)
    n = int(10 / pitch) + 2
    xy, faces = net(3, n, pitch, grid)
    assert (signed_areas(xy, faces) < 0).all()
    if grid == 0.5:
        on_sample = ((xy % 1) == 0.5).all(1) & (xy > 0).all(1) & (xy < 7).all(1)
        assert on_sample.sum() > 2
    # One image per face: how many faces claim each sample?
    alone = torch.cat([xy[faces], torch.ones(len(faces), 3, 1, dtype=torch.float64)], 2).to(backend.device, dtype)
    one = topology([[0, 1, 2]], 3, backend.device)
    claims = lambda coverage: (fk.rasterize(alone, one, size, coverage=coverage).face_index == 0).sum(0)
    assert (claims("top_left") == 1).all()
    if grid is not None:
        inclusive, strict = claims("inclusive"), claims("strict")
        assert (inclusive >= 1).all() and (strict <= 1).all()
        assert grid < 0.5 or ((inclusive > 1).any() and (strict < 1).any())
    # The same with the winding turned round.
    back = fk.rasterize(alone[:, [0, 2, 1]], one, size, cull="front").face_index == 0
    assert (back.sum(0) == 1).all()
    positions = torch.cat([xy, torch.ones(len(xy), 1, dtype=torch.float64)], 1)[None].to(backend.device, dtype)
    assert (fk.rasterize(positions, topology(faces, len(xy), backend.device), size).face_index >= 0).all()


@DTYPES
def test_closed_mesh_has_one_front_and_one_back(backend, dtype):
    size = (40, 40)
    vertices, faces = sphere(9, 14.0)
    g = generator(1)
    xy = vertices[:, :2] + 20 + torch.rand(2, generator=g, dtype=torch.float64)
    positions = torch.cat([xy, 100 - vertices[:, 2:]], 1)[None].to(backend.device, dtype)
    mesh = topology(faces, len(vertices), backend.device)
    front, back = (fk.rasterize(positions, mesh, size, cull=cull) for cull in ("back", "front"))
    assert ((front.face_index >= 0) == (back.face_index >= 0)).all()
    both = fk.rasterize(positions, mesh, size, cull=None)
    seen = front.face_index >= 0
    nearest = torch.minimum(front.depth, back.depth)
    assert_same_bits(both.depth, nearest)
    assert seen.sum() > 500 and both.depth[~seen].eq(0).all()


BAD = [
    *[(axis, value) for axis in range(3) for value in (torch.nan, torch.inf, -torch.inf)],
    *[(axis, sign * 1.01 * 2.0**23) for axis in range(2) for sign in (1, -1)],
    *[(2, value) for value in (0.0, -0.0, -1.0, -1e20, 0.99e-18, 1.01e18)],
]


@DTYPES
@pytest.mark.parametrize("axis, value", BAD, ids=str)
@pytest.mark.parametrize("corner", range(3))
def test_dropped_triangles(backend, dtype, axis, value, corner):
    # Face 0 has a bad corner and lies nearer; face 1 is behind it; face 2 shares the bad corner.
    positions = triangles(FRONT * 2 + [(20, 20)], [1.0] * 3 + [2.0] * 3 + [1.0], dtype)
    positions[0, corner, axis] = value
    positions = positions.to(backend.device).requires_grad_()
    mesh = topology([[0, 1, 2], [3, 4, 5], [corner, 4, 6], [corner, 6, 4]], 7, backend.device)
    for cull in ("back", None):
        raster = fk.rasterize(positions, mesh, (12, 12), cull=cull)
        assert set(raster.face_index.unique().tolist()) == {-1, 1}
        grad = torch.autograd.grad(raster.depth.sum() + (raster.barycentrics**2).sum(), positions)[0]
        assert grad[0, :3].eq(0).all() and grad[0, 6].eq(0).all()
        assert grad.isfinite().all() and grad[0, 3:6].ne(0).any()


@DTYPES
def test_limits_of_the_coordinates_are_inside(backend, dtype):
    far = 2.0**23
    for z in (1e-18, 1.0, 1e18):
        z = float(torch.tensor(z, dtype=dtype))
        z = (
            z
            if 1e-18 <= z <= 1e18
            else float(torch.nextafter(torch.tensor(z, dtype=dtype), torch.tensor(1.0).to(dtype)))
        )
        positions = triangles([(-far, -far), (-far, far), (far, -far)], z, dtype).to(backend.device).requires_grad_()
        raster = fk.rasterize(positions, topology([[0, 1, 2]], 3, backend.device), (5, 6))
        # Centres strictly inside: x + y < 0 holds nowhere here, so only the hypotenuse decides.
        assert (raster.face_index == -1).all()
        wide = positions.detach() * torch.tensor([1, 1, 1], dtype=dtype, device=backend.device)
        wide[0, 0, :2] = far
        wide = wide[:, [0, 2, 1]].requires_grad_()
        raster = fk.rasterize(wide, topology([[0, 1, 2]], 3, backend.device), (5, 6), cull=None)
        assert (raster.face_index == 0).all()
        torch.testing.assert_close(raster.depth.double(), torch.full_like(raster.depth, z).double(), rtol=1e-6, atol=0)
        grad = torch.autograd.grad(raster.barycentrics[..., 0].sum(), wide)[0]
        assert grad.isfinite().all()


@DTYPES
def test_degenerate_triangles(backend, dtype):
    positions = triangles([*FRONT, (5, 5), (3, 3), (7, 7), (0.5, 0.5)], [2.0] * 3 + [1.0] * 4, dtype)
    positions = positions.to(backend.device).requires_grad_()
    # A point, a line, a line through sample centres, a repeated vertex, three times one vertex.
    faces = [[3, 3, 3], [3, 4, 5], [6, 4, 5], [0, 1, 1], [2, 0, 2], [6, 6, 6]]
    alone = fk.rasterize(positions, topology(faces, 7, backend.device), (10, 10), cull=None, coverage="inclusive")
    assert (alone.face_index == -1).all()
    mesh = topology([*faces, [0, 1, 2]], 7, backend.device)
    raster = fk.rasterize(positions, mesh, (10, 10), cull=None, coverage="inclusive")
    assert set(raster.face_index.unique().tolist()) == {-1, 6}
    grad = torch.autograd.grad(raster.depth.sum() + (raster.barycentrics**2).sum(), positions)[0]
    assert grad.isfinite().all() and grad[0, 3:].eq(0).all()


@DTYPES
def test_off_screen_triangles(backend, dtype):
    shifts = [(-20, 0), (20, 0), (0, -20), (0, 20), (-1e6, 1e6)]
    xy = [(x + dx, y + dy) for dx, dy in shifts for x, y in FRONT]
    positions = triangles(xy, 1.0, dtype).to(backend.device).requires_grad_()
    raster = fk.rasterize(positions, topology(torch.arange(15), 15, backend.device), (10, 10), cull=None)
    assert (raster.face_index == -1).all()
    grad = torch.autograd.grad(raster.depth.sum() + raster.barycentrics.sum(), positions)[0]
    assert grad.eq(0).all()


def test_background_is_exactly_zero(backend):
    positions = triangles(FRONT).float().to(backend.device)
    raster = fk.rasterize(positions, topology([[0, 1, 2]], 3, backend.device), (12, 12))
    empty = raster.face_index == -1
    assert 0 < empty.sum() < 144
    assert_same_bits(raster.depth[empty], torch.zeros_like(raster.depth[empty]))
    assert_same_bits(raster.barycentrics[empty], torch.zeros_like(raster.barycentrics[empty]))


def test_hidden_triangles_have_no_gradient(backend):
    positions = triangles(FRONT * 2, [1.0, 1.5, 1.25, 3.0, 4.0, 5.0]).to(backend.device).requires_grad_()
    raster = fk.rasterize(positions, topology([[0, 1, 2], [3, 4, 5]], 6, backend.device), (12, 12))
    assert (raster.face_index < 1).all()
    grad = torch.autograd.grad((raster.depth**2).sum() + (raster.barycentrics**2).sum(), positions)[0]
    assert grad[0, :3].ne(0).any() and grad[0, 3:].eq(0).all()


@pytest.mark.parametrize("perspective", [True, False])
def test_ties(backend, perspective):
    positions = triangles(FRONT, [1.0, 2.0, 3.0]).to(backend.device)
    mesh = topology([[0, 1, 2]] * 5, 3, backend.device)
    for tie, winner in (("lowest", 0), ("highest", 4)):
        raster = fk.rasterize(positions, mesh, (12, 12), tie=tie, perspective_correct=perspective)
        assert set(raster.face_index.unique().tolist()) == {-1, winner}


def test_many_layers(backend):
    """300 faces over one another, nearest in the middle of the list: the order of the faces decides nothing."""
    depths = torch.randperm(300, generator=generator(0)).double() + 1
    xy = torch.tensor(FRONT, dtype=torch.float64).expand(300, 3, 2)
    positions = torch.cat([xy, depths[:, None, None].expand(300, 3, 1)], 2).reshape(1, 900, 3).to(backend.device)
    raster = fk.rasterize(positions, topology(torch.arange(900), 900, backend.device), (12, 12))
    assert set(raster.face_index.unique().tolist()) == {-1, int(depths.argmin())}


def ball(B: int, size, rings: int, dtype, device, grid: float | None = None):
    tensors = scene(5, B, rings, size)
    positions = fk.Camera(tensors["K"], tensors["R"], tensors["t"]).project(tensors["vertices"])
    if grid is not None:
        positions[..., :2] = (positions[..., :2] / grid).round() * grid
    return positions.to(device, dtype), topology(tensors["faces"], positions.shape[1], device)


@DTYPES
def test_translation_by_whole_pixels(backend, dtype):
    # On a grid of 1/64 px nothing rounds, so the moved image is the image, bit for bit.
    positions, mesh = ball(2, (30, 30), 8, dtype, backend.device, 1 / 64)
    raster = fk.rasterize(positions, mesh, (30, 30))
    moved = fk.rasterize(positions + torch.tensor([5.0, 9, 0]).to(positions), mesh, (39, 35))
    for one, other in zip(moved, raster, strict=True):
        assert_same_bits(one[:, 9:, 5:], other)


@DTYPES
def test_order_of_faces_and_corners(backend, dtype):
    positions, mesh = ball(2, (30, 30), 8, dtype, backend.device)
    order = torch.randperm(mesh.num_faces, generator=generator(2)).to(backend.device)
    raster = fk.rasterize(positions, mesh, (30, 30))
    shuffled = fk.rasterize(positions, topology(mesh.faces[order], mesh.num_vertices, backend.device), (30, 30))
    seen = shuffled.face_index >= 0
    back = torch.where(seen, order[shuffled.face_index.clamp(min=0).long()], -1).int()
    assert_same_bits(back, raster.face_index)
    assert_same_bits(shuffled.barycentrics, raster.barycentrics)
    assert_same_bits(shuffled.depth, raster.depth)
    turned = fk.rasterize(positions, topology(mesh.faces.roll(1, 1), mesh.num_vertices, backend.device), (30, 30))
    assert_same_bits(turned.face_index, raster.face_index)
    # The sums run in another order: a few roundings.
    torch.testing.assert_close(
        turned.barycentrics.roll(-1, 3), raster.barycentrics, rtol=0, atol=8 * torch.finfo(dtype).eps
    )


@DTYPES
def test_same_bits_for_any_number_of_threads(kernel, dtype, threads):
    positions, mesh = ball(3, (61, 83), 30, dtype, kernel.device)
    cotangents = None
    first = None
    for count in (1, 2, 3, 1):
        threads(count)
        leaf = positions.clone().requires_grad_()
        raster = fk.rasterize(leaf, mesh, (61, 83))
        if cotangents is None:
            draw = lambda like: torch.randn(like.shape, generator=generator(0), dtype=torch.float64).to(like)
            cotangents = [draw(raster.barycentrics), draw(raster.depth)]
        grad = torch.autograd.grad(raster[1:], leaf, cotangents)[0]
        result = [out.detach() for out in raster] + [grad]
        first = first or result
        for one, other in zip(result, first, strict=True):
            assert_same_bits(one, other, f"{count} threads")


@pytest.mark.parametrize("perspective", [True, False])
def test_barycentrics_rebuild_the_sample(backend, perspective):
    """Weights sum to 1, are not negative, and (affine) give back the pixel centre."""
    positions, mesh = ball(2, (30, 31), 6, torch.float64, backend.device)
    index, bary, depth = fk.rasterize(positions, mesh, (30, 31), perspective_correct=perspective)
    image, row, column = (index >= 0).nonzero().unbind(1)
    weights = bary[image, row, column]
    corners = positions[image[:, None], mesh.faces.long()[index[image, row, column].long()]]  # [N, 3, 3]
    z = corners[..., 2]
    torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]), rtol=0, atol=1e-15)
    assert (weights >= 0).all()
    seen = depth[image, row, column]
    if perspective:
        torch.testing.assert_close(1 / seen, (weights * z).sum(1) ** -1, rtol=1e-13, atol=0)
        weights = weights * z / (weights * z).sum(1, keepdim=True)
        torch.testing.assert_close(seen, 1 / (weights / z).sum(1), rtol=1e-13, atol=0)
    else:
        torch.testing.assert_close(seen, (weights * z).sum(1), rtol=1e-13, atol=0)
    centre = torch.stack([column + 0.5, row + 0.5], 1).to(weights)
    torch.testing.assert_close((weights[..., None] * corners[..., :2]).sum(1), centre, rtol=0, atol=1e-11)
