"""blend: the public function, its autograd rule and its registration."""

import torch
from torch import Tensor

from ... import _checks
from ..._backends import choose, kernels
from ..._library import register
from ..._triton import Room
from . import native, ref

BACKENDS = {"native": native, "triton": Room("blend"), "ref": ref}


def blend(mean: Tensor, basis: Tensor, coeffs: Tensor) -> Tensor:
    """A linear face model: mean + sum_k coeffs[b, k] * basis[k].

    A basis may be a view with any step between its components, such as `basis[:80]` or `basis[::2]`: it is not copied.
    On the CPU the forward does not read components whose coefficient is 0 in every image (a basis has to be finite).
    The backward reads the basis only where coeffs needs a gradient.

    Args:
        mean: [V, 3] (mm for shapes), float32 or float64.
        basis: [K, V, 3], in the dtype of mean, or float16 or bfloat16 (products and sums are still in the dtype of
            mean), one standard deviation per component.
        coeffs: [B, K] in standard deviations, in the dtype of mean. Half-precision mean and coeffs are widened inside
            autocast.

    Returns:
        [B, V, 3] in the dtype of mean. Once differentiable in mean, basis and coeffs (any number of times with
        FOCUS_BACKEND=ref); the gradient of a basis is in its dtype.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, or several devices.
    """
    mean, coeffs = _checks.floats("blend", mean=mean, coeffs=coeffs)
    _checks.tensor("blend", "basis", basis)
    if basis.dtype in (torch.float16, torch.bfloat16):
        _checks.on("blend", "basis", basis.device, "mean", mean.device)
    else:
        _checks.floats("blend", mean=mean, basis=basis)
    _checks.shape("blend", "mean", mean, (-1, 3))
    _checks.shape("blend", "basis", basis, (-1, mean.shape[0], 3))
    _checks.shape("blend", "coeffs", coeffs, (-1, basis.shape[0]))
    if choose("blend", BACKENDS, mean, basis, coeffs) is ref:
        return ref.forward(mean, basis, coeffs)
    if mean.dtype == torch.float64:
        basis = basis.double()  # kernels of half precision sum in float32
    rows = basis if basis[:1].is_contiguous() else basis.contiguous()
    return _Blend.apply(mean.contiguous(), rows, coeffs.contiguous())


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mean, basis, coeffs):
        ctx.save_for_backward(basis, coeffs)
        return _FORWARD(mean, basis, coeffs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        wanted = ctx.needs_input_grad
        grads = _BACKWARD(grad.contiguous(), *ctx.saved_tensors, *wanted)
        return tuple(value if needed else None for value, needed in zip(grads, wanted, strict=True))


def _forward(*args):
    return choose("blend", kernels(BACKENDS), *args).forward(*args)


def _backward(grad, basis, coeffs, *wanted):
    grads = choose("blend", kernels(BACKENDS), grad, basis, coeffs).backward(grad, basis, coeffs, *wanted)
    return tuple(grad.new_empty(0) if value is None else value for value in grads)


def _backward_fake(grad, basis, coeffs, *wanted):
    shapes = grad.new_empty(grad.shape[1:]), basis.new_empty(basis.shape), torch.empty_like(coeffs)
    return tuple(value if needed else grad.new_empty(0) for value, needed in zip(shapes, wanted, strict=True))


_FORWARD = register(
    "_blend_fwd(Tensor mean, Tensor basis, Tensor coeffs) -> Tensor",
    _forward,
    lambda mean, basis, coeffs: mean.new_empty(coeffs.shape[0], *mean.shape),
)
# What is not wanted comes back empty.
_BACKWARD = register(
    "_blend_bwd(Tensor grad, Tensor basis, Tensor coeffs, bool mean_too, bool basis_too, bool coeffs_too)"
    " -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)
