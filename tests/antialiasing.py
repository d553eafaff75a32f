"""Pictures to hold antialias against: random smooth bodies, and the mean of many samples in each pixel."""

import torch
from meshes import generator, sphere
from torch import Tensor

import focus_kernels as fk

SAMPLES = 16  # in a row and in a column of a pixel


def half_plane_area(x: float, y: float, point: tuple, direction: tuple) -> float:
    """Area of the unit square around (x, y) on the left of the line through `point`, by clipping the square."""
    corners = [(x - 0.5, y - 0.5), (x + 0.5, y - 0.5), (x + 0.5, y + 0.5), (x - 0.5, y + 0.5)]
    side = [direction[0] * (cy - point[1]) - direction[1] * (cx - point[0]) for cx, cy in corners]
    kept = []
    for k in range(4):
        (ax, ay), (bx, by), sa, sb = corners[k], corners[(k + 1) % 4], side[k], side[(k + 1) % 4]
        if sa >= 0:
            kept.append((ax, ay))
        if (sa >= 0) != (sb >= 0):
            share = sa / (sa - sb)
            kept.append((ax + share * (bx - ax), ay + share * (by - ay)))
    return abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(kept, kept[1:] + kept[:1], strict=True))) / 2


def blobs(seed: int, rings: int, bodies: int, size: int, device: str) -> tuple[fk.Topology, Tensor, Tensor]:
    """Bumpy ellipsoids, turned at random, that hide parts of each other and of themselves: topology, positions
    [1, V, 3] for an image of size x size, and smooth colours [1, V, 3]."""
    g = generator(seed)
    rand = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)
    randn = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    ball, faces = sphere(rings, 1.0)
    positions, colors = [], []
    for _ in range(bodies):
        turned = ball @ torch.linalg.qr(randn(3, 3))[0]
        bumps = 1 + 0.25 * torch.sin(3 * turned[:, :1] + 6 * rand(1)) * torch.cos(2.5 * turned[:, 1:2])
        axes = torch.linalg.qr(randn(3, 3))[0]
        body = (turned * bumps * (0.5 + 0.5 * rand(3))) @ axes * size * (0.38 if bodies == 1 else 0.28)
        centre = size * (0.5 * torch.ones(2) if bodies == 1 else 0.25 + 0.5 * rand(2)) + rand(2)
        body = body + torch.cat([centre, size * (10 + rand(1))])
        positions.append(body)
        colors.append(rand(3) + 0.3 * torch.sin(turned @ (0.6 * randn(3, 3))))
    every = torch.cat([faces + k * len(ball) for k in range(bodies)])
    mesh = fk.Topology(every, bodies * len(ball)).to(device)
    return mesh, torch.cat(positions)[None].to(device), torch.cat(colors)[None].to(device)


def drawn(positions: Tensor, mesh: fk.Topology, colors: Tensor, size: int | tuple) -> tuple[fk.Raster, Tensor]:
    """The raster and the picture of one sample in each pixel; the background is black."""
    raster = fk.rasterize(positions, mesh, (size, size) if isinstance(size, int) else size, cull=None)
    return raster, fk.interpolate(colors.expand(len(positions), -1, -1), raster, mesh)


def supersampled(positions: Tensor, mesh: fk.Topology, colors: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The mean of the samples of each pixel [B, 3, H, W], and where depth jumps between them [B, H, W]."""
    scale = positions.new_tensor([SAMPLES, SAMPLES, 1])
    raster, fine = drawn(positions * scale, mesh, colors, SAMPLES * size)
    cells = lambda x: x.unflatten(-1, (size, SAMPLES)).unflatten(-3, (size, SAMPLES)).transpose(-3, -2)
    depth = cells(torch.where(raster.face_index < 0, 1e9, raster.depth))  # [B, H, W, SAMPLES, SAMPLES]
    jumps = [depth.diff(dim=dim).abs().flatten(3).amax(3) > 0.03 * size for dim in (3, 4)]
    return cells(fine).mean((-1, -2)), jumps[0] | jumps[1]


def smooth(seed: int, size: int) -> Tensor:
    """A weight [1, 3, H, W] that varies over many pixels."""
    y = torch.arange(size, dtype=torch.float64)[:, None] / size
    x = torch.arange(size, dtype=torch.float64) / size
    phases = torch.randn(3, 4, generator=generator(seed), dtype=torch.float64)
    return torch.stack([a + b * torch.sin(4 * x + c) * torch.cos(4 * y + d) for a, b, c, d in phases])[None]


def gradient_of_samples(positions: Tensor, mesh: fk.Topology, colors: Tensor, size: int, weight: Tensor) -> Tensor:
    """Central differences of sum(weight * supersampled picture) for x and y of every vertex: [1, V, 2]. A vertex
    changes pixels under its own faces only, so no others are drawn."""
    step, (_, V, _) = 0.1, positions.shape
    triangles = positions[0, mesh.faces.long(), :2]  # [F, 3, 2]
    of = mesh.faces.long().reshape(-1, 1).expand(-1, 2)
    low = positions.new_full((V, 2), size).scatter_reduce(0, of, triangles.amin(1).repeat_interleave(3, 0), "amin")
    high = positions.new_zeros(V, 2).scatter_reduce(0, of, triangles.amax(1).repeat_interleave(3, 0), "amax")
    low = (low - 2 * step).floor().clamp(0, size).long().tolist()
    high = (high + 2 * step).ceil().clamp(0, size).long().tolist()
    moves = step * positions.new_tensor([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    grad = positions.new_zeros(1, V, 2)
    for v, ((left, top), (right, bottom)) in enumerate(zip(low, high, strict=True)):
        if right <= left or bottom <= top:
            continue
        moved = positions.repeat(4, 1, 1)
        moved[:, v] += moves
        moved -= positions.new_tensor([left, top, 0])
        scale, window = positions.new_tensor([SAMPLES, SAMPLES, 1]), (bottom - top, right - left)
        fine = drawn(moved * scale, mesh, colors, (SAMPLES * window[0], SAMPLES * window[1]))[1]
        pictures = fine.unflatten(-1, (window[1], SAMPLES)).unflatten(-3, (window[0], SAMPLES)).mean((-1, -3))
        total = (pictures * weight[..., top:bottom, left:right]).sum((1, 2, 3))
        grad[0, v] = (total[0::2] - total[1::2]) / (2 * step)
    return grad


def cosine(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum() / (one.norm() * other.norm()))
