"""shade_sh on the compiled CPU and CUDA kernels of csrc/shade_sh."""

import torch

from ..._extension import _C, on_cuda, threads, why_not

__all__ = ["backward", "forward", "why_not"]

_PART = 256  # kShPart of csrc/shade_sh/shade_sh.h


def forward(normals, albedo, sh_coeffs, focus):
    out = torch.empty_like(normals)
    _C.shade_sh(normals, albedo, sh_coeffs, out, focus, threads())
    return out


def backward(grad, normals, albedo, sh_coeffs, focus):
    grads = torch.empty_like(normals), torch.empty_like(albedo), torch.empty_like(sh_coeffs)
    B, V, _ = normals.shape
    partial = normals.new_empty(B, -(-V // _PART), 27) if on_cuda(normals) else None
    _C.shade_sh_grad(grad, normals, albedo, sh_coeffs, *grads, partial, focus, threads())
    return grads
