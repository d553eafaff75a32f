"""rasterize_clip against exact rational arithmetic at every pixel, its geometry, its gradients and its arguments."""

import pytest
import torch
from clip_rules import clip_soup, compare, layers
from meshes import generator, sphere, topology
from tolerances import assert_accurate, assert_same_bits

import focus_kernels as fk
from focus_kernels.ops.rasterize_clip import ref

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


@DTYPES
@pytest.mark.parametrize("size", [(7, 7), (5, 12), (13, 3), (1, 9)], ids=str)
@pytest.mark.parametrize("spread", [0.15, 1.0], ids=["small", "clipped"])
def test_exact_arithmetic(backend, dtype, size, spread):
    positions, faces = zip(*(clip_soup(seed, 9, spread=spread) for seed in (sum(size), 1)), strict=True)
    faces = torch.cat([faces[0], faces[0][:2], faces[0][3:5].roll(1, 1)])  # repeated: the highest of equals wins
    given = torch.stack(positions).to(backend.device, dtype)
    raster = fk.rasterize_clip(given, topology(faces, 27, backend.device), size, derivatives=True)
    for b in range(2):
        compare(raster, b, positions[b], faces, size, layers(positions[b], faces, size))


@DTYPES
def test_exact_arithmetic_on_samples(backend, dtype):
    """All corners on pixel centres: many samples lie on edges and corners, and depths are often equal."""
    size = (8, 16)
    positions, faces = clip_soup(3, 40, spread=0.3)
    positions[:, 3] = 1
    grid = torch.tensor([8.0, 4.0])
    positions[:, :2] = ((positions[:, :2] * grid - 0.5).round() + 0.5) / grid
    positions[:, 2] = (positions[:, 2] * 2).round() / 2
    faces = torch.cat([faces, faces[:5]])
    given = positions[None].to(backend.device, dtype)
    raster = fk.rasterize_clip(given, topology(faces, 120, backend.device), size, derivatives=True)
    want = layers(positions, faces, size)
    assert sum(f >= 40 for pixel in want.values() for _, f in pixel[:1]) > 5
    assert compare(raster, 0, positions, faces, size, want) > 20


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["x", "y", "z"])
@pytest.mark.parametrize("sign", [1, -1])
def test_each_plane_clips(backend, axis, sign):
    """One corner beyond one plane: what is left is the part inside."""
    size = (9, 10)
    positions = torch.tensor([[-0.8, -0.7, -0.6, 1], [0.9, -0.6, 0.2, 1.0], [0.1, 0.8, 0.5, 1]]).double() * 1.1
    positions[:, 3] = torch.tensor([1.0, 1.3, 0.9])
    positions[2 if (axis, sign) == (1, 1) else 1, axis] = sign * 2.5
    mesh = topology([[0, 1, 2]], 3, backend.device)
    raster = fk.rasterize_clip(positions[None].to(backend.device), mesh, size, derivatives=True)
    want = layers(positions, torch.tensor([[0, 1, 2]]), size)
    assert 5 < len(want) < 90
    compare(raster, 0, positions, torch.tensor([[0, 1, 2]]), size, want)


def test_a_corner_behind_the_eye(backend):
    """w < 0 at one corner: the face goes on to infinity, and is cut there."""
    size = (8, 8)
    positions = torch.tensor([[-0.5, -0.5, 0.1, 1], [0.5, -0.5, 0.1, 1], [0.1, 3.0, -0.3, -1]]).double()
    mesh = topology([[0, 1, 2]], 3, backend.device)
    raster = fk.rasterize_clip(positions[None].to(backend.device), mesh, size, derivatives=True)
    want = layers(positions, torch.tensor([[0, 1, 2]]), size)
    assert any(pixel[0] == 7 for pixel in want)
    compare(raster, 0, positions, torch.tensor([[0, 1, 2]]), size, want)


@pytest.mark.parametrize("seed", [0, 4])
def test_peeling_shows_every_layer_in_order(backend, seed):
    size = (6, 9)
    positions, faces = clip_soup(seed, 8)
    want = layers(positions, faces, size)
    assert max(map(len, want.values())) >= 3
    mesh, given = topology(faces, 24, backend.device), positions[None].to(backend.device)
    behind = None
    for _ in range(10):
        raster = fk.rasterize_clip(given, mesh, size, behind=behind, derivatives=True)
        compare(raster, 0, positions, faces, size, want)
        want = {pixel: rest[1:] for pixel, rest in want.items() if rest[1:]}
        behind = raster.nearest
    assert not want and bool((raster.face_index == -1).all())


def test_peeling_behind_nothing_and_behind_nan(backend):
    positions, faces = clip_soup(2, 6)
    mesh, given = topology(faces, 18, backend.device), positions[None].to(backend.device)
    plain = fk.rasterize_clip(given, mesh, (5, 6))
    before = torch.full_like(plain.nearest, -torch.inf)
    same = fk.rasterize_clip(given, mesh, (5, 6), behind=before)
    assert_same_bits(same.face_index, plain.face_index)
    assert_same_bits(same.nearest, plain.nearest)
    assert bool((fk.rasterize_clip(given, mesh, (5, 6), behind=before * torch.nan).face_index == -1).all())


@DTYPES
def test_ranges(backend, dtype):
    """Each image draws its own faces, with their numbers in the whole list."""
    size = (6, 7)
    positions, faces = clip_soup(5, 10)
    ranges = torch.tensor([[0, 10], [2, 5], [9, 1], [4, 0], [10, 0]], dtype=torch.int32)
    given = positions.expand(5, -1, -1).to(backend.device, dtype)
    mesh = topology(faces, 30, backend.device)
    raster = fk.rasterize_clip(given, mesh, size, ranges=ranges, derivatives=True)
    for b, (first, count) in enumerate(ranges.tolist()):
        compare(raster, b, positions, faces, size, layers(positions, faces[first : first + count], size, first))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_ranges_on_a_gpu_are_cut_to_the_mesh():
    positions, faces = clip_soup(5, 10)
    ranges = torch.tensor([[-3, 5], [8, 9], [2**31 - 1, 2**31 - 1], [-(2**31), -1]], dtype=torch.int32)
    same = torch.tensor([[0, 2], [8, 2], [0, 0], [0, 0]], dtype=torch.int32)
    given, mesh = positions.expand(4, -1, -1).cuda(), topology(faces, 30, "cuda")
    got, want = (fk.rasterize_clip(given, mesh, (6, 7), ranges=value.cuda()).face_index for value in (ranges, same))
    assert torch.equal(got, want)


def square(low, high, size):
    """Two triangles over [low, high] pixels both ways; z = 0, w = 1."""
    at = torch.tensor([[low, low], [high, low], [low, high], [high, high]], dtype=torch.float64)
    xy = at * 2 / torch.tensor([size[1], size[0]]) - 1
    return torch.cat([xy, torch.tensor([[0.0, 1]]).expand(4, 2)], 1), torch.tensor([[0, 1, 2], [2, 1, 3]])


def test_samples_on_top_and_left_edges_are_inside(backend):
    """Row 0 is the bottom of the view and the top of the tensor: of the border, the first row and column are drawn."""
    size = (8, 8)
    positions, faces = square(1.5, 4.5, size)
    mesh = topology(faces, 4, backend.device)
    index = fk.rasterize_clip(positions[None].to(backend.device), mesh, size).face_index[0].cpu()
    want = torch.zeros(8, 8, dtype=torch.bool)
    want[1:4, 1:4] = True
    assert torch.equal(index >= 0, want)
    # The diagonal runs through samples: a left edge of face 1.
    assert [int(index[2, 2]), int(index[2, 3]), int(index[3, 2])] == [0, 1, 1]


def alone(positions, faces, size, device):
    """[F, H, W]: what each face covers by itself, as images of one call."""
    F = len(faces)
    ranges = torch.stack([torch.arange(F), torch.ones(F, dtype=torch.long)], 1).int()
    given = positions.expand(F, -1, -1).to(device)
    return fk.rasterize_clip(given, topology(faces, len(positions), device), size, ranges=ranges).face_index.cpu() >= 0


@pytest.mark.parametrize("seed", range(4))
def test_a_mesh_over_the_view_covers_each_sample_once(backend, seed):
    """A tilted, wavy grid that crosses the border of the view, vertices on samples among them: no holes, no doubles."""
    size, n = ((9, 16), (12, 12), (16, 7), (11, 13))[seed], 6
    g = generator(seed)
    v, u = torch.meshgrid(*[torch.linspace(-1.5, 1.5, n, dtype=torch.float64)] * 2, indexing="ij")
    shake = 0.3 * (torch.rand(n, n, 2, generator=g, dtype=torch.float64) - 0.5)  # too little to fold it
    xy = torch.stack([u, v], -1) + shake
    if seed % 2:  # on samples
        steps = torch.tensor([size[1], size[0]], dtype=torch.float64)
        xy = ((xy + 1) * steps / 2 - 0.5).round() / steps * 2 + 1 / steps - 1
    w = 1 + 0.3 * torch.rand(n, n, 1, generator=g, dtype=torch.float64)
    z = 0.9 * (2 * torch.rand(n, n, 1, generator=g, dtype=torch.float64) - 1)  # within near and far
    positions = torch.cat([xy * w, z, w], -1).reshape(-1, 4)
    corner = torch.arange(n * n).reshape(n, n)
    a, b, c, d = (x.flatten() for x in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]))
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([c, b, d], 1)])
    assert torch.equal(alone(positions, faces, size, backend.device).sum(0), torch.ones(size, dtype=torch.long))


@pytest.mark.parametrize("near", [False, True], ids=["whole", "cut_by_the_near_plane"])
def test_a_closed_mesh_covers_each_sample_twice_or_never(backend, near):
    """A ball: once by its front, once by its back. The near plane opens it, for samples that its hole covers."""
    size = (17, 20)
    vertices, faces = sphere(5, 0.8)
    w = 2 + vertices[:, 2:]
    z = 1.2 * w - (2.9 if near else 2.0)
    positions = torch.cat([1.5 * vertices[:, :2], z, w], 1)
    count = alone(positions, faces, size, backend.device).sum(0)
    assert set(count.unique().tolist()) == ({0, 1, 2} if near else {0, 2})


def test_nothing_of_broken_faces_is_drawn(backend):
    """NaN, infinity, w <= 0 everywhere, beyond a plane, without area; neighbours that share corners are drawn."""
    size = (8, 8)
    base, _ = square(1.0, 7.0, size)
    bad = torch.tensor([[torch.nan, 0, 0, 1], [0, torch.inf, 0, 1], [0.2, 0.1, -torch.inf, 1], [0, 0, 0, torch.nan]])
    lost = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, -1], [0.5, 0.5, 0.1, -1], [-0.5, 0.5, 0.1, -2.0], [9, 0, 0, 1]])
    lost = torch.cat([lost, torch.tensor([[8.0, 1, 0, 1], [7, -1, 0, 1]])])
    positions = torch.cat([base, bad.double(), lost.double()])
    broken = [[0, 1, 4], [5, 1, 2], [0, 6, 3], [1, 2, 7], [0, 1, 8], [9, 10, 11], [12, 13, 14], [0, 0, 1], [1, 1, 1]]
    for faces, drawn_at_all in ((torch.tensor(broken), False), (torch.tensor([*broken, [0, 1, 2]]), True)):
        given = positions[None].to(backend.device).requires_grad_()
        raster = fk.rasterize_clip(given, topology(faces, 15, backend.device), size, derivatives=True)
        assert bool((raster.face_index >= 0).any()) == drawn_at_all
        assert set(raster.face_index.unique().tolist()) <= {-1, len(broken)}
        assert all(bool(out.isfinite().all()) for out in raster[:4])
        (grad,) = torch.autograd.grad((raster.barycentrics.sum() + raster.derivatives.sum()), given)
        assert bool(grad.isfinite().all()) and not grad[:, 3:].any() and bool(grad.any()) == drawn_at_all


@pytest.mark.parametrize("huge", [1e200, 1e308])
def test_coordinates_near_the_end_of_float64(backend, huge):
    """What overflows is dropped, or finite."""
    positions, faces = clip_soup(6, 12)
    wild = torch.rand(positions.shape, generator=generator(1)) < 0.15
    positions = torch.where(wild, positions * huge, positions)[None].to(backend.device).requires_grad_()
    raster = fk.rasterize_clip(positions, topology(faces, 36, backend.device), (7, 7), derivatives=True)
    assert all(bool(out.isfinite().all()) for out in raster[:4])


@DTYPES
def test_an_edge_on_face_that_rounding_opens_has_no_weights(backend, dtype):
    """Three corners exactly in one line, which rounding to 1/16 pixel opens over two samples."""
    start, step = torch.tensor([181.0, 128]) / 64, torch.tensor([125.0, 257]) / 64
    xy = torch.stack([start, start + step, start + 2 * step]) / 8 - 1
    positions = torch.cat([xy, torch.tensor([[0.25, 1.0]] * 3)], 1)[None].to(backend.device, dtype).requires_grad_()
    raster = fk.rasterize_clip(positions, topology([[0, 1, 2]], 3, backend.device), (16, 16), derivatives=True)
    seen = raster.face_index >= 0
    assert seen[0].nonzero().tolist() == [[7, 5], [9, 6]]
    assert not raster.barycentrics.any() and not raster.derivatives.any()
    assert bool((raster.depth[seen] == 0.25).all()) and bool((raster.nearest[seen] == 0.25).all())
    (grad,) = torch.autograd.grad(raster.barycentrics.sum() + raster.derivatives.sum(), positions)
    assert not grad.any()


@pytest.mark.parametrize("width", [20, 28, 100, 224])
def test_faces_that_are_lines_have_no_gradient(backend, width):
    """As above, but the middle corner is rounded to float32, so that the face is no exact line."""
    g = generator(width)
    ends = torch.rand(200, 2, 2, generator=g) * 1.8 - 0.9
    share = torch.rand(200, 1, generator=g)
    for dtype in (torch.float32, torch.float64):
        middle = ends[:, 0] + share * (ends[:, 1] - ends[:, 0])  # rounded to float32 in either
        xy = torch.stack([ends[:, 0], ends[:, 1], middle], 1).reshape(-1, 2)
        clip = torch.cat([xy, torch.rand(600, 1, generator=g), torch.ones(600, 1)], 1)[None]
        positions = clip.to(backend.device, dtype).requires_grad_()
        mesh = topology(torch.arange(600).view(-1, 3), 600, backend.device)
        raster = fk.rasterize_clip(positions, mesh, (width, width), derivatives=True)
        # at more than 1/100 px from the line, which float32 makes 1e-5 px wide at most
        row, column = torch.meshgrid(torch.arange(width), torch.arange(width), indexing="ij")
        centres = (torch.stack([column, row], -1) + 0.5) * 2 / width - 1
        start, end = ends[raster.face_index[0].cpu().clamp(min=0).long()].double().unbind(2)
        along = torch.nn.functional.normalize(end - start, dim=-1)
        off = (centres - start)[..., 0] * along[..., 1] - (centres - start)[..., 1] * along[..., 0]
        far = ((raster.face_index[0].cpu() >= 0) & (off.abs() * width / 2 > 0.01))[None, ..., None].to(positions)
        assert far.sum() > 5
        outputs = (raster.barycentrics * far).sum() + (raster.derivatives * far).sum()
        (grad,) = torch.autograd.grad(outputs, positions)
        assert not grad.any() and not (raster.derivatives * far).any()


@DTYPES
@pytest.mark.parametrize("seed", range(6))
def test_matches_ref(kernel, dtype, seed):
    """Equal bits of all outputs, and gradients as exact as torch's, on soups with every kind of trouble."""
    g = generator(seed)
    size = ((17, 23), (33, 8), (1, 31), (40, 1), (24, 24), (2, 50))[seed]
    positions = torch.stack([clip_soup(10 * seed + b, 30, spread=(0.2, 1.0)[seed % 2])[0] for b in range(2)])
    if seed % 3 == 0:
        positions = (positions * 16).round() / 16
    trouble = torch.tensor([torch.nan, torch.inf, 0, -3, 1e30, 1e-30], dtype=torch.float64)
    wild = torch.rand(positions.shape, generator=g) < 0.01
    positions[wild] = trouble[torch.randint(len(trouble), (int(wild.sum()),), generator=g)]
    faces = torch.cat([torch.arange(90).reshape(30, 3), torch.randint(90, (20, 3), generator=g)])
    mesh = topology(faces, 90)
    ranges = torch.tensor([[3, 40], [10, 40]], dtype=torch.int32) if seed % 2 else None
    behind = None
    for _ in range(2):
        leaf = positions.to(kernel.device, dtype).requires_grad_()
        args = {"ranges": ranges, "derivatives": True}
        got = fk.rasterize_clip(
            leaf, mesh.to(kernel.device), size, behind=None if behind is None else behind.to(kernel.device), **args
        )
        plain = positions.to(dtype).requires_grad_()
        want = ref.forward(plain, mesh.faces, *size, ranges, behind, True)
        for name, one, other in zip(got._fields, got, want, strict=True):
            assert torch.equal(one.detach().cpu(), other.detach()), name
        cotangents = [torch.randn(out.shape, generator=g, dtype=torch.float64).to(dtype) for out in (want[1], want[3])]
        grads = [
            torch.autograd.grad((out[1], out[3]), x, [c.to(x.device) for c in cotangents])[0].cpu()
            for out, x in ((got, leaf), (want, plain))
        ]
        rounding = 64 * torch.finfo(torch.float64).eps  # of the order of summation, beside that of the result
        scale = grads[1].double().abs().max()
        assert (grads[0] - grads[1]).abs().max() <= (rounding + torch.finfo(dtype).eps) * scale
        behind = want[4]


@DTYPES
def test_gradients_match_ref_with_one_of_two_cotangents(kernel, dtype):
    positions, faces = clip_soup(8, 12, spread=0.5)
    mesh = topology(faces, 36)
    for name in ("barycentrics", "derivatives"):
        both = []
        for device, forward in ((kernel.device, fk.rasterize_clip), ("cpu", None)):
            leaf = positions[None].to(device, dtype).requires_grad_()
            if forward:
                out = getattr(forward(leaf, mesh.to(device), (9, 8), derivatives=True), name)
            else:
                out = ref.forward(leaf, mesh.faces, 9, 8, None, None, True)[{"barycentrics": 1, "derivatives": 3}[name]]
            both.append(torch.autograd.grad(out.square().sum(), leaf)[0].cpu())
        assert_accurate(both[0], both[1], both[1].double())
        assert both[0].any() and not both[0][..., 2].any()


@pytest.mark.parametrize("derivatives", [False, True])
def test_gradcheck_through_clipped_faces(backend, derivatives):
    """x, y and w of faces that cross the view; the seed keeps samples off the edges."""
    positions, faces = clip_soup(21, 4)
    mesh = topology(faces, 12, backend.device)

    def call(positions):
        raster = fk.rasterize_clip(positions, mesh, (4, 5), derivatives=derivatives)
        return (raster.barycentrics, raster.derivatives) if derivatives else raster.barycentrics

    given = positions[None].to(backend.device).requires_grad_()
    index = fk.rasterize_clip(given, mesh, (4, 5)).face_index
    assert len(index.unique()) >= 3
    assert torch.autograd.gradcheck(call, (given,))


def test_gradient_of_a_clamped_weight_is_that_of_the_formula(backend):
    """The sample lies 1/64 pixel outside of the face, which rounding moves over it."""
    size = (4, 4)
    at = torch.tensor([[1.5 + 1 / 64, 0.6], [1.5 + 1 / 64, 2.6], [3.1, 1.3]], dtype=torch.float64)
    positions = torch.cat([at / 2 - 1, torch.tensor([[0.0, 1.0]] * 3, dtype=torch.float64)], 1)
    given = positions[None].to(backend.device).requires_grad_()
    raster = fk.rasterize_clip(given, topology([[2, 0, 1]], 3, backend.device), size)
    assert int(raster.face_index[0, 1, 1]) == 0
    u = raster.barycentrics[0, 1, 1, 0]
    assert float(u.detach()) == 0
    (grad,) = torch.autograd.grad(u, given)
    # u = area(p, v1, v2) / area(v0, v1, v2), v0 = vertex 2: to vertex 0's x it is minus that of the sample, weighted.
    formula = lambda p: _share_of(p[2], p[0], p[1])
    leaf = positions.clone().requires_grad_()
    (want,) = torch.autograd.grad(formula(leaf), leaf)
    assert float(formula(positions)) < 0 and bool(want.any())
    assert torch.allclose(grad[0].cpu(), want, rtol=1e-12, atol=1e-12)


def _share_of(a, b, c, x=-0.25, y=-0.25):
    """The weight of corner a at (x, y), all w = 1 but differentiable in it."""
    det = lambda p, q, r: (
        p[0] * (q[1] * r[3] - r[1] * q[3]) - p[1] * (q[0] * r[3] - r[0] * q[3]) + p[3] * (q[0] * r[1] - r[0] * q[1])
    )
    p = [x, y, 0, 1]
    e = [det(p, b, c), det(p, c, a), det(p, a, b)]
    return e[0] / (e[0] + e[1] + e[2])


def test_what_carries_a_gradient(backend):
    positions, faces = clip_soup(1, 5)
    given = positions[None].to(backend.device).requires_grad_()
    mesh = topology(faces, 15, backend.device)
    raster = fk.rasterize_clip(given, mesh, (4, 5), derivatives=True)
    assert [out.requires_grad for out in raster] == [False, True, False, True, False]
    assert raster.face_index.dtype == torch.int32 and raster.nearest.dtype == torch.float64
    raster = fk.rasterize_clip(given, mesh, (4, 5))
    assert raster.derivatives is None and isinstance(raster, fk.ClipRaster)


@pytest.mark.parametrize("B, F", [(0, 2), (2, 0), (0, 0)])
def test_empty(backend, B, F):
    positions = torch.rand(B, 6, 4, device=backend.device, requires_grad=True)
    mesh = topology(torch.arange(3 * F).reshape(F, 3), 6, backend.device)
    raster = fk.rasterize_clip(positions, mesh, (3, 4), derivatives=True)
    assert raster.derivatives.shape == (B, 3, 4, 4) and bool((raster.face_index == -1).all())
    (grad,) = torch.autograd.grad(raster.barycentrics.sum(), positions)
    assert grad.shape == (B, 6, 4) and not grad.any()


def scene_of(dtype=torch.float32):
    positions = torch.stack([clip_soup(seed, 60, spread=0.4)[0] for seed in (1, 2, 3)]).to(dtype)
    return positions, topology(torch.arange(180).reshape(60, 3), 180)


def everything(positions, mesh, size=(70, 33), ranges=None):
    leaf = positions.clone().requires_grad_()
    raster = fk.rasterize_clip(leaf, mesh, size, derivatives=True, ranges=ranges)
    (grad,) = torch.autograd.grad(raster.barycentrics.square().sum() + raster.derivatives.sum(), leaf)
    return [*(out.detach() for out in raster), grad]


@DTYPES
def test_same_bits_for_threads_and_splits(kernel, threads, dtype):
    positions, mesh = scene_of(dtype)
    positions, mesh = positions.to(kernel.device), mesh.to(kernel.device)
    threads(1)
    want = everything(positions, mesh)
    assert bool((want[0] >= 0).any())
    for count in (2, 3, 7):
        threads(count)
        for one, other in zip(everything(positions, mesh), want, strict=True):
            assert_same_bits(one, other)
    for b in range(3):
        for one, other in zip(everything(positions[b : b + 1], mesh), want, strict=True):
            assert_same_bits(one, other[b : b + 1])


@DTYPES
def test_same_bits_on_every_instruction_set(kernel, instruction_sets, dtype):
    from focus_kernels._extension import _C

    positions, mesh = scene_of(dtype)
    positions, mesh = positions.to(kernel.device), mesh.to(kernel.device)
    want = everything(positions, mesh)
    for name in instruction_sets:
        _C.set_cpu_isa(name)
        for one, other in zip(everything(positions, mesh), want, strict=True):
            assert_same_bits(one, other, name)


RANGES = torch.tensor([[0, 1]], dtype=torch.int32)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"positions": [0]}, TypeError, "positions to be a torch.Tensor, got list"),
        ({"positions": torch.zeros(1, 3, 4).long()}, TypeError, "positions to be float32 or float64, got int64"),
        ({"positions": torch.zeros(1, 3, 3)}, ValueError, r"positions to be shape \[\*, 3, 4\], got \[1, 3, 3\]"),
        ({"positions": torch.zeros(3, 4)}, ValueError, r"positions to be shape \[\*, 3, 4\], got \[3, 4\]"),
        ({"topology": torch.zeros(1, 3)}, TypeError, "topology to be a focus_kernels.Topology, got Tensor"),
        ({"size": 5}, TypeError, r"size to be a pair \(H, W\) of ints, got int"),
        ({"size": (0, 5)}, ValueError, r"size to be in \[1, 8388608\], got 0"),
        ({"size": (2**23, 2**23)}, ValueError, r"size to be at most 2\^44 pixels, got 70368744177664"),
        ({"ranges": [[0, 1]]}, TypeError, "ranges to be a torch.Tensor, got list"),
        ({"ranges": RANGES.long()}, TypeError, "ranges to be int32, got int64"),
        ({"ranges": RANGES[0]}, ValueError, r"ranges to be shape \[1, 2\], got \[2\]"),
        (
            {"ranges": RANGES + 1},
            ValueError,
            r"ranges to be \(first face, number of faces\) within 1 faces, got \(1, 2\)",
        ),
        ({"ranges": RANGES - 1}, ValueError, r"ranges to be \(first face.* got \(-1, 0\)"),
        ({"ranges": RANGES.to("meta")}, ValueError, "ranges to be on cpu as positions, got meta"),
        ({"derivatives": 1}, TypeError, "derivatives to be a bool, got int"),
        ({"behind": 0.0}, TypeError, "behind to be a torch.Tensor, got float"),
        ({"behind": torch.zeros(1, 5, 5)}, TypeError, "behind to be float64, got float32"),
        ({"behind": torch.zeros(1, 4, 5).double()}, ValueError, r"behind to be shape \[1, 5, 5\], got \[1, 4, 5\]"),
        ({"behind": torch.zeros(1, 5, 5, device="meta").double()}, ValueError, "behind to be on cpu .*, got meta"),
    ],
)
def test_errors(change, kind, message):
    arguments = {"positions": torch.zeros(1, 3, 4), "topology": topology([[0, 1, 2]], 3), "size": (5, 5), **change}
    with pytest.raises(kind, match=r"rasterize_clip\(\): expected " + message):
        fk.rasterize_clip(**arguments)
