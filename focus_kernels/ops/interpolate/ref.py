"""interpolate in plain PyTorch: the definition that every other backend is held to."""

import torch
from torch import Tensor

from ..rasterize.ref import at_corners, in_mesh


def why_not(*args) -> list[str]:
    return []


def forward(attributes: Tensor, faces: Tensor, face_index: Tensor, barycentrics: Tensor) -> Tensor:
    values = at_corners(attributes, faces, face_index, attributes.new_zeros(3, attributes.shape[2]))  # [B, H, W, 3, C]
    covered = in_mesh(face_index, faces)[..., None]  # [B, H, W, 1]
    weights = torch.where(covered, barycentrics, 0)
    pixels = (weights[..., None] * values).sum(3)  # [B, H, W, C]
    return torch.where(covered, pixels, 0).permute(0, 3, 1, 2).contiguous()
