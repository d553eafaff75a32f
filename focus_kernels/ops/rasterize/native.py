"""rasterize on the compiled CPU and CUDA kernels of csrc/rasterize."""

import torch

from ..._extension import _C, on_cuda, threads, why_not

__all__ = ["backward", "draw_scratch", "forward", "sum_scratch", "why_not"]


def draw_scratch(positions, faces, H, W):
    """What the CUDA kernels need beside the outputs: depth keys, and a list of the large triangles."""
    if not on_cuda(positions):
        return None, None
    B = positions.shape[0]
    keys = torch.empty(B, H, W, dtype=torch.int64, device=positions.device)
    return keys, torch.empty(B * faces.shape[0] + 1, dtype=torch.int64, device=positions.device)


def sum_scratch(positions, faces, face_index, count):
    """What the CUDA kernels need for gradients: the lowest pixel of each face, and `count` sums kept there."""
    if not on_cuda(positions):
        return ()
    B, H, W = face_index.shape
    return faces.new_empty(B, faces.shape[0]), positions.new_empty(B, count, H, W)


def forward(positions, faces, H, W, coverage, cull, perspective, highest):
    B = positions.shape[0]
    face_index = faces.new_empty(B, H, W)
    barycentrics = positions.new_empty(B, H, W, 3)
    depth = positions.new_empty(B, H, W)
    scratch = draw_scratch(positions, faces, H, W)
    rule = (coverage, cull, perspective, highest)
    _C.rasterize(positions, faces, face_index, barycentrics, depth, *scratch, *rule, threads())
    return face_index, barycentrics, depth


def backward(grad_barycentrics, grad_depth, positions, faces, offsets, corners, face_index, perspective):
    grad_positions = torch.empty_like(positions)
    mesh = (positions, faces, offsets, corners, face_index)
    scratch = sum_scratch(positions, faces, face_index, 9)
    _C.rasterize_grad(grad_barycentrics, grad_depth, *mesh, grad_positions, perspective, threads(), *scratch)
    return grad_positions
