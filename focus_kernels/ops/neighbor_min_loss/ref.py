"""neighbor_min_loss in plain PyTorch: the definition that every other backend is held to."""

import torch
from torch import Tensor

from .modes import MASK_MEAN, MEAN, NONE, Modes


def why_not(*args) -> list[str]:
    return []


def forward(target: Tensor, rendered: Tensor, mask: Tensor, modes: Modes) -> Tensor:
    target, rendered, mask = (x if x.dtype == torch.float64 else x.float() for x in (target, rendered, mask))
    if modes.masking:
        target, rendered = target * mask, rendered * mask
    fixed, moving = (rendered, target) if modes.search else (target, rendered)
    r = modes.margin
    H, W = modes.map_size(*mask.shape[2:])
    fixed, mask = (x[:, :, r : r + H, r : r + W] for x in (fixed, mask))
    index = nearest(fixed.detach(), moving.detach(), modes.window, r)  # [B, H', W']
    found = moving.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, 3, -1)).view_as(fixed)
    least = (found - fixed).square().sum(1, keepdim=True)  # [B, 1, H', W']
    if modes.power == 1:
        same = least == 0
        least = torch.where(same, 0, torch.where(same, 1, least).sqrt())  # the gradient of a norm at zero is zero
    return reduced(least if modes.masking else mask * least, mask, modes.reduction)


def nearest(fixed: Tensor, moving: Tensor, window: int, first: int) -> Tensor:
    """Which pixel of `moving` is the nearest to each of `fixed`, whose pixel (0, 0) lies at (first, first) of `moving`.

    Of several the first in row order, and a distance of NaN before all others.
    """
    (H, W), r = moving.shape[2:], window // 2
    y = torch.arange(fixed.shape[2], device=fixed.device)[:, None] + first  # [H', 1]
    x = torch.arange(fixed.shape[3], device=fixed.device) + first  # [W']
    least, index = fixed.new_full(fixed[:, 0].shape, torch.inf), torch.full(fixed[:, 0].shape, -1, device=fixed.device)
    for dy in range(-r, r + 1):
        for dx in range(-r, r + 1):
            inside = (y + dy >= 0) & (y + dy < H) & (x + dx >= 0) & (x + dx < W)
            at = (y + dy).clamp(0, H - 1) * W + (x + dx).clamp(0, W - 1)  # [H', W']
            square = (moving.flatten(2)[:, :, at] - fixed).square().sum(1)  # [B, H', W']
            better = inside & ((index < 0) | (square < least) | (square.isnan() & ~least.isnan()))
            least, index = torch.where(better, square, least), torch.where(better, at, index)
    return index


def reduced(values: Tensor, mask: Tensor, reduction: int) -> Tensor:
    """values and mask [B, 1, H', W']; the mean of nothing is 0."""
    if reduction == MEAN:
        return values.sum() / max(values.numel(), 1)
    if reduction == MASK_MEAN:
        per_image = values.sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1)
        return per_image.sum() / max(len(values), 1)
    return values if reduction == NONE else values.sum()
