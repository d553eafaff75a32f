"""antialias on the compiled CPU and CUDA kernels of csrc/antialias."""

import torch

from ..._extension import _C, on_cuda, threads, why_not

__all__ = ["backward", "forward", "why_not"]


def forward(image, positions, faces, opposite, face_index, depth):
    B, _, H, W = image.shape
    out, edges = torch.empty_like(image), faces.new_empty(B, 2, H, W)
    _C.antialias(image, positions, faces, opposite, face_index, depth, out, edges, threads())
    return out, edges


def backward(grad, image, positions, faces, offsets, corners, edges, for_image, for_positions):
    grad_image = torch.empty_like(image) if for_image else None
    grad_positions = torch.empty_like(positions) if for_positions else None
    seen = faces.new_empty(len(image), len(faces)) if for_positions and on_cuda(image) else None
    mesh = (faces, offsets, corners)
    _C.antialias_grad(grad, image, positions, *mesh, edges, grad_image, grad_positions, seen, threads())
    nothing = image.new_empty(0)
    return grad_image if for_image else nothing, grad_positions if for_positions else nothing.clone()
