"""interpolate in plain PyTorch: the definition that every other backend is held to."""

import torch
from torch import Tensor


def why_not(*args) -> list[str]:
    return []


def forward(attributes: Tensor, faces: Tensor, face_index: Tensor, barycentrics: Tensor) -> Tensor:
    values = at_corners(attributes, faces, face_index, attributes.new_zeros(3, attributes.shape[2]))  # [B, H, W, 3, C]
    covered = in_mesh(face_index, faces)[..., None]  # [B, H, W, 1]
    weights = torch.where(covered, barycentrics, 0)
    pixels = (weights[..., None] * values).sum(3)  # [B, H, W, C]
    return torch.where(covered, pixels, 0).permute(0, 3, 1, 2).contiguous()


def in_mesh(face_index: Tensor, faces: Tensor) -> Tensor:
    """Where a pixel has a face; ids of another mesh count as background."""
    return (face_index >= 0) & (face_index < faces.shape[0])


def at_corners(attributes: Tensor, faces: Tensor, face_index: Tensor, background: Tensor) -> Tensor:
    """The attributes [B, V, C] at the three corners of the face of each pixel: [B, H, W, 3, C].

    Background pixels read the triangle `background` [3, C] instead, so that nothing unseen is touched.
    """
    B, V, C = attributes.shape
    padded = torch.cat([attributes, background.expand(B, 3, C)], 1)  # [B, V + 3, C]
    extra = torch.arange(V, V + 3, device=faces.device)
    triangles = torch.cat([faces.long(), extra[None]])  # [F + 1, 3]
    corners = triangles[torch.where(in_mesh(face_index, faces), face_index, faces.shape[0]).long()]  # [B, H, W, 3]
    images = torch.arange(B, device=faces.device)[:, None, None, None]
    return padded[images, corners]
