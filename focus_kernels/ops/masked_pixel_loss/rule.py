"""How kinds and reductions are numbered, as in csrc/masked_pixel_loss, and what a call allocates."""

import torch
from torch import Tensor

SQUARED, L2, L1 = range(3)
NONE, SUM, MEAN, MASK_MEAN, BATCH_MASK_MEAN = range(5)
KINDS = {"squared": SQUARED, "l2": L2, "l1": L1, "gaussian_inlier": SQUARED}
REDUCTIONS = {"mean": MEAN, "mask_mean": MASK_MEAN, "batch_mask_mean": BATCH_MASK_MEAN, "sum": SUM, "none": NONE}


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def outputs(target: Tensor, reduction: int) -> tuple[Tensor, Tensor]:
    """The loss, and what the backward needs of the sums: a row of (sum, weight) per denominator, in float64."""
    B, _, H, W = target.shape
    shape = (B, 1, H, W) if reduction == NONE else ()
    rows = {MASK_MEAN: B, BATCH_MASK_MEAN: 1}.get(reduction, 0)
    loss = target.new_empty(shape, dtype=sum_dtype(target.dtype))
    return loss, target.new_empty((rows, 2), dtype=torch.float64)
