"""blend on Triton: a program has some columns of the model, reads its part of the basis once, and serves all images.

Sums run in one order, whatever the batch is. Products are exact (`ieee`): never in TF32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._triton import on

_STRIPE = 4096  # columns of a program that adds up products for the gradient of the coefficients
_OPTIONS = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": False}


def forward(mean: Tensor, basis: Tensor, coeffs: Tensor) -> Tensor:
    B, K = coeffs.shape
    out = mean.new_empty(B, *mean.shape)
    with on(mean):
        _multiply(mean, basis, basis.stride(0), coeffs, (K, 1), out, K)
    return out


def backward(grad: Tensor, basis: Tensor, coeffs: Tensor, mean_too: bool, basis_too: bool, coeffs_too: bool):
    B, K = coeffs.shape
    N = grad.shape[1] * 3
    grad_mean = grad.new_empty(grad.shape[1:]) if mean_too else None
    grad_basis = torch.empty(basis.shape, dtype=basis.dtype, device=basis.device) if basis_too else None
    grad_coeffs = torch.empty_like(coeffs) if coeffs_too else None
    with on(grad):
        if grad_mean is not None:
            _multiply(None, grad, N, grad.new_ones(B), (B, 1), grad_mean[None], B)
        if grad_basis is not None:
            _multiply(None, grad, N, coeffs, (1, K), grad_basis, B)
        if grad_coeffs is not None and B * K:
            _dots(grad, basis, grad_coeffs, N)
    return grad_mean, grad_basis, grad_coeffs


def _dots(grad, basis, grad_coeffs, N) -> None:
    """The products of each image's gradient and each component, stripe by stripe, and then their sum."""
    B, K = grad_coeffs.shape
    stripes = -(-N // _STRIPE)
    partial = grad.new_empty(stripes, B * K)
    images = 16 if B <= 16 else 32
    grid = (stripes, -(-K // 32), -(-B // images))
    if stripes:
        _dots_kernel[grid](grad, basis, partial, B, K, N, basis.stride(0), images, 32, 32, _STRIPE, **_OPTIONS)
    _sum_kernel[(-(-B * K // 128),)](partial, grad_coeffs, stripes, B * K, 128, **_OPTIONS)


def _multiply(base, rows, stride, weights, steps, out, J) -> None:
    """out[r] = base + sum over j of weights[r, j] * rows[j]; `steps` of weights in memory."""
    R, N = len(out), out.shape[1] * 3
    if not R * N:
        return
    results = 16 if R <= 16 or base is None else 32
    grid = (-(-N // 128), -(-R // results))
    given = rows if base is None else base
    _product_kernel[grid](
        given, rows, weights, out, R, J, N, stride, *steps, base is not None, results, 128, 16, **_OPTIONS
    )


@triton.jit
def _product_kernel(
    base_ptr,
    rows_ptr,
    weights_ptr,
    out_ptr,
    R,
    J,
    N,
    stride,
    step_r,
    step_j,
    BASE: tl.constexpr,
    RESULTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
):
    Sum = weights_ptr.dtype.element_ty
    n = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    r = tl.program_id(1).to(tl.int64) * RESULTS + tl.arange(0, RESULTS)[:, None]
    total = tl.zeros([RESULTS, COLUMNS], Sum)
    for start in range(0, J, STEP):
        j = start + tl.arange(0, STEP).to(tl.int64)
        mask = (j < J)[:, None] & (n < N)
        rows = tl.load(rows_ptr + j[:, None] * stride + n, mask, 0).to(Sum)  # [STEP, COLUMNS]
        mask = (r < R) & (j < J)[None, :]
        weights = tl.load(weights_ptr + r * step_r + j[None, :] * step_j, mask, 0)  # [RESULTS, STEP]
        total = tl.dot(weights, rows, total, input_precision="ieee", out_dtype=Sum)
    if BASE:
        total += tl.load(base_ptr + n, n < N, 0)  # [1, COLUMNS]
    tl.store(out_ptr + r * N + n, total, (r < R) & (n < N))


@triton.jit
def _dots_kernel(
    grad_ptr,
    basis_ptr,
    partial_ptr,
    B,
    K,
    N,
    stride,
    IMAGES: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    STRIPE: tl.constexpr,
):
    """partial[stripe, b, k] = sum over its columns of grad[b] * basis[k]."""
    Sum = grad_ptr.dtype.element_ty
    stripe = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    b = tl.program_id(2).to(tl.int64) * IMAGES + tl.arange(0, IMAGES)[:, None]
    total = tl.zeros([IMAGES, ROWS], Sum)
    for start in range(0, tl.minimum(STRIPE, N - stripe * STRIPE), STEP):
        n = stripe * STRIPE + start + tl.arange(0, STEP)[None, :]
        grad = tl.load(grad_ptr + b * N + n, (b < B) & (n < N), 0)  # [IMAGES, STEP]
        basis = tl.load(basis_ptr + k * stride + n, (k < K) & (n < N), 0).to(Sum)  # [ROWS, STEP]
        total = tl.dot(grad, tl.trans(basis), total, input_precision="ieee", out_dtype=Sum)
    k = tl.trans(k)
    tl.store(partial_ptr + (stripe * B + b) * K + k, total, (b < B) & (k < K))


@triton.jit
def _sum_kernel(partial_ptr, out_ptr, stripes, size, BLOCK: tl.constexpr):
    """out = the sum over stripes of partial [stripes, size], in order."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], partial_ptr.dtype.element_ty)
    partial_ptr += i
    for _ in range(stripes):
        total += tl.load(partial_ptr, i < size, 0)  # [BLOCK]
        partial_ptr += size
    tl.store(out_ptr + i, total, i < size)
