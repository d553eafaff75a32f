"""A DECA-style training loop on the free face model: a small encoder learns to explain images of random faces.

The renderer is DECA's, from `focus_kernels.compat.deca`. Runs on the CPU: python examples/deca_loop.py
"""

import argparse
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from focus import FaceModel
from focus_kernels import vertex_normals
from focus_kernels.compat.deca import Pytorch3dRasterizer, add_SHlight

SIZE = 64
COMPONENTS = (12, 8, 6)  # identity, expression, albedo


class Code(NamedTuple):
    """What the encoder predicts for B faces."""

    shape: Tensor  # [B, 12] standard deviations
    expression: Tensor  # [B, 8]
    albedo: Tensor  # [B, 6]
    camera: Tensor  # [B, 3] scale (NDC per 100 mm) and translation (NDC)
    light: Tensor  # [B, 9, 3]


def to_code(numbers: Tensor) -> Code:
    """[B, 56] of the order of 1 -> a face near the middle of the image, under light near white from the front."""
    shape, expression, albedo, camera, light = numbers.split([*COMPONENTS, 3, 27], dim=1)
    camera = numbers.new_tensor([0.85, 0.0, 0.0]) + 0.1 * camera
    ambient = numbers.new_zeros(9, 3)
    ambient[0], ambient[3] = 2.5, 0.4
    return Code(shape, expression, albedo, camera, ambient + 0.2 * light.view(-1, 9, 3))


class Encoder(nn.Module):
    """Images [B, 3, 64, 64] -> codes."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 64)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
        last = nn.Linear(widths[-1] * (SIZE // 16) ** 2, sum(COMPONENTS) + 3 + 27)
        nn.init.zeros_(last.weight)  # starts at the mean face
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, nn.Flatten(), last)

    def forward(self, images: Tensor) -> Code:
        return to_code(self.layers(images))


class Decoder(nn.Module):
    """Codes -> images [B, 3, 64, 64], masks [B, 1, 64, 64] and landmarks [B, 68, 2] in NDC, x right and y down."""

    def __init__(self, model: FaceModel) -> None:
        super().__init__()
        self.model = model
        self.rasterizer = Pytorch3dRasterizer(SIZE)

    def forward(self, code: Code) -> tuple[Tensor, Tensor, Tensor]:
        model = self.model
        # the model is in millimetres with y up and z towards the camera; DECA has y down and z away from it
        vertices = model.shape(code.shape, code.expression) / 100
        normals = vertex_normals(vertices, model.topology)
        scale, shift = code.camera[:, None, :1], code.camera[:, None, 1:]
        flipped = scale * vertices * vertices.new_tensor([1.0, -1.0, -1.0])
        transformed = torch.cat([flipped[..., :2] + shift, flipped[..., 2:] + 10], dim=-1)

        # DECA gathers the attributes of each face's corners
        faces = model.topology.faces.long()
        attributes = torch.cat([model.albedo(code.albedo), normals], dim=-1)[:, faces]  # [B, F, 3, 6]
        rendering = self.rasterizer(transformed, faces.expand(len(vertices), -1, -1), attributes)  # [B, 7, H, W]
        albedo, normal_images, mask = rendering.split([3, 3, 1], dim=1)
        image = albedo * add_SHlight(normal_images, code.light) * mask
        return image, mask, transformed[:, model.landmarks, :2]


def train(steps: int, batch: int = 4, seed: int = 0) -> list[float]:
    """The loss at each step."""
    torch.manual_seed(seed)
    model = FaceModel.load(level=0, components=COMPONENTS)
    encoder, decoder = Encoder(), Decoder(model)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)

    with torch.no_grad():  # the data: random faces, drawn by the same decoder
        photos, masks, landmarks = decoder(to_code(torch.randn(8 * batch, sum(COMPONENTS) + 3 + 27)))

    losses = []
    for step in range(steps):
        chosen = torch.randperm(len(photos))[:batch]
        image, mask, predicted = decoder(encoder(photos[chosen]))
        both = mask * masks[chosen]
        photometric = (both * (image - photos[chosen]).abs()).sum() / (3 * both.sum().clamp(min=1))
        landmark = (predicted - landmarks[chosen]).abs().mean()
        loss = photometric + 2 * landmark
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step:4d}  photometric {photometric:.4f}  landmarks {landmark:.4f} NDC  loss {loss:.4f}")
    return losses


def main(steps: int = 160) -> None:
    losses = train(steps)
    tenth = max(1, steps // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    print(f"loss {first:.4f} -> {last:.4f}")
    assert last < 0.7 * first, "the loss should have fallen by 30 % or more"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=160)
    main(parser.parse_args().steps)
