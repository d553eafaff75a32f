"""rasterize_ndc on the compiled CPU and CUDA kernels of csrc/rasterize_ndc."""

import torch

from ..._extension import _C, on_cuda, threads, why_not
from ..rasterize.native import draw_scratch, sum_scratch

__all__ = ["backward", "forward", "why_not"]


def forward(positions, faces, H, W, cull, perspective, clip):
    B = positions.shape[0]
    depth, distances = positions.new_empty(B, H, W), positions.new_empty(B, H, W)
    outs = faces.new_empty(B, H, W), depth, positions.new_empty(B, H, W, 3), distances
    pixels = torch.empty_like(positions) if on_cuda(positions) else None
    scratch = (pixels, *draw_scratch(positions, faces, H, W))
    _C.rasterize_ndc(positions, faces, outs, *scratch, cull, perspective, clip, threads())
    return outs


def backward(
    grad_depth,
    grad_barycentrics,
    grad_distances,
    positions,
    faces,
    offsets,
    corners,
    face_index,
    perspective,
    clip,
):
    grads = (grad_depth, grad_barycentrics, grad_distances)
    grad_positions = torch.empty_like(positions)
    mesh = (positions, faces, offsets, corners, face_index)
    scratch = sum_scratch(positions, faces, face_index, 9)
    _C.rasterize_ndc_grad(grads, *mesh, grad_positions, perspective, clip, threads(), *scratch)
    return grad_positions
