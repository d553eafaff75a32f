"""FaceRecognizer: dlib's face recognition network as a differentiable torch module, with its weights in the package."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .chips import RECOGNIZER_SIZE, recognizer_chips
from .weights import ASSETS, load_network

ASSET = ASSETS / "face_recognizer.safetensors"
MEAN = (122.782, 117.001, 104.298)  # dlib's mean colour, of 255
STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))  # channels and blocks; all but the first begin by halving
STEM_CHANNELS = 32
EMBEDDING = 128


class ResidualBlock(nn.Module):
    """dlib's residual block: two 3x3 convolutions, their affine layers folded into them.

    A block that halves convolves without padding and averages its input 2x2; where the two differ in rows, columns or
    channels, the smaller is extended by zeros, as dlib's `add_prev` does.
    """

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2 if halve else 1, padding=0 if halve else 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h, w] or about half of that."""
        y = self.conv2(F.relu(self.conv1(x), inplace=True))
        if self.halve:
            x = F.avg_pool2d(x, 2, 2)
            shape = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
            x, y = _extend(x, shape), _extend(y, shape)
        return F.relu(x + y, inplace=True)


class RecognizerTrunk(nn.Module):
    """What `FaceRecognizer` does before its last layer, or the first stages of it.

    Args:
        stages: how many of the five.
    """

    mean: Tensor

    def __init__(self, stages: int = len(STAGES)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2)
        self.stages = nn.ModuleList()
        inputs = STEM_CHANNELS
        for index, (outputs, blocks) in enumerate(STAGES[:stages]):
            stage = [ResidualBlock(inputs, outputs, index > 0)]
            stage += [ResidualBlock(outputs, outputs, False) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*stage))
            inputs = outputs
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) / 255, persistent=False)

    def forward(self, chips: Tensor, count: int | None = None) -> tuple[Tensor, ...]:
        """Chips [B, 3, 150, 150], RGB in [0, 1], to the maps after each stage, or after the first `count`."""
        x = self.stem((chips - self.mean) * (255 / 256))
        x = F.max_pool2d(F.relu(x, inplace=True), 3, 2)
        maps = []
        for stage in self.stages[: len(self.stages) if count is None else count]:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


class FaceRecognizer(nn.Module):
    """dlib's face recognition ResNet (dlib_face_recognition_resnet_model_v1, CC0), the perceptual network F.

    A chip of 150 px becomes 128 numbers; chips of one person have a Euclidean distance below about 0.6. 5.6 million
    parameters, from a safetensors file that ships with this package (docs/face_recognizer.md). The constructor makes
    one with random weights, `load` one that knows faces. It has neither batch statistics nor dropout, so training and
    evaluation mode are the same. Differentiable in the chips and in its weights; `load` freezes the weights.
    """

    centre: Tensor
    chip_size = RECOGNIZER_SIZE

    def __init__(self) -> None:
        super().__init__()
        self.trunk = RecognizerTrunk()
        self.head = nn.Linear(STAGES[-1][0], EMBEDDING, bias=False)
        self.register_buffer("centre", torch.zeros(EMBEDDING))

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> FaceRecognizer:
        """The network of this package, or of a file of `save_network`, frozen, on the CPU in float32.

        Raises:
            ValueError: the file is damaged or holds another network.
            OSError: the file cannot be read.
        """
        return load_network(ASSET if path is None else path, cls).requires_grad_(False)

    def chips(self, images: Tensor, landmarks: Tensor, *, landmark_gradient: bool = False) -> Tensor:
        """`recognizer_chips` of images [B, 3, H, W] and landmarks [B, 68, 2]: [B, 3, 150, 150]."""
        return recognizer_chips(images, landmarks, landmark_gradient=landmark_gradient)

    def forward(self, chips: Tensor) -> Tensor:
        """The deep embedding.

        Args:
            chips: [B, 3, 150, 150], RGB in [0, 1]. `chips` makes them.

        Returns:
            [B, 128], not normalised, dlib's numbers up to the rounding of the stored weights.
        """
        return self.embedding(self.feature_maps(chips))

    def embedding(self, maps: tuple[Tensor, ...]) -> Tensor:
        """The deep embedding [B, 128] from all five feature maps, where both are wanted."""
        return self.head(maps[-1].mean(dim=(2, 3)))

    def feature_maps(self, chips: Tensor, count: int | None = None) -> tuple[Tensor, ...]:
        """The maps after each stage, after ReLU.

        Args:
            chips: [B, 3, 150, 150], RGB in [0, 1].
            count: compute the first so many only.

        Returns:
            [B, 32, 35, 35], [B, 64, 17, 17], [B, 128, 8, 8], [B, 256, 4, 4], [B, 256, 2, 2].
        """
        check_chips("FaceRecognizer", chips, self.chip_size)
        return self.trunk(chips, count)

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Cosine of centred embeddings.

        The network was trained for distances, and all its embeddings lie on one side of the origin: the plain cosine
        of two different people has a median of 0.83, so it says little. `centre`, the mean embedding of many faces,
        is taken off first.

        Args:
            first, second: [B, 128], as `forward` gives them; differentiable.

        Returns:
            [B], in [-1, 1]; 1 for equal embeddings.
        """
        return F.cosine_similarity(first - self.centre, second - self.centre, dim=-1)


def check_chips(name: str, chips: Tensor, size: int) -> None:
    """Raises unless `chips` are floating [B, 3, size, size]."""
    if not chips.is_floating_point():
        raise TypeError(f"{name}(): expected chips to be a floating type in [0, 1], got {chips.dtype}")
    if chips.ndim != 4 or chips.shape[1:] != (3, size, size):
        raise ValueError(f"{name}(): expected chips to be shape [B, 3, {size}, {size}], got {list(chips.shape)}")


def _extend(x: Tensor, shape: list[int]) -> Tensor:
    """Zeros after the last channels, rows and columns, up to `shape`."""
    channels, rows, columns = (wanted - has for wanted, has in zip(shape, x.shape[1:], strict=True))
    return F.pad(x, (0, columns, 0, rows, 0, channels)) if channels or rows or columns else x
