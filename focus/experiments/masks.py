"""Masks that need no training, in the place of a segmentation network: for measuring them as one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..autoencoder import FaceAutoencoder
from ..losses import preliminary_mask
from ..training.skin import skin_probability
from .configurations import NETWORK, PRELIMINARY, SKIN_COLOUR, WHOLE


class PreliminaryMask(nn.Module):
    """Eq. 10 as a segmenter: 1 where render and photo differ by less than xi."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, rendered: Tensor, photos: Tensor) -> Tensor:
        """[B, 1, H, W] in {0, 1} of renders and photos [B, 3, H, W]."""
        return preliminary_mask(photos, rendered, torch.ones_like(photos[:, :1]), self.threshold)


class SkinMask(nn.Module):
    """Deep3D's weights as a segmenter: the probability that a pixel has the colour of skin."""

    def forward(self, rendered: Tensor, photos: Tensor) -> Tensor:
        """[B, 1, H, W] in [0, 1] of photos [B, 3, H, W]; renders are not looked at."""
        return skin_probability(photos)


def use_mask(autoencoder: FaceAutoencoder, kind: str) -> FaceAutoencoder:
    """The autoencoder with that mask (`Configuration.mask`) as its own; changed in place.

    Raises:
        ValueError: another kind, or "network" where there is none.
    """
    if kind == PRELIMINARY:
        autoencoder.segmenter = PreliminaryMask(autoencoder.preset.inlier_threshold)
    elif kind == SKIN_COLOUR:
        autoencoder.segmenter = SkinMask()
    elif kind == WHOLE:
        autoencoder.segmenter = None
    elif kind != NETWORK:
        raise ValueError(f"use_mask(): expected kind to be a mask of a Configuration, got {kind!r}")
    elif autoencoder.segmenter is None:
        raise ValueError("use_mask(): expected an autoencoder with a segmentation network, got None")
    return autoencoder
