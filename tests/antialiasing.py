"""Pictures to hold antialias against: random smooth bodies, and the mean of many samples in each pixel."""

import torch
from meshes import generator, sphere
from torch import Tensor

import focus_kernels as fk

SAMPLES = 16  # in a row and in a column of a pixel


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


def drawn(positions: Tensor, mesh: fk.Topology, colors: Tensor, size: int) -> tuple[fk.Raster, Tensor]:
    """The raster and the picture of one sample in each pixel; the background is black."""
    raster = fk.rasterize(positions, mesh, (size, size), cull=None)
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
    """Central differences of sum(weight * supersampled picture) for x and y of every vertex: [1, V, 2]."""
    step, V = 0.1, positions.shape[1]
    grad = positions.new_zeros(1, V, 2)
    for v in range(V):
        for k in range(2):
            moved = positions.repeat(2, 1, 1)
            moved[:, v, k] += positions.new_tensor([step, -step])
            pictures, _ = supersampled(moved, mesh, colors, size)
            total = (pictures * weight).sum((1, 2, 3))
            grad[0, v, k] = (total[0] - total[1]) / (2 * step)
    return grad


def cosine(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum() / (one.norm() * other.norm()))
