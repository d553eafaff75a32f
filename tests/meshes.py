"""Small meshes and scenes for the tests, in float64 unless asked otherwise. Nothing here is random without a seed."""

import math

import torch
from torch import Tensor

import focus_kernels as fk


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sphere(rings: int, radius: float = 90.0) -> tuple[Tensor, Tensor]:
    """Vertices [V, 3] and faces [F, 3] of a closed sphere with two poles, counter-clockwise seen from outside."""
    around = 2 * rings
    polar = torch.arange(1, rings, dtype=torch.float64) * math.pi / rings
    azimuth = torch.arange(around, dtype=torch.float64) * math.pi / rings
    ring = torch.stack(
        [
            polar.sin()[:, None] * azimuth.sin(),
            polar.cos()[:, None].expand(-1, around),
            polar.sin()[:, None] * azimuth.cos(),
        ],
        -1,
    )
    poles = torch.tensor([[0.0, 1, 0], [0, -1, 0]], dtype=torch.float64)
    vertices = torch.cat([ring.reshape(-1, 3), poles]) * radius
    top, bottom = len(vertices) - 2, len(vertices) - 1
    faces = []
    for b in range(around):
        c = (b + 1) % around
        faces.append([top, b, c])
        for a in range(rings - 2):
            upper, lower = a * around, (a + 1) * around
            faces += [[upper + b, lower + b, upper + c], [upper + c, lower + b, lower + c]]
        last = (rings - 2) * around
        faces.append([bottom, last + c, last + b])
    return vertices, torch.tensor(faces)


def soup(seed: int, B: int, F: int, size: tuple[int, int], scale: float = 0.4) -> tuple[Tensor, Tensor]:
    """Positions [B, 3F, 3] and faces [F, 3] of unconnected triangles around and beyond an image, depths 1 to 10."""
    g = generator(seed)
    H, W = size
    centre = torch.rand(B, F, 1, 2, generator=g, dtype=torch.float64) * 1.2 - 0.1
    corner = centre + (torch.rand(B, F, 3, 2, generator=g, dtype=torch.float64) - 0.5) * scale
    xy = corner * torch.tensor([W, H], dtype=torch.float64)
    z = 1 + 9 * torch.rand(B, F, 3, 1, generator=g, dtype=torch.float64)
    return torch.cat([xy, z], -1).reshape(B, 3 * F, 3), torch.arange(3 * F).reshape(F, 3)


def to_clip(positions: Tensor, size: tuple[int, int], orthographic: bool = False) -> Tensor:
    """Clip space [B, V, 4] of positions [B, V, 3] in pixels, where the view ends at depths of about 1 and 20."""
    x, y, z = positions.unbind(-1)
    w = torch.ones_like(z) if orthographic else z
    depth = z / 10 - 1.1 if orthographic else 1.1 * z - 2
    return torch.stack([(x * 2 / size[1] - 1) * w, (y * 2 / size[0] - 1) * w, depth, w], -1)


def to_ndc(positions: Tensor, size: tuple[int, int]) -> Tensor:
    """Positions [..., 3] in pixels, in PyTorch3D's frame: x left, y up, the shorter side spans [-1, 1]."""
    (H, W), scale = size, min(size) / 2
    x, y, z = positions.unbind(-1)
    return torch.stack([(W / 2 - x) / scale, (H / 2 - y) / scale, z], -1)


def scene(seed: int, B: int, rings: int, size: tuple[int, int], orthographic: bool = False) -> dict:
    """A bumpy ball for `render_sh`: vertices, albedo, sh_coeffs, K, R, t (all with batch B), and faces."""
    g = generator(seed)
    rand = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)
    ball, faces = sphere(rings)
    H, W = size
    vertices = ball * (1 + 0.1 * rand(B, len(ball), 1)) + 2 * rand(B, len(ball), 3)
    albedo = 0.2 + 0.6 * rand(B, len(ball), 3)
    sh_coeffs = (rand(B, 3, 9) - 0.5) * 0.4
    sh_coeffs[..., 0] += 3
    angles = (rand(B, 3) - 0.5) * 0.6
    R = torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64)) @ torch.linalg.matrix_exp(_cross_matrix(angles))
    t = torch.tensor([0.0, 0, 1000], dtype=torch.float64) + 10 * (rand(B, 3) - 0.5)
    K = torch.zeros(B, 3, 3, dtype=torch.float64)
    K[:, 0, 0] = W / 230 * (1 if orthographic else 1000) + rand(B)
    K[:, 1, 1] = H / 230 * (1 if orthographic else 1000) + rand(B)
    K[:, 0, 1] = 0.01 * rand(B)
    K[:, :2, 2] = torch.tensor([W / 2, H / 2], dtype=torch.float64) + rand(B, 2)
    K[:, 2, 2] = 1
    return {"vertices": vertices, "albedo": albedo, "sh_coeffs": sh_coeffs, "K": K, "R": R, "t": t, "faces": faces}


def cast(tensors: dict, dtype: torch.dtype, device: str, grad: bool = False) -> dict:
    """The floating tensors in another dtype, as leaves."""
    moved = {}
    for name, value in tensors.items():
        value = value.detach().to(device, dtype if value.is_floating_point() else value.dtype)
        moved[name] = value.clone().requires_grad_(grad and value.is_floating_point())
    return moved


def triangles(xy: list, z: list | float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Positions [1, V, 3] from a list of (x, y) and depths."""
    xy = torch.tensor(xy, dtype=dtype)
    z = torch.as_tensor(z, dtype=dtype).expand(len(xy))
    return torch.cat([xy, z[:, None]], 1)[None]


def topology(faces, num_vertices: int, device: str = "cpu") -> fk.Topology:
    return fk.Topology(torch.as_tensor(faces).reshape(-1, 3), num_vertices).to(device)


def _cross_matrix(v: Tensor) -> Tensor:
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*v.shape[:-1], 3, 3)
