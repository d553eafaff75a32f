"""ArcFace: the iresnet-50 of InsightFace, from a file that the user brings."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .chips import ARCFACE_SIZE, arcface_chips
from .recognizer import check_chips
from .weights import fill, read_state_dict

LAYERS = ((64, 3), (128, 4), (256, 14), (512, 3))  # channels and blocks of layer1 to layer4
EMBEDDING = 512


class IdentityBlock(nn.Module):
    """Batch normalisation, 3x3, PReLU, 3x3 with the stride, added to the input (Deng et al. 2019, Duta et al. 2020)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h / stride, w / stride]."""
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y))
        return y + (x if self.downsample is None else self.downsample(x))


class ArcFace(nn.Module):
    """InsightFace's ArcFace network with an iresnet-50, FOCUS's own perceptual network F; 43.59 million parameters.

    Names of the weights are those of InsightFace's `backbone.pth` (FOCUS used ms1mv3_arcface_r50_fp16). The weights do
    not ship with this package: InsightFace gives them for non-commercial research. Always in evaluation mode: its batch
    statistics never change. Differentiable in the chips.
    """

    chip_size = ARCFACE_SIZE

    def __init__(self) -> None:
        super().__init__()
        inputs = LAYERS[0][0]
        self.conv1 = nn.Conv2d(3, inputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.prelu = nn.PReLU(inputs)
        for index, (outputs, blocks) in enumerate(LAYERS):
            layer = nn.Sequential()
            for block in range(blocks):
                layer.append(IdentityBlock(inputs, outputs, 2 if block == 0 else 1))
                inputs = outputs
            setattr(self, f"layer{index + 1}", layer)
        self.bn2 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * (ARCFACE_SIZE // 16) ** 2, EMBEDDING)
        self.features = nn.BatchNorm1d(EMBEDDING)
        self.eval()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ArcFace:
        """The network with the weights of a `backbone.pth`, read without running anything in it, or of a safetensors
        file; frozen, on the CPU in float32.

        Raises:
            ValueError: a damaged file or another network's; the message names what is missing and unexpected.
            OSError: the file cannot be read.
        """
        with torch.random.fork_rng(devices=[]):
            network = cls()
        fill(
            network, read_state_dict(path, "ArcFace.load()"), f"ArcFace.load(): {path}", optional="num_batches_tracked"
        )
        return network.requires_grad_(False)

    def train(self, mode: bool = True) -> ArcFace:
        """Stays in evaluation mode, whatever is asked."""
        return super().train(False)

    def chips(self, images: Tensor, landmarks: Tensor, *, landmark_gradient: bool = False) -> Tensor:
        """`arcface_chips` of images [B, 3, H, W] and landmarks [B, 68, 2]: [B, 3, 112, 112]."""
        return arcface_chips(images, landmarks, landmark_gradient=landmark_gradient)

    def forward(self, chips: Tensor) -> Tensor:
        """The deep embedding of chips [B, 3, 112, 112], RGB in [0, 1]: [B, 512], of length 1."""
        return self.embedding(self.feature_maps(chips))

    def embedding(self, maps: tuple[Tensor, ...]) -> Tensor:
        """The deep embedding [B, 512], of length 1, from all four feature maps, where both are wanted."""
        return F.normalize(self.features(self.fc(self.bn2(maps[-1]).flatten(1))), dim=-1)

    def feature_maps(self, chips: Tensor, count: int | None = None) -> tuple[Tensor, ...]:
        """The maps after layer1 to layer4; the first is FOCUS's shallow feature.

        Args:
            chips: [B, 3, 112, 112], RGB in [0, 1]; 2 x - 1 goes in.
            count: compute the first so many only.

        Returns:
            [B, 64, 56, 56], [B, 128, 28, 28], [B, 256, 14, 14], [B, 512, 7, 7].
        """
        check_chips("ArcFace", chips, self.chip_size)
        x = self.prelu(self.bn1(self.conv1(2 * chips - 1)))
        maps = []
        for index in range(len(LAYERS) if count is None else count):
            x = getattr(self, f"layer{index + 1}")(x)
            maps.append(x)
        return tuple(maps)

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Cosine of embeddings [B, 512]: [B] in [-1, 1]. These need no centre: the training was for cosines."""
        return F.cosine_similarity(first, second, dim=-1)
