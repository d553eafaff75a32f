"""vertex_normals on the compiled CPU and CUDA kernels of csrc/vertex_normals."""

import torch

from ..._extension import _C, on_cuda, threads, why_not

__all__ = ["backward", "forward", "why_not"]


def forward(vertices, faces, offsets, corners, normalize):
    out = torch.empty_like(vertices)
    _C.vertex_normals(vertices, faces, offsets, corners, out, normalize, threads())
    return out


def backward(grad, vertices, faces, offsets, corners, normalize):
    grad_vertices = torch.empty_like(vertices)
    sums = vertices.new_empty(*vertices.shape[:2], 4) if on_cuda(vertices) else None
    _C.vertex_normals_grad(grad, vertices, faces, offsets, corners, grad_vertices, sums, normalize, threads())
    return grad_vertices
