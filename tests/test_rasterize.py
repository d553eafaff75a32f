"""rasterize against exact rational arithmetic, against the definition in plain torch, and its arguments."""

from fractions import Fraction

import pytest
import torch
from meshes import generator, scene, soup, topology
from tolerances import assert_accurate, assert_same_faces

import focus_kernels as fk
from focus_kernels.ops.rasterize import ref
from focus_kernels.ops.rasterize.op import COVERAGE, CULL

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
SIZE = (6, 8)


def rational_hits(positions, faces, perspective):
    """Per pixel of SIZE: (face, signed area, weights E with E >= 0 inside, clockwise edges, barycentrics, depth)."""
    points = [[Fraction(x) for x in row] for row in positions.tolist()]
    hits = {}
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            p = (Fraction(2 * column + 1, 2), Fraction(2 * row + 1, 2))
            for f, corners in enumerate(faces.tolist()):
                v = [points[i] for i in corners]
                area = (v[1][0] - v[0][0]) * (v[2][1] - v[0][1]) - (v[2][0] - v[0][0]) * (v[1][1] - v[0][1])
                if area == 0:
                    continue
                sign = 1 if area > 0 else -1
                weights, edges = [], []
                for k in range(3):
                    a, b = v[(k + 1) % 3], v[(k + 2) % 3]
                    cross = (a[0] - p[0]) * (b[1] - p[1]) - (b[0] - p[0]) * (a[1] - p[1])
                    weights.append(sign * cross)
                    edges.append((sign * (b[0] - a[0]), sign * (b[1] - a[1])))
                if min(weights) < 0:
                    continue
                share = [w / v[k][2] if perspective else w for k, w in enumerate(weights)]
                bary = [u / sum(share) for u in share]
                depth = sum(weights) / sum(share)
                if not perspective:
                    depth = sum(b * v[k][2] for k, b in enumerate(bary))
                hits.setdefault((row, column), []).append((f, area, weights, edges, bary, depth))
    return hits


def covered(hit, coverage, cull):
    _, area, weights, edges, _, _ = hit
    if (cull == "back" and area > 0) or (cull == "front" and area < 0):
        return False
    on_edge = [edge for weight, edge in zip(weights, edges, strict=True) if weight == 0]
    if coverage == "top_left":
        return all(dy < 0 or (dy == 0 and dx > 0) for dx, dy in on_edge)
    return coverage == "inclusive" or not on_edge


@DTYPES
@pytest.mark.parametrize("perspective", [True, False], ids=["perspective", "affine"])
@pytest.mark.parametrize("seed", [0, 1])
def test_exact_arithmetic(backend, dtype, perspective, seed):
    # Corners on halves of a pixel: many samples lie exactly on edges and corners. Faces 6 and 17 repeat 0 and 1.
    positions, faces = soup(seed, 1, 16, SIZE, scale=1.2)
    positions = torch.cat([(positions[0, :, :2] * 2).round() / 2, positions[0, :, 2:].round()], 1)
    faces = torch.cat([faces[:6], faces[:1], faces[6:], faces[1:2]])
    hits = rational_hits(positions, faces, perspective)
    assert sum(min(hit[2]) == 0 for pixel in hits.values() for hit in pixel) > 15
    mesh = topology(faces, len(positions), backend.device)
    given = positions[None].to(backend.device, dtype)
    eps = torch.finfo(dtype).eps
    for coverage in COVERAGE:
        for cull in CULL:
            for tie in ("lowest", "highest"):
                options = {"coverage": coverage, "cull": cull, "tie": tie, "perspective_correct": perspective}
                index, bary, depth = (out[0].cpu() for out in fk.rasterize(given, mesh, SIZE, **options))
                for row in range(SIZE[0]):
                    for column in range(SIZE[1]):
                        pixel = [hit for hit in hits.get((row, column), []) if covered(hit, coverage, cull)]
                        seen = int(index[row, column])
                        if not pixel:
                            assert seen == -1 and not bary[row, column].any() and not depth[row, column]
                            continue
                        nearest = min(hit[5] for hit in pixel)
                        # Depths that rounding cannot order are either equal by construction (a repeated face) or free.
                        close = [hit for hit in pixel if hit[5] <= nearest * (1 + 8 * Fraction(eps))]
                        hit = next(hit for hit in close if hit[0] == seen)
                        twins = [other[0] for other in close if faces[other[0]].equal(faces[seen])]
                        assert seen == (min(twins) if tie == "lowest" else max(twins))
                        # The weights are exact here: 8 eps for the few roundings after them, times the largest depth.
                        exact = torch.tensor([float(b) for b in hit[4]], dtype=torch.float64)
                        assert (bary[row, column].double() - exact).abs().max() <= 8 * eps
                        assert abs(float(depth[row, column]) - float(hit[5])) <= 8 * eps * 10


@DTYPES
@pytest.mark.parametrize("perspective", [True, False], ids=["perspective", "affine"])
def test_matches_ref_on_a_mesh(kernel, dtype, perspective):
    size = (90, 117)
    ball = scene(5, 3, 24, size)
    positions = fk.Camera(ball["K"], ball["R"], ball["t"]).project(ball["vertices"]).float()
    mesh = topology(ball["faces"], positions.shape[1])
    compare(kernel, positions, mesh, size, dtype, 0, CULL["back"], perspective, False)


@DTYPES
@pytest.mark.parametrize("seed", range(12))
def test_fuzz(kernel, dtype, seed):
    """Soups with every kind of trouble, all options, several shapes."""
    g = generator(seed)
    pick = lambda *choices: choices[int(torch.randint(len(choices), (1,), generator=g))]
    size = pick((17, 23), (1, 31), (40, 1), (33, 32))
    F = pick(1, 40, 300)
    positions, faces = soup(seed, 2, F, size, scale=pick(0.1, 0.6, 3.0))
    grid = pick(None, 0.5, 1 / 16)
    if grid is not None:
        positions[..., :2] = (positions[..., :2] / grid).round() * grid
    trouble = torch.tensor([torch.nan, torch.inf, -torch.inf, 0, -3, 1e30, 2.0**23, -(2.0**23), 1e-18, 1e-30, 0.5])
    wild = torch.rand(positions.shape, generator=g) < 0.02
    positions[wild] = trouble.double()[torch.randint(len(trouble), (int(wild.sum()),), generator=g)]
    faces = torch.cat([faces, torch.randint(3 * F, (F // 4, 3), generator=g), faces[: F // 8]])
    mesh = topology(faces, 3 * F)
    options = (pick(0, 1, 2), pick(0, 1, 2), pick(True, False), pick(True, False))
    compare(kernel, positions.float(), mesh, size, dtype, *options)


def compare(kernel, positions, mesh, size, dtype, coverage, cull, perspective, highest):
    """A kernel with the definition: equal faces, and values and gradients as exact as those of plain torch."""
    name = lambda table, value: next(key for key, code in table.items() if code == value)
    given = positions.to(kernel.device, dtype).requires_grad_()
    got = fk.rasterize(
        given,
        mesh.to(kernel.device),
        size,
        coverage=name(COVERAGE, coverage),
        cull=name(CULL, cull),
        perspective_correct=perspective,
        tie="highest" if highest else "lowest",
    )
    wide = positions.double()
    want = ref.forward(wide.to(dtype), mesh.faces, *size, coverage, cull, perspective, highest)[0]
    index = got.face_index.cpu()
    # Coverage is exact; depths are rounded, here a dozen times.
    agree = assert_same_faces(
        index, want, wide, mesh.faces, perspective=perspective, edge=0, depth=12 * torch.finfo(dtype).eps
    )
    assert agree.double().mean() > 0.99
    background = index < 0
    assert not got.barycentrics[background].any() and not got.depth[background].any()

    g = generator(1)
    cotangents = [torch.randn(out.shape, generator=g, dtype=torch.float64) for out in got[1:]]
    grad = torch.autograd.grad(got[1:], given, [c.to(out) for c, out in zip(cotangents, got[1:], strict=True)])[0].cpu()
    results = {}
    for precision in (torch.float32, torch.float64):
        leaf = positions.to(precision).requires_grad_()
        outs = ref.at_pixels(leaf, mesh.faces, index, perspective)
        results[precision] = [*outs, *torch.autograd.grad(outs, leaf, [c.to(precision) for c in cotangents])]
    for what, value, near, true in zip(
        ("barycentrics", "depth", "gradient"), (*got[1:], grad), *results.values(), strict=True
    ):
        assert_accurate(value.detach().cpu(), near.detach(), true.detach(), what)


@pytest.mark.parametrize("F", [0, 1, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)], ids=str)
def test_smallest_sizes(backend, F, size):
    positions, faces = soup(7, 2, F, size, scale=3.0)
    if F:
        positions[:, :3, :2] = torch.tensor([[-60.0, -60], [100, -60], [-60, 100]])  # covers any of the sizes
    given = positions.to(backend.device).requires_grad_()
    raster = fk.rasterize(given, topology(faces, 3 * F, backend.device), size, cull=None)
    assert raster.face_index.shape == raster.depth.shape == (2, *size)
    assert (raster.face_index >= 0).any() == (F > 0)
    (raster.depth.sum() + raster.barycentrics[..., 0].sum()).backward()
    assert given.grad.shape == given.shape and given.grad.isfinite().all()


def test_many_images(kernel):
    """More images than a CUDA grid has rows: 70000, each with its own triangle."""
    B = 70000
    positions = torch.tensor([[0.0, 0, 1], [0, 4, 1], [4, 0, 1]], device=kernel.device).repeat(B, 1, 1)
    positions[:, :, 2] += torch.arange(B, device=kernel.device)[:, None] % 1000
    positions.requires_grad_()
    raster = fk.rasterize(positions, topology([[0, 1, 2]], 3, kernel.device), (1, 1))
    assert raster.face_index.eq(0).all()
    torch.testing.assert_close(raster.depth[:, 0, 0], positions[:, 0, 2], rtol=1e-6, atol=0)
    grad = torch.autograd.grad(raster.depth.sum(), positions)[0]
    torch.testing.assert_close(grad[..., 2].sum(1), torch.ones(B, device=kernel.device))


def test_outputs_without_a_gradient(backend):
    positions, faces = soup(7, 2, 3, (5, 5), scale=3.0)
    given = positions.to(backend.device).requires_grad_()
    raster = fk.rasterize(given, topology(faces, 9, backend.device), (5, 5), cull=None)
    assert not raster.face_index.requires_grad
    one = torch.autograd.grad(raster.depth.sum(), given, retain_graph=True)[0]
    both = torch.autograd.grad((raster.depth.sum(), raster.barycentrics.sum() * 0), given)[0]
    torch.testing.assert_close(one, both)


ERRORS = [
    ({"positions": None}, TypeError, "positions to be a torch.Tensor, got NoneType"),
    ({"positions": torch.zeros(1, 3, 3).to_sparse()}, TypeError, "positions to be a dense torch.Tensor"),
    ({"positions": torch.zeros(1, 4, 3)}, ValueError, r"positions to be shape \[\*, 3, 3\], got \[1, 4, 3\]"),
    ({"positions": torch.zeros(3, 3)}, ValueError, r"positions to be shape \[\*, 3, 3\], got \[3, 3\]"),
    ({"positions": torch.zeros(1, 3, 2)}, ValueError, r"positions to be shape \[\*, 3, 3\], got \[1, 3, 2\]"),
    ({"positions": torch.zeros(1, 3, 3, device="meta")}, ValueError, "topology to be on meta as positions, got cpu"),
    ({"topology": torch.zeros(1, 3)}, TypeError, "topology to be a focus_kernels.Topology, got Tensor"),
    ({"size": 5}, TypeError, r"size to be a pair \(H, W\) of ints, got int"),
    ({"size": (5,)}, TypeError, r"size to be a pair \(H, W\) of ints, got 1 values"),
    ({"size": (5, 5.0)}, TypeError, r"size to be a pair \(H, W\) of ints, got a float"),
    ({"size": (True, 5)}, TypeError, r"size to be a pair \(H, W\) of ints, got a bool"),
    ({"size": (0, 5)}, ValueError, r"size to be in \[1, 8388608\], got 0"),
    ({"size": (5, 2**23 + 1)}, ValueError, r"size to be in \[1, 8388608\], got 8388609"),
    ({"coverage": "all"}, ValueError, "coverage to be one of 'top_left', 'inclusive', 'strict', got 'all'"),
    ({"coverage": 1}, TypeError, "coverage to be one of .*, got int"),
    ({"cull": "both"}, ValueError, "cull to be one of 'back', 'front', None, got 'both'"),
    ({"tie": None}, ValueError, "tie to be one of 'lowest', 'highest', got None"),
    ({"perspective_correct": 1}, TypeError, "perspective_correct to be a bool, got int"),
]


@pytest.mark.parametrize("change, kind, message", ERRORS)
def test_errors(change, kind, message):
    arguments = {"positions": torch.zeros(1, 3, 3), "topology": topology([[0, 1, 2]], 3), "size": (5, 5), **change}
    with pytest.raises(kind, match=r"rasterize\(\): expected " + message):
        fk.rasterize(**arguments)
