"""shade_sh in plain PyTorch: the definition that every other backend is held to."""

import math

import torch
from torch import Tensor

# sqrt((2l + 1) / 4 pi (l - |m|)! / (l + |m|)!) with the factors of the real basis.
Y0 = 0.5 / math.sqrt(math.pi)
Y1 = math.sqrt(3 / (4 * math.pi))
Y2 = math.sqrt(15 / (4 * math.pi))
Y20 = math.sqrt(5 / (16 * math.pi))
Y22 = math.sqrt(15 / (16 * math.pi))


def why_not(*args) -> list[str]:
    return []


def forward(normals: Tensor, albedo: Tensor, sh_coeffs: Tensor, focus: bool) -> Tensor:
    basis = _basis(*(_focus_normal(normals) if focus else normals.unbind(-1)))  # [B, V, 9]
    light = (sh_coeffs[:, None] * basis[:, :, None]).sum(-1)  # [B, V, 3]
    return albedo * light


def _basis(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    rows = [
        torch.full_like(x, Y0),
        -Y1 * y,
        Y1 * z,
        -Y1 * x,
        Y2 * x * y,
        -Y2 * y * z,
        Y20 * (3 * z * z - 1),
        -Y2 * x * z,
        Y22 * (x * x - y * y),
    ]
    return torch.stack(rows, -1)


def _focus_normal(normals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(q x, q y, z) with q = sqrt(1 - z^2) / sqrt(x^2 + y^2): theta and phi of FOCUS without its infinite gradients."""
    x, y, z = normals.unbind(-1)
    sine2 = 1 - z * z
    sine = torch.where(sine2 > 0, torch.where(sine2 > 0, sine2, 1).sqrt(), 0)
    radius2 = x * x + y * y
    away = radius2 > 1e-12
    radius = torch.where(away, torch.where(away, radius2, 1).sqrt(), 1e-6)
    q = sine / radius
    return q * x, q * y, z
