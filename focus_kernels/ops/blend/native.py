"""blend on the compiled CPU kernels of csrc/blend."""

import torch

from ..._extension import _C, threads
from ..._extension import why_not_on_cpu as why_not

__all__ = ["backward", "forward", "why_not"]


def forward(mean, basis, coeffs):
    out = mean.new_empty(len(coeffs), *mean.shape)
    _C.blend(mean, basis, coeffs, out, threads())
    return out


def backward(grad, basis, coeffs, mean_too, basis_too, coeffs_too):
    grad_mean = grad.new_empty(grad.shape[1:]) if mean_too else None
    grad_basis = torch.empty(basis.shape, dtype=basis.dtype) if basis_too else None
    grad_coeffs = torch.empty_like(coeffs) if coeffs_too else None
    _C.blend_grad(grad, basis, coeffs, grad_mean, grad_basis, grad_coeffs, threads())
    return grad_mean, grad_basis, grad_coeffs
