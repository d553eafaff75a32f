"""rasterize_clip on the compiled CPU and CUDA kernels of csrc/rasterize_clip."""

import torch

from ..._extension import _C, on_cuda, threads, why_not
from .ref import OFFSET

__all__ = ["backward", "forward", "why_not"]


def forward(positions, faces, H, W, ranges, behind, derivatives):
    B, V, _ = positions.shape
    face_index = faces.new_empty(B, H, W)
    barycentrics = positions.new_empty(B, H, W, 2)
    depth = positions.new_empty(B, H, W)
    steps = positions.new_empty(B, H, W, 4 if derivatives else 0)
    nearest = positions.new_empty(B, H, W, dtype=torch.float64)
    scratch = ()
    if on_cuda(positions):  # the corners on the screen, and lists of the triangles that are large or to be clipped
        points = positions.new_empty(B, V, 3, dtype=torch.float64)
        scratch = points, torch.empty(B * faces.shape[0] + 2, dtype=torch.int64, device=positions.device)
    given = positions, faces, ranges, None if behind is None else behind + OFFSET
    out = face_index, barycentrics, depth, steps if derivatives else None, nearest
    _C.rasterize_clip(*given, *out, threads(), *scratch)
    return face_index, barycentrics, depth, steps, nearest


def backward(grad_barycentrics, grad_derivatives, positions, faces, offsets, corners, face_index):
    grad_positions = torch.empty_like(positions)
    B, H, W = face_index.shape
    scratch = ()
    if on_cuda(positions):  # the lowest pixel of each face, and nine sums kept there
        sums = positions.new_empty(B, 9, H, W, dtype=torch.float64)
        scratch = faces.new_empty(B, faces.shape[0]), sums
    mesh = positions, faces, offsets, corners, face_index
    _C.rasterize_clip_grad(grad_barycentrics, grad_derivatives, *mesh, grad_positions, threads(), *scratch)
    return grad_positions
