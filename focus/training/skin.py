"""Skin colour: a baseline's weight of pixels, after the photo-consistency term of Deep3D (Deng et al. 2019)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# ITU-R BT.601 for RGB in [0, 1]: Y in [0, 1], Cb and Cr in [-0.5, 0.5].
_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class Gaussian(NamedTuple):
    """Mean [3] and covariance [3, 3] of colours in YCbCr."""

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]


# scripts/fit_skin_colour.py, of synthetic faces.
SKIN = Gaussian(
    (0.5333, -0.0599, 0.0712),
    ((0.03673, -0.00343, 0.00313), (-0.00343, 0.00078, -0.00058), (0.00313, -0.00058, 0.00101)),
)
OTHER = Gaussian(
    (0.3812, -0.0175, 0.0188),
    ((0.03995, -0.00318, -0.00115), (-0.00318, 0.00652, -0.00079), (-0.00115, -0.00079, 0.00735)),
)


def to_ycbcr(images: Tensor) -> Tensor:
    """RGB images [B, 3, H, W] in YCbCr. Differentiable."""
    return torch.einsum("ij,bjhw->bihw", images.new_tensor(_YCBCR), images)


def skin_probability(images: Tensor) -> Tensor:
    """The probability that a pixel's colour is that of skin, both classes being as likely before.

    p = N(x; skin) / (N(x; skin) + N(x; other)) with Gaussians in YCbCr, as Deep3D weights its pixel loss; the
    Gaussians are fitted to this project's synthetic faces.

    Args:
        images: [B, 3, H, W], RGB in [0, 1].

    Returns:
        [B, 1, H, W] in [0, 1], without gradient.
    """
    colours = to_ycbcr(images.detach())
    return torch.sigmoid(_log_density(colours, SKIN) - _log_density(colours, OTHER))


def _log_density(colours: Tensor, gaussian: Gaussian) -> Tensor:
    mean = colours.new_tensor(gaussian.mean).view(1, 3, 1, 1)
    covariance = colours.new_tensor(gaussian.covariance)
    off = colours - mean
    distance = (off * torch.einsum("ij,bjhw->bihw", torch.linalg.inv(covariance), off)).sum(1, keepdim=True)
    return -0.5 * (distance + torch.logdet(covariance))
