"""interpolate on the compiled CPU and CUDA kernels of csrc/interpolate."""

import torch

from ..._extension import _C, on_cuda, threads, why_not

__all__ = ["backward", "forward", "why_not"]


def forward(attributes, faces, face_index, barycentrics):
    B, H, W = face_index.shape
    out = attributes.new_empty(B, attributes.shape[2], H, W)
    _C.interpolate(attributes, faces, face_index, barycentrics, out, threads())
    return out


def backward(grad, attributes, faces, offsets, corners, face_index, barycentrics):
    grads = torch.empty_like(attributes), torch.empty_like(barycentrics)
    boxes = faces.new_empty(len(attributes), len(faces), 4) if on_cuda(attributes) else None
    mesh = (faces, offsets, corners, face_index)
    _C.interpolate_grad(grad, attributes, *mesh, barycentrics, *grads, boxes, threads())
    return grads
