"""SegmentationNetwork: the U-Net of FOCUS, which tells the visible face from what covers it."""

from __future__ import annotations

import os
import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .resnet import check_images
from .weights import fill, read_state_dict

DEPTH = 5  # resolutions, each half of the one before
TEMPERATURE = 5.0  # the authors' graph has it before the sigmoid, so their weights need it
_STEP = 2 ** (DEPTH - 1)


class SegmentationNetwork(nn.Module):
    """The segmentation network S of FOCUS: a U-Net (Ronneberger et al. 2015) on the render and the photo.

    Five resolutions of `width`, 2, 4, 8 and 16 `width` channels; at each twice (3x3 convolution, batch normalisation,
    ReLU); dropout after the two deepest; on the way up nearest upsampling and a convolution, joined to the way
    down; last a 1x1 convolution and sigmoid(5 x). 34,528,769 parameters at width 64. Differentiable.

    Args:
        width: channels of the first resolution; 64 in the paper.
        dropout: probability, in training mode; 0.5 in the authors' program.
    """

    def __init__(self, width: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        if isinstance(width, bool) or not isinstance(width, int):
            raise TypeError(f"SegmentationNetwork(): expected width to be an int, got {type(width).__name__}")
        if width < 1:
            raise ValueError(f"SegmentationNetwork(): expected width to be at least 1, got {width}")
        if not 0 <= dropout < 1:
            raise ValueError(f"SegmentationNetwork(): expected dropout to be in [0, 1), got {dropout}")
        self.width, self.dropout = width, float(dropout)
        channels = [width * 2**level for level in range(DEPTH)]
        self.down = nn.ModuleList(_double(a, b) for a, b in zip([6, *channels[:-1]], channels, strict=True))
        # Lists in the order of use: from the deepest up.
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.Sequential(*_convolution(a, b)) for a, b in pairs)
        self.join = nn.ModuleList(_double(a, b) for a, b in pairs)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, render: Tensor, photo: Tensor) -> Tensor:
        """The probability that a pixel of the photo shows the face.

        Args:
            render: [B, 3, H, W], RGB in [0, 1], the rendered face on black (or on the photo, for weights trained so).
            photo: [B, 3, H, W], RGB in [0, 1]. Sides that are no multiple of 16 are extended by zeros on the right and
                below, as the convolutions extend their own inputs.

        Returns:
            [B, 1, H, W] in [0, 1] of the photo's dtype, also under autocast; soft, and not yet restricted to the
            rendered face.
        """
        return torch.sigmoid(self.logits(render, photo))

    def logits(self, render: Tensor, photo: Tensor) -> Tensor:
        """What the sigmoid is taken of, the factor 5 included: [B, 1, H, W], for losses that are stable in logits."""
        check_images("SegmentationNetwork", photo)
        if render.shape != photo.shape:
            raise ValueError(
                f"SegmentationNetwork(): expected render to be shape {list(photo.shape)} as photo, "
                f"got {list(render.shape)}"
            )
        height, width = photo.shape[2:]
        x = F.pad(torch.cat([render, photo], dim=1), (0, -width % _STEP, 0, -height % _STEP))
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            if level >= DEPTH - 2:
                x = F.dropout(x, self.dropout, self.training)
            skips.append(x)
        x = skips.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = up(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = join(torch.cat([skips.pop(), x], dim=1))
        return TEMPERATURE * self.out(x)[:, :, :height, :width].to(photo.dtype)

    def load_authors(self, path: str | os.PathLike[str]) -> None:
        """Takes the weights of the authors' `UNet` from a file of its `state_dict()`, names changed to ours.

        The authors publish whole pickled modules, which are programs and are refused here. Where their code is
        at hand, `torch.save(torch.load(file, weights_only=False).state_dict(), new_file)` makes a file of weights.

        Raises:
            ValueError: a damaged file or another network's; the message names what is missing and unexpected.
            OSError: the file cannot be read.
        """
        caller = "SegmentationNetwork.load_authors()"
        state = {_our_name(key): value for key, value in read_state_dict(path, caller).items()}
        fill(self, state, f"{caller}: {path}", optional=".num_batches_tracked")


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(inputs, outputs), *_convolution(outputs, outputs))


def _our_name(key: str) -> str:
    """`Conv4.double_conv.0.3.weight` -> `down.3.3.weight`: dropout nests the blocks that have it in a Sequential."""
    if match := re.fullmatch(r"Conv([1-5])\.double_conv(?:\.0)?\.([0134]\.\w+)", key):
        return f"down.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"Up_conv([2-5])\.double_conv\.([0134]\.\w+)", key):
        return f"join.{DEPTH - int(match[1])}.{match[2]}"
    if match := re.fullmatch(r"Up([2-5])\.up\.([12])\.(\w+)", key):
        return f"up.{DEPTH - int(match[1])}.{int(match[2]) - 1}.{match[3]}"
    return re.sub(r"^Conv\.", "out.", key)
