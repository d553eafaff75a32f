"""ReconstructionNetwork: the ResNet-50 of FOCUS, with the names of torchvision's weights."""

from __future__ import annotations

import os

import torch.nn.functional as F
from torch import Tensor, nn

from .weights import fill, read_state_dict

LAYERS = ((64, 3), (128, 4), (256, 6), (512, 3))  # inner channels and blocks of layer1 to layer4
EXPANSION = 4  # a block gives so many times its inner channels


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch normalisation, added to the input; the 3x3 one carries the stride."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * channels
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h / stride, w / stride]."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ReconstructionNetwork(nn.Module):
    """The reconstruction network R of FOCUS: a ResNet-50 that answers theta (He et al. 2016; stride in the 3x3).

    Names and shapes of the weights are torchvision's `resnet50`, 25,557,032 numbers with 1000 outputs. The last layer
    starts at zero, weight and bias: at first every photo gives theta = 0, the mean face. Differentiable.

    Args:
        outputs: how many numbers theta has; 257 for BFM (identity 80, expression 64, albedo 80, light 27, camera 6).
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = check_outputs("ReconstructionNetwork", outputs)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for index, (channels, blocks) in enumerate(LAYERS):
            layer = nn.Sequential()
            for block in range(blocks):
                layer.append(Bottleneck(inputs, channels, 2 if index > 0 and block == 0 else 1))
                inputs = EXPANSION * channels
            setattr(self, f"layer{index + 1}", layer)
        self.fc = nn.Linear(inputs, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def load_torchvision(self, path: str | os.PathLike[str]) -> None:
        """Takes the weights of a `resnet50` of torchvision from a file, all but the last layer `fc`.

        Args:
            path: safetensors, or a .pth file of a state dict, which is read without running anything in it. Old files
                without `num_batches_tracked` are complete.

        Raises:
            ValueError: a damaged file or another network's; the message names what is missing and unexpected, and
                nothing is changed.
            OSError: the file cannot be read.
        """
        caller = "ReconstructionNetwork.load_torchvision()"
        fill(self, read_state_dict(path, caller), f"{caller}: {path}", skip=("fc.",), optional=".num_batches_tracked")

    def forward(self, images: Tensor) -> Tensor:
        """Theta of photos.

        Args:
            images: [B, 3, H, W], RGB in [0, 1], aligned by `focus.alignment.align_face`, usually 224 x 224. No mean is
                taken off, as in FOCUS and unlike in torchvision.

        Returns:
            [B, outputs] of the images' dtype, also under autocast; before the decoder's scales.
        """
        check_images("ReconstructionNetwork", images)
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images)), inplace=True), 3, 2, padding=1)
        for index in range(len(LAYERS)):
            x = getattr(self, f"layer{index + 1}")(x)
        return self.fc(x.mean(dim=(2, 3))).to(images.dtype)


def check_outputs(name: str, outputs: int) -> int:
    """The number of outputs; raises unless it is a positive integer."""
    if isinstance(outputs, bool) or not isinstance(outputs, int):
        raise TypeError(f"{name}(): expected outputs to be an int, got {type(outputs).__name__}")
    if outputs < 1:
        raise ValueError(f"{name}(): expected outputs to be at least 1, got {outputs}")
    return outputs


def check_images(name: str, images: Tensor, channels: int = 3) -> None:
    """Raises unless `images` are floating [B, channels, H, W] with pixels."""
    if not images.is_floating_point():
        raise TypeError(f"{name}(): expected images to be a floating type in [0, 1], got {images.dtype}")
    if images.ndim != 4 or images.shape[1] != channels or 0 in images.shape[2:]:
        raise ValueError(f"{name}(): expected images to be shape [B, {channels}, H, W], got {list(images.shape)}")
