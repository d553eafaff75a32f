"""The terms of the losses: one function for each equation."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from focus.decoder import Theta
from focus.presets import LandmarkSettings, NeighborSettings, PixelSettings
from focus_kernels import inlier_mask, masked_pixel_loss, neighbor_min_loss

SMALLEST_NORM = 1e-8  # a feature vector of this length or less has no direction
PROBABILITY_MARGIN = 1e-6  # what is nearer to 0 or 1 has no finite logarithm, or no gradient, in float32
_HALF = (torch.float16, torch.bfloat16)


def neighbor_loss(target: Tensor, rendered: Tensor, mask: Tensor, settings: NeighborSettings) -> Tensor:
    """L_nbr (Eq. 1 and 12): each pixel against the most similar of its neighbours in the other image, averaged.

    `paper`: mean over all pixels x of M(x) min over the 3x3 neighbours x' inside the image of |I_T(x) - I_R(x')|^2.
    `authors`: mean over the pixels 2 or more from the border of min over 5x5 shifts d of |(I_R M)(x) - (I_T M)(x + d)|.

    Returns:
        [], differentiable in all three images; the nearest neighbour is held fixed. A pixel that is infinite is
        nobody's nearest neighbour, so in the searched image only NaN shows.
    """
    return neighbor_min_loss(
        *widened(target, rendered, mask),
        window=settings.window,
        search=settings.search,
        power=settings.power,
        masking=settings.masking,
        border=settings.border,
        reduction="mean",
    )


def pixel_loss(
    target: Tensor,
    rendered: Tensor,
    mask: Tensor,
    settings: PixelSettings,
    total: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """L_pixel (Eq. 5): the distance of photo and render where the mask says face.

    `paper`: for each image sum of M |I_T - I_R|^2 / max(sum of M, 1), then the mean of the images.
    `authors`: sum of M |I_T - I_R| / max(sum of M, 1), both over the whole batch.

    Args:
        total: where a batch is spread over processes, the sum over all of them of a tensor [], differentiable as
            `torch.distributed.nn.functional.all_reduce` is. Then the mean of the processes' losses, and of their
            gradients, is that of the whole batch. Only "batch_mask_mean" calls it. None: one process.

    Returns:
        [], differentiable in all three images, in the mask through the divisor too (unless its sum is below 1).
    """
    images = widened(target, rendered, mask)
    if total is None or settings.reduction != "batch_mask_mean":
        return masked_pixel_loss(*images, kind=settings.kind, reduction=settings.reduction)
    distances = masked_pixel_loss(*images, kind=settings.kind, reduction="sum")
    processes = total(torch.ones_like(distances))
    return processes * distances / total(images[2].sum()).clamp(min=1)


def cosine_distance(x: Tensor, y: Tensor, row_normalized: bool = False) -> Tensor:
    """cos(x, y) = 1 - x.y / (|x| |y|): L_dist (Eq. 2), L_presv (Eq. 4) and L_per (Eq. 6), of F's features.

    L_dist is cos(F(I_T M), F(I_R M)), L_presv cos(F(I_T M), F(I_T)), L_per cos(F(I_T), F(I_R)). The product is over
    channels, the mean over the batch and, for feature maps, over positions. A vector without a direction (length 1e-8
    or less) has distance 1 from all others, and no gradient.

    Args:
        x: features [B, C] or [B, C, h, w].
        y: as x.
        row_normalized: feature maps are first divided by the lengths of their rows (over w), as by the authors.

    Returns:
        [], in [0, 2], differentiable in both.

    Raises:
        ValueError: the shapes differ, or are no features'.
    """
    if x.shape != y.shape or x.ndim not in (2, 4):
        expected = "y to be shape " + str(list(x.shape)) if x.ndim in (2, 4) else "x to be shape [B, C] or [B, C, h, w]"
        raise ValueError(f"cosine_distance(): expected {expected}, got {list((y if x.ndim in (2, 4) else x).shape)}")
    x, y = widened(x, y)
    if row_normalized and x.ndim == 4:
        x, y = _directions(x, 3), _directions(y, 3)
    return _mean(1 - (_directions(x, 1) * _directions(y, 1)).sum(1))


def area_loss(mask: Tensor, raster_mask: Tensor, offset: float = 0.0) -> Tensor:
    """L_area (Eq. 3): offset - mean over images of sum of M / max(sum of the raster's mask, 1).

    offset is 0 for `paper`, 1 for `authors`. Both masks are [B, 1, H, W].

    Returns:
        [], differentiable in mask.
    """
    mask, raster_mask = _masks("area_loss", mask, raster_mask)
    return offset - _mean(mask.sum((1, 2, 3)) / raster_mask.sum((1, 2, 3)).clamp(min=1))


def binary_loss(mask: Tensor, raster_mask: Tensor, form: str = "square") -> Tensor:
    """L_bin: rewards masks that are near to 0 or 1.

    "square" (`paper`): -(M - 0.5)^2, for each image its mean over the raster (sum / max(area, 1)), then over images.
    "absolute" (`authors`): 0.5 - |M - 0.5|, averaged over all pixels. Both masks are [B, 1, H, W].

    Returns:
        [], differentiable in mask; "absolute" has gradient 0 at 0.5.

    Raises:
        ValueError: an unknown form.
    """
    mask, raster_mask = _masks("binary_loss", mask, raster_mask)
    if form == "square":
        inside = raster_mask * (mask - 0.5).square()
        return -_mean(inside.sum((1, 2, 3)) / raster_mask.sum((1, 2, 3)).clamp(min=1))
    if form != "absolute":
        raise ValueError(f"binary_loss(): expected form to be 'square' or 'absolute', got {form!r}")
    return _mean(0.5 - (mask - 0.5).abs())


def landmark_loss(target: Tensor, rendered: Tensor, settings: LandmarkSettings) -> Tensor:
    """L_lm (Eq. 7): squared distances of the landmarks, those of the nose ridge and the inner lip weighted.

    `paper`: mean over [B, 68] of w |lm_T - lm_R|^2, w = 20 for landmarks 27-30 and 60-67, else 1.
    `authors`: mean over [B, 2, 68] of (w d)^2, d the difference of a coordinate, w = 20 for 28-30 and 60-67, else 1.
    "norm": mean over [B, 68] of w |lm_T - lm_R|; the gradient of a distance of zero is zero.

    Args:
        target: landmarks of the photo [B, 68, 2], pixels.
        rendered: those of the face, as target; both with pixel centres at halves.
        settings: the weights.

    Returns:
        [], pixels squared (for "norm" pixels), differentiable in both.

    Raises:
        ValueError: a wrong shape.
    """
    for name, value in (("target", target), ("rendered", rendered)):
        if value.ndim != 3 or value.shape[1:] != (68, 2) or value.shape != target.shape:
            wanted = list(target.shape) if name == "rendered" else "[B, 68, 2]"
            raise ValueError(f"landmark_loss(): expected {name} to be shape {wanted}, got {list(value.shape)}")
    target, rendered = widened(target, rendered)
    weights = rendered.new_ones(68)
    weights[list(settings.weighted)] = settings.weight
    offset = rendered - target
    if settings.weighting == "square":
        return _mean(weights * offset.square().sum(2))
    if settings.weighting == "norm":
        squares = offset.square().sum(2)
        return _mean(weights * torch.where(squares > 0, squares, 1).sqrt() * (squares > 0))
    return _mean((weights[:, None] * offset).square())


def regularisation_loss(parameters: Theta, divisor: float = 224.0) -> Tensor:
    """L_reg: the sum of squares of identity, expression and albedo over `divisor`, averaged over the batch.

    Args:
        parameters: in standard deviations, so those of `Face.parameters`; camera and light do not count.
        divisor: 224 in both presets, the number of coefficients.

    Returns:
        [], differentiable in the parameters.
    """
    coefficients = torch.cat(widened(parameters.identity, parameters.expression, parameters.albedo), 1)
    return _mean(coefficients.square().sum(1)) / divisor


def preliminary_mask(target: Tensor, rendered: Tensor, raster_mask: Tensor, threshold: float = 0.016641) -> Tensor:
    """M_pre (Eq. 9 and 10): the raster's mask where the squared RGB distance of the images is below the threshold.

    Returns:
        [B, 1, H, W], a constant: it has no gradient. 0 where the distance is NaN; the losses show that it is.
    """
    return inlier_mask(*widened(target, rendered, raster_mask), threshold=threshold)


def gaussian_loss(target: Tensor, rendered: Tensor, mask: Tensor, sigma: float = 0.043) -> Tensor:
    """Minus the log-likelihood of Eq. 9, the pixel loss of the authors' initialisation: mean over all pixels of
    M (|I_T - I_R|^2 / (2 sigma^2) + 3/2 log(2 pi) + 3 log(sigma)), with M = M_pre.

    Returns:
        [], differentiable in the images.
    """
    images = widened(target, rendered, mask)
    # The kernel's "gaussian_inlier" cuts at its own threshold, and with it NaN.
    squares = masked_pixel_loss(*images, kind="squared", reduction="mean")
    return squares / (2 * sigma**2) + _mean(images[2]) * (1.5 * math.log(2 * math.pi) + 3 * math.log(sigma))


def pretraining_loss(predicted: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of the segmentation network's probabilities against M_pre, averaged over all pixels (3.3).

    Args:
        predicted: probabilities [B, 1, H, W], of the network alone, not multiplied by the raster's mask.
        mask: the preliminary mask, as predicted.

    Returns:
        [], differentiable in predicted where that is in (1e-6, 1 - 1e-6), to which it is clamped.
    """
    predicted, mask = widened(predicted, mask.detach())
    p = predicted.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
    return -_mean(mask * p.log() + (1 - mask) * (-p).log1p())


def _masks(function: str, mask: Tensor, raster_mask: Tensor) -> list[Tensor]:
    for name, value in (("mask", mask), ("raster_mask", raster_mask)):
        if value.ndim != 4 or value.shape[1] != 1 or value.shape != mask.shape:
            wanted = "[B, 1, H, W]" if name == "mask" else str(list(mask.shape))
            raise ValueError(f"{function}(): expected {name} to be shape {wanted}, got {list(value.shape)}")
    return widened(mask, raster_mask)


def widened(*tensors: Tensor) -> list[Tensor]:
    """Half precision as float32."""
    return [tensor.float() if tensor.dtype in _HALF else tensor for tensor in tensors]


def _mean(values: Tensor) -> Tensor:
    """The mean, 0 of nothing."""
    return values.sum() / max(values.numel(), 1)


def _directions(x: Tensor, dim: int) -> Tensor:
    """x divided by its lengths over a dimension; zero, with gradient zero, where they are at most 1e-8."""
    squares = x.square().sum(dim, keepdim=True)
    short = squares <= SMALLEST_NORM**2  # not so for NaN, which stays
    return torch.where(short, 0, x / torch.where(short, 1, squares).sqrt())
