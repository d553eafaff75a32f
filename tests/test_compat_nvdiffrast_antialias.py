"""`compat.nvdiffrast.antialias` against its rule written out pair by pair in float64, and against coverage by hand.

Where nvdiffrast itself is installed and there is a GPU, the tests that take `dr` hold it to the same rule.
"""

import numpy as np
import pytest
import torch
from nvdiffrast_impl import IMPLEMENTATIONS, implementation

import focus_kernels.compat.nvdiffrast as ours

CTX = ours.RasterizeCudaContext()


@pytest.fixture(params=IMPLEMENTATIONS)
def dr(request):
    return implementation(request.param)


def ball(seed=0, batch=2, pieces=1):
    """Lumpy octahedra, subdivided once: clip-space positions [B, V, 4] and faces, all in the frustum, in float64."""
    rng = np.random.default_rng(seed)
    points = [np.array(p, float) for p in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))]
    coarse = [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)]
    middle, faces = {}, []
    for a, b, c in coarse:
        for pair in ((a, b), (b, c), (c, a)):
            if tuple(sorted(pair)) not in middle:
                middle[tuple(sorted(pair))] = len(points)
                total = points[pair[0]] + points[pair[1]]
                points.append(total / np.linalg.norm(total))
        ab, bc, ca = (middle[tuple(sorted(pair))] for pair in ((a, b), (b, c), (c, a)))
        faces += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    sphere, count = np.array(points), len(points)
    images = []
    for _ in range(batch):
        parts = []
        for _ in range(pieces):
            radius = rng.uniform(0.25, 0.42) * rng.uniform(0.9, 1.1, (count, 1))
            xyz = sphere * radius + rng.uniform(-0.1, 0.1, 3)
            w = 2 + 0.5 * xyz[:, 2:]
            parts.append(np.concatenate([xyz[:, :2] * 3.2, xyz[:, 2:] * 2, w], 1))
        images.append(np.concatenate(parts))
    # multiples of 2^-14 are the same numbers in float32
    pos = np.round(np.stack(images) * 2**14) / 2**14
    return pos, np.concatenate([np.array(faces) + i * count for i in range(pieces)])


def across(faces, face, ends, own):
    """The third vertex of the other faces at an edge, brute force."""
    third = [v for f in faces if set(ends) <= set(f) for v in f if v not in ends]
    return sorted(set(third) - {own})


def signed(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def by_rule(color, rast, pos, faces):
    """The rule for one image, in pixels, one pair at a time; all w > 0. Also how many pairs were blended."""
    height, width, _ = color.shape
    half = np.array([width, height]) / 2
    pixels = (pos[:, :2] / pos[:, 3:] + 1) * half - 0.5  # pixel centres are integers
    out, blended = color.copy(), 0
    for axis in (0, 1):  # x, y
        for row, column in np.ndindex(height - axis, width - (1 - axis)):
            p0, p1 = (row, column), (row + axis, column + 1 - axis)
            n0, n1 = int(rast[p0][3]), int(rast[p1][3])
            if n0 == n1:
                continue
            z0, z1 = (rast[p][2] if n else np.inf for p, n in ((p0, n0), (p1, n1)))
            second = not z0 < z1
            face = faces[(n1 if second else n0) - 1]
            centre, way = (p1, -1) if second else (p0, 1)
            line, start = centre[axis], centre[1 - axis]
            found = []  # the row or column through the triangle: (distance from the centre, the edge)
            for k in range(3):
                a, b = pixels[face[(k + 1) % 3]], pixels[face[(k + 2) % 3]]
                if (a[1 - axis] < line) == (b[1 - axis] < line):
                    continue
                share = (line - a[1 - axis]) / (b[1 - axis] - a[1 - axis])
                found.append((way * (a[axis] + share * (b[axis] - a[axis]) - start), k))
            if not found:
                continue
            dc, k = max(found)  # where it is left
            a, b, c = (pixels[face[(k + i) % 3]] for i in (1, 2, 0))
            others = across(faces, face, (face[(k + 1) % 3], face[(k + 2) % 3]), face[k])
            outline = not others or signed(a, b, c) * signed(a, b, pixels[others[0]]) >= 0
            steep = abs(b[1] - a[1]) > abs(b[0] - a[0])
            if not outline or steep != (axis == 0) or not -1 / 16 <= dc <= 1 + 1 / 16:
                continue
            alpha = way * (0.5 - np.clip(dc, 0, 1))
            blended += 1
            if alpha > 0:
                out[p0] += alpha * (color[p1] - color[p0])
            else:
                out[p1] -= alpha * (color[p0] - color[p1])
    return out, blended


def colors(seed, shape):
    return np.round(np.random.default_rng(seed).uniform(size=shape) * 256) / 256


@pytest.mark.parametrize("size", [(24, 24), (17, 30)])
@pytest.mark.parametrize("pieces", [1, 3])
def test_pair_by_pair(dr, size, pieces):
    pos, faces = ball(size[0] + pieces, pieces=pieces)
    rast, _ = dr.rasterize(dr.context, dr.floats(pos), dr.ints(faces), size)
    color = colors(1, (2, *size, 3))
    out = dr.antialias(dr.floats(color), rast, dr.floats(pos), dr.ints(faces))
    assert out.shape == color.shape and out.dtype == dr.dtype
    for b in range(2):
        want, blended = by_rule(color[b], rast[b].cpu().numpy().astype(float), pos[b], faces)
        assert blended > 10
        # crossings are quotients of numbers of the order of the image size
        tolerance = 1e-12 if dr.dtype == torch.float64 else 1e-4
        np.testing.assert_allclose(out[b].cpu().numpy(), want, atol=tolerance, rtol=0)


def test_surfaces_without_connection_and_with_odd_windings():
    # a strip whose faces wind differently, a face on both sides, and three faces at one edge
    # (x, y, z) of 12 vertices: each of the three groups in a part of the view of its own
    xyz = [(-0.9, -0.9, 0), (-0.1, -0.8, 0), (-0.7, -0.1, 0), (-0.2, 0.1, 0), (0.1, -0.9, 0), (0.9, -0.7, 0.2)]
    xyz += [(0.4, -0.1, 0), (-0.8, 0.3, 0), (0.8, 0.4, 0.1), (-0.3, 0.9, -0.3), (0.5, 0.8, 0.4), (0.2, 0.1, 0.3)]
    pos = np.concatenate([np.array([xyz]), np.ones((1, 12, 1))], 2)
    faces = np.array([[0, 1, 2], [1, 2, 3], [4, 5, 6], [6, 5, 4], [7, 8, 9], [7, 8, 10], [8, 7, 11]])
    rast, _ = ours.rasterize(CTX, torch.from_numpy(pos), torch.from_numpy(faces), (20, 20))
    assert len(rast[..., 3].unique()) == 7  # of two that coincide one
    color = colors(2, (1, 20, 20, 2))
    out = ours.antialias(torch.from_numpy(color), rast, torch.from_numpy(pos), torch.from_numpy(faces))
    want, blended = by_rule(color[0], rast[0].numpy(), pos[0], faces)
    assert blended > 30
    np.testing.assert_allclose(out[0].numpy(), want, atol=1e-12, rtol=0)


def half_plane(dr, edge, vertical=True, width=6, height=4, flip=False):
    """A quad that covers everything before `edge`, in pixels, and its rast."""
    size = width if vertical else height
    x = 2 * edge / size - 1
    corners = np.array([[-1, -1], [x, -1], [x, 1], [-1, 1]], float)
    if flip:
        corners[:, 0] *= -1
    if not vertical:
        corners = corners[:, ::-1]
    pos = dr.floats([np.concatenate([corners, np.full((4, 1), 0.5), np.ones((4, 1))], 1)])
    tri = dr.ints([[0, 1, 2], [0, 2, 3]])
    return pos, tri, dr.rasterize(dr.context, pos, tri, (height, width))[0]


@pytest.mark.parametrize("edge", [2.75, 3.0, 3.25, 3.4375])
@pytest.mark.parametrize("vertical", [True, False])
@pytest.mark.parametrize("flip", [False, True])
def test_coverage_of_an_upright_edge(dr, edge, vertical, flip):
    # of the pixels before and after the edge, the colour is their exact coverage
    size = 6
    pos, tri, rast = half_plane(dr, edge, vertical, size if vertical else 4, 4 if vertical else size, flip)
    color = (rast[..., 3:] > 0).to(dr.dtype)
    out = dr.antialias(color, rast, pos, tri)[0, :, :, 0]
    profile = (out[1] if vertical else out[:, 1]).cpu().numpy()
    profile = profile[::-1] if flip and vertical else profile
    profile = profile[::-1] if flip and not vertical else profile
    want = np.clip(edge - np.arange(size), 0, 1)
    np.testing.assert_allclose(profile, want, atol=1e-6)


def test_gradient_of_an_upright_edge(dr):
    pos, tri, rast = half_plane(dr, 2.75)
    color = (rast[..., 3:] > 0).to(dr.dtype).requires_grad_()
    pos.requires_grad_()
    out = dr.antialias(color, rast, pos, tri, pos_gradient_boost=3.0)
    grad_color, grad = torch.autograd.grad(out.sum(), (color, pos))
    # the sum grows by one for each of 4 rows when the edge moves one pixel, which is 1/3 in NDC, with both its ends
    assert grad[0, 1:3, 0].sum().item() == pytest.approx(3.0 * 4 * 3, rel=1e-5)
    assert not grad[0, [0, 3]].any() and not grad[..., 2].any() and grad[..., 3].any()
    # pixel 2 gives a quarter of itself away to pixel 3's colour
    assert grad_color[0, 0, :, 0].tolist() == pytest.approx([1, 1, 0.75, 1.25, 1, 1], abs=1e-6)
    (single,) = torch.autograd.grad(dr.antialias(color, rast, pos, tri).sum(), pos)
    torch.testing.assert_close(grad, 3 * single)


def test_no_gradient_at_half_a_pixel(dr):
    # the edge runs through pixel centres: the pixel after it takes half, and a step may go either way
    pos, tri, rast = half_plane(dr, 2.5)
    pos.requires_grad_()
    color = (rast[..., 3:] > 0).to(dr.dtype)
    out = dr.antialias(color, rast, pos, tri)
    np.testing.assert_allclose(out[0, 1, :, 0].detach().cpu().numpy(), [1, 1, 0.5, 0, 0, 0], atol=1e-6)
    assert not torch.autograd.grad(out.sum(), pos)[0].any()


def test_the_inside_of_a_surface_is_not_touched(dr):
    # a grid that fills the view: no edge is a silhouette, though every pixel may show another face
    side = np.linspace(-1.0, 1, 6)
    grid = np.stack([*np.meshgrid(side, side), np.zeros((6, 6)), np.ones((6, 6))], -1).reshape(1, 36, 4)
    first = np.arange(36).reshape(6, 6)[:-1, :-1].reshape(-1, 1)
    faces = np.concatenate([first + np.array(step) for step in ([0, 1, 6], [1, 7, 6])])
    rast, _ = dr.rasterize(dr.context, dr.floats(grid), dr.ints(faces), (16, 16))
    assert len(rast[..., 3].unique()) == 50
    color = dr.floats(colors(4, (1, 16, 16, 3)))
    assert torch.equal(dr.antialias(color, rast, dr.floats(grid), dr.ints(faces)), color)


def test_an_edge_that_reaches_behind_the_camera():
    # a wedge to the horizon, whole and cut by hand in front of the camera
    base = torch.tensor([[-0.6, -0.9, 0.0, -1.0], [0.5, -0.9, 0.0, -1.0]], dtype=torch.float64)
    tip = torch.tensor([[0.1, -0.9, 0.0, 9.0]], dtype=torch.float64)

    def road(near):
        return torch.cat([base + (near + 1) / 10 * (tip - base), tip])[None]

    tri = torch.tensor([[0, 1, 2]])
    images = []
    for near in (-1.0, 0.2):
        pos = road(near).requires_grad_()
        rast, _ = ours.rasterize(CTX, pos, tri, (24, 24))
        color = (rast[..., 3:] > 0).double()
        images.append((color, ours.antialias(color, rast, pos, tri)))
        (grad,) = torch.autograd.grad(images[-1][1].sum(), pos)
        assert grad.isfinite().all() and grad.any()
    assert torch.equal(images[0][0], images[1][0])
    assert (images[0][0] != images[0][1]).sum() > 10
    torch.testing.assert_close(images[0][1], images[1][1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_gradcheck(shared):
    pos, faces = ball(3, batch=1 if shared else 2)
    pos = torch.from_numpy(pos[0] if shared else pos).requires_grad_()
    tri = torch.from_numpy(faces)
    with torch.no_grad():
        rast, _ = ours.rasterize(CTX, pos if pos.dim() == 3 else pos[None], tri, (14, 15))
    color = torch.from_numpy(colors(5, (len(rast), 14, 15, 1))).requires_grad_()
    assert (ours.antialias(color, rast, pos, tri) != color).any(-1).sum() >= 8
    # the step is small so that no edge passes a centre
    still = color.detach()
    assert torch.autograd.gradcheck(lambda p: ours.antialias(still, rast, p, tri), (pos,), eps=1e-7, atol=1e-5)

    def both(color, pos):
        return ours.antialias(color, rast, pos, tri)

    assert torch.autograd.gradcheck(both, (color, pos), eps=1e-7, atol=1e-5, fast_mode=True)


def test_range_mode_positions_serve_every_image(dr):
    pos, faces = ball(12, batch=1)
    ranges = torch.tensor([[0, len(faces)], [0, 12]], dtype=torch.int32)
    rast, _ = dr.rasterize(dr.context, dr.floats(pos[0]), dr.ints(faces), (16, 16), ranges)
    color = colors(6, (2, 16, 16, 3))
    out = dr.antialias(dr.floats(color), rast, dr.floats(pos[0]), dr.ints(faces))
    for b in range(2):
        want, _ = by_rule(color[b], rast[b].cpu().numpy().astype(float), pos[0], faces)
        np.testing.assert_allclose(out[b].cpu().numpy(), want, atol=1e-12 if dr.dtype == torch.float64 else 1e-4)


def test_topology_hash(dr):
    pos, faces = ball(13)
    rast, _ = dr.rasterize(dr.context, dr.floats(pos), dr.ints(faces), (16, 16))
    color, tri = dr.floats(colors(7, (2, 16, 16, 3))), dr.ints(faces)
    known = dr.antialias_construct_topology_hash(tri)
    want = dr.antialias(color, rast, dr.floats(pos), tri)
    assert torch.equal(dr.antialias(color, rast, dr.floats(pos), tri, topology_hash=known), want)
    assert not torch.equal(want, color)


def test_faces_edited_in_place():
    # the second quad's faces stop sharing vertices with the first's, so that their common edge ends a surface
    pos, tri, rast = half_plane(implementation("ours-cpu"), 4.0)
    pos = torch.cat([pos, pos], 1)
    color = torch.from_numpy(colors(8, (1, 4, 6, 1)))
    before = ours.antialias(color, rast, pos, tri)
    tri[1] += 4
    assert not torch.equal(ours.antialias(color, rast, pos, tri), before)


def test_gradients_do_not_depend_on_threads(threads):
    pos, faces = ball(14, batch=1, pieces=6)
    pos, tri = torch.from_numpy(pos).float().requires_grad_(), torch.from_numpy(faces)
    with torch.no_grad():
        rast, _ = ours.rasterize(CTX, pos, tri, (160, 160))
    color, grads = torch.rand(1, 160, 160, 8, generator=torch.Generator().manual_seed(9)).requires_grad_(), []
    for count in (1, 4, 4):
        threads(count)
        out = ours.antialias(color, rast, pos, tri)
        grads.append(torch.autograd.grad(out.square().sum(), (pos, color)))
    for one, other in ((grads[0], grads[1]), (grads[1], grads[2])):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_narrow_images(shape):
    pos, tri, rast = half_plane(implementation("ours-cpu"), shape[1] / 2 + 0.2, width=shape[1], height=shape[0])
    color = torch.from_numpy(colors(10, (1, *shape, 2)))
    out = ours.antialias(color, rast, pos, tri)
    want, _ = by_rule(color[0].numpy(), rast[0].numpy(), pos[0].numpy(), tri.numpy())
    np.testing.assert_allclose(out[0].numpy(), want, atol=1e-12)


def test_other_colours_need_not_be_finite(dr):
    pos, tri, rast = half_plane(dr, 3.2)
    color = torch.rand(1, 4, 6, 2, generator=torch.Generator().manual_seed(0)).to(pos)
    expected = dr.antialias(color, rast, pos, tri)
    wild = color.clone()
    wild[0, 1, 0], wild[0, 2, 5] = torch.inf, torch.nan  # nothing ends beside them
    out = dr.antialias(wild, rast, pos, tri)
    other = wild.isfinite()
    assert torch.equal(out[other], expected[other]) and torch.equal(out[~other].isnan(), wild[~other].isnan())
    assert not torch.equal(expected, color)


def test_no_channels_and_wild_positions():
    pos, tri, rast = half_plane(implementation("ours-cpu"), 3.2)
    assert ours.antialias(torch.zeros(1, 4, 6, 0).double(), rast, pos, tri).shape == (1, 4, 6, 0)
    color = (rast[..., 3:] > 0).double()
    for wild in (torch.nan, torch.inf, 1e308, 0.0):
        moved = torch.where(pos == pos[0, 1, 0], wild, pos).requires_grad_()
        out = ours.antialias(color, rast, moved, tri)
        (grad,) = torch.autograd.grad(out.sum(), moved)
        assert out.isfinite().all() and grad.isfinite().all()
    rast[..., 2] = torch.nan
    want = ours.antialias(color, half_plane(implementation("ours-cpu"), 3.2)[2], pos, tri)
    assert torch.equal(ours.antialias(color, rast, pos, tri), want)  # nothing but background is beside it


def test_errors():
    pos, tri, rast = half_plane(implementation("ours-cpu"), 3.2)
    color = torch.zeros(1, 4, 6, 3, dtype=torch.float64)

    def fails(kind, message, **changed):
        with pytest.raises(kind, match=rf"antialias\(\): expected {message}"):
            ours.antialias(**{"color": color, "rast": rast, "pos": pos, "tri": tri, **changed})

    fails(TypeError, "color to be a torch.Tensor, got float", color=0.0)
    fails(TypeError, "rast to be float64 as color, got float32", rast=rast.float())
    fails(TypeError, "pos to be float64 as color, got float32", pos=pos.float())
    fails(ValueError, r"color to be shape \[\*, \*, \*, \*\]", color=color[0])
    fails(ValueError, r"rast to be shape \[1, 4, 6, 4\], got \[1, 4, 6, 3\]", rast=rast[..., :3])
    fails(ValueError, r"pos to be shape \[\*, \*, 4\]", pos=pos[..., :3])
    fails(ValueError, "pos to be of batch 1 or 1 as color, got 2", pos=torch.cat([pos, pos]))
    fails(ValueError, r"tri to be in \[0, 4\), got 4", tri=tri + 1)
    fails(TypeError, "topology_hash to be what .* gives, got int", topology_hash=1)
    other = ours.antialias_construct_topology_hash(tri[:1])
    fails(ValueError, "topology_hash to be of the 2 faces of tri, got 1", topology_hash=other)
    other = ours.antialias_construct_topology_hash(tri + 3)
    fails(ValueError, "topology_hash to be of the 4 vertices of pos, got 7", topology_hash=other)
    fails(TypeError, "pos_gradient_boost to be a number, got str", pos_gradient_boost="2")
    with pytest.raises(TypeError, match=r"antialias_construct_topology_hash\(\): expected tri to be an integer tensor"):
        ours.antialias_construct_topology_hash(tri.float())
    with pytest.raises(
        ValueError, match=r"antialias_construct_topology_hash\(\): expected tri to be in \[0, 6\), got -1"
    ):
        ours.antialias_construct_topology_hash(tri * 2 - 1)
