"""blend: the public function."""

import torch
from torch import Tensor

from ... import _checks
from . import ref

BACKENDS = {"ref": ref}


def blend(mean: Tensor, basis: Tensor, coeffs: Tensor) -> Tensor:
    """A linear face model: mean + sum_k coeffs[b, k] * basis[k].

    It has no kernel of its own yet: torch multiplies on every backend, FOCUS_BACKEND notwithstanding.

    Args:
        mean: [V, 3] (mm for shapes), float32 or float64.
        basis: [K, V, 3], in the dtype of mean, or float16 or bfloat16 (products and sums are then still float32),
            one standard deviation per component.
        coeffs: [B, K] in standard deviations, in the dtype of mean. Half-precision mean and coeffs are widened inside
            autocast.

    Returns:
        [B, V, 3] in the dtype of mean. Differentiable any number of times in mean, basis and coeffs.

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
    return ref.forward(mean, basis, coeffs)
