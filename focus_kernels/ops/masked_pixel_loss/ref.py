"""masked_pixel_loss in plain PyTorch: the definition that every other backend is held to."""

import torch
from torch import Tensor

from .rule import L1, L2, MASK_MEAN, MEAN, NONE, SUM, sum_dtype


def why_not(*args) -> list[str]:
    return []


def forward(
    target: Tensor,
    rendered: Tensor,
    mask: Tensor,
    kind: int,
    scale: float,
    offset: float,
    threshold: float | None,
    reduction: int,
) -> Tensor:
    target, rendered, mask = (image.to(sum_dtype(image.dtype)) for image in (target, rendered, mask))
    difference = rendered - target  # [B, 3, H, W]
    if threshold is not None:
        inlier = _square(difference.detach()) < threshold  # [B, 1, H, W]
        # What is cut is replaced, not multiplied by zero: it may be infinite.
        difference, mask = torch.where(inlier, difference, 0), torch.where(inlier, mask, 0)
    pixels = mask * _distance(difference, kind, scale, offset)  # [B, 1, H, W]
    B, _, H, W = pixels.shape
    if reduction == NONE:
        return pixels
    if reduction == SUM:
        return pixels.sum()
    if reduction == MEAN:
        return pixels.sum() / max(B * H * W, 1)
    if reduction == MASK_MEAN:
        return (pixels.sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1)).sum() / max(B, 1)
    return pixels.sum() / mask.sum().clamp(min=1)


def inliers(target: Tensor, rendered: Tensor, mask: Tensor, threshold: float) -> Tensor:
    wide = sum_dtype(target.dtype)
    return torch.where(_square(rendered.to(wide) - target.to(wide)) < threshold, mask, 0)


def _distance(difference: Tensor, kind: int, scale: float, offset: float) -> Tensor:
    if kind == L1:
        return difference.abs().sum(1, keepdim=True)
    square = _square(difference)
    if kind == L2:
        zero = square == 0
        return torch.where(zero, 0, torch.where(zero, 1, square).sqrt())  # its gradient is 0 at 0, not NaN
    return square * scale + offset


def _square(difference: Tensor) -> Tensor:
    return (difference * difference).sum(1, keepdim=True)
