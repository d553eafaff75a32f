"""Small autoencoders, photos and landmarks for tests of reconstruction."""

import numpy as np
import torch
from torch import nn

from focus import FaceModel
from focus.autoencoder import FaceAutoencoder
from focus.decoder import ThetaLayout, decode
from focus.presets import Preset

SIZE = 48  # px


class Encoder(nn.Module):
    """Theta grows with the brightness of the photo's quarters: different photos get different faces."""

    def __init__(self, outputs, strength=0.3):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.outputs = outputs
        self.weight = nn.Parameter(strength * torch.randn(12, outputs, generator=generator))

    def forward(self, photos):
        return nn.functional.adaptive_avg_pool2d(photos, 2).flatten(1) @ self.weight


class Segmenter(nn.Module):
    """The same share of every pixel."""

    def __init__(self, share=0.25):
        super().__init__()
        self.share = share

    def forward(self, render, photo):
        return torch.full_like(photo[:, :1], self.share)


def autoencoder(model=None, segmenter=None, size=SIZE, strength=0.3):
    """On the free model at level 0."""
    model = FaceModel.load(level=0) if model is None else model
    encoder = Encoder(ThetaLayout.of(model).total, strength)
    return FaceAutoencoder(encoder, segmenter, model, Preset(), size)


def photo(seed=0, height=90, width=120):
    """Smooth random colours: uint8 [height, width, 3]."""
    coarse = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (255 * smooth[0].permute(1, 2, 0)).round().to(torch.uint8).numpy()


def landmarks(model, centre=(60.0, 45.0), width=80.0):
    """The mean face's 68 landmarks [68, 2] where a crop `width` px wide lies around `centre`, half-pixel centres."""
    face = decode(model, torch.zeros(1, ThetaLayout.of(model).total), size=224)
    return (face.landmarks[0].numpy().astype(np.float64) - 112) * width / 224 + centre
