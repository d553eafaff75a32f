"""Draws random faces of the free face model under random light: docs/images/face_model.jpg."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from focus import FaceModel
from focus.camera import focus_camera
from focus_kernels import render_sh

ROOT = Path(__file__).resolve().parents[1]
BACKGROUND = 0.30
SUPERSAMPLING = 2
LIMIT = 300_000  # bytes of the committed picture


def random_light(generator: torch.Generator) -> Tensor:
    """One light from a random direction over an even one: SH coefficients [3,9] for normals in the camera's frame."""
    azimuth, height, share = torch.rand(3, generator=generator).tolist()
    azimuth, height, share = 2.2 * azimuth - 1.1, 1.0 * height - 0.1, 0.25 + 0.45 * share
    x, y = math.sin(azimuth) * math.cos(height), -math.sin(height)
    z = -math.cos(azimuth) * math.cos(height)
    even = 1.02 - 0.62 * share
    # Y_0 = 0.282095 and Y_1..3 = (-0.488603 y, 0.488603 z, -0.488603 x): even + share * (direction . normal).
    grey = torch.zeros(9)
    grey[:4] = torch.tensor([even / 0.282095, -share * y / 0.488603, share * z / 0.488603, -share * x / 0.488603])
    return grey * (1 + 0.03 * torch.randn(3, 1, generator=generator))


def draw(model: FaceModel, size: int, count: int, generator: torch.Generator, expressive: Tensor) -> Tensor:
    """Images [count, 3, size, size] in [0, 1]; expressive [count] scales the expression."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    identity = normal(count, model.identity_basis.shape[0])
    expression = normal(count, model.expression_basis.shape[0]) * expressive[:, None]
    colours = normal(count, model.albedo_basis.shape[0])
    turn = (torch.rand(count, generator=generator) - 0.5) * 1.3
    angles = torch.stack([0.1 * normal(count), turn, 0.05 * normal(count)], dim=1)
    light = torch.stack([random_light(generator) for _ in range(count)])
    side = size * SUPERSAMPLING
    shift = torch.tensor([0.0, 0.0, 60.0]).expand(count, 3)  # a little further off than FOCUS's crop, to see the border
    with torch.no_grad():
        image = render_sh(
            model.shape(identity, expression),
            model.albedo(colours),
            light,
            model.topology,
            focus_camera(angles, shift, size=side),
            (side, side),
            background=torch.full((3,), BACKGROUND),
        ).image
    return torch.nn.functional.avg_pool2d(image.clamp(0, 1), SUPERSAMPLING)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw random faces of the free face model under random light.")
    parser.add_argument("--model", type=Path, help="a file of FaceModel.save; the free model if left out")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "face_model.jpg")
    parser.add_argument("--level", type=int, default=1, help="0, 1 or 2")
    parser.add_argument("--size", type=int, default=224, help="pixels of one face")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = FaceModel.load(options.model, level=options.level)
    rows, columns = 4, 6
    generator = torch.Generator().manual_seed(options.seed)
    expressive = torch.repeat_interleave(torch.tensor([0.0, 0.0, 0.5, 0.8]), columns)  # the upper half is neutral
    images = draw(model, options.size, rows * columns, generator, expressive)
    sheet = images.reshape(rows, columns, 3, options.size, options.size).permute(0, 3, 1, 4, 2)
    pixels = (sheet.reshape(rows * options.size, columns * options.size, 3) * 255).round().byte().numpy()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    for quality in range(92, 40, -4):
        written, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if written and len(data) <= LIMIT:
            break
    else:
        raise SystemExit(f"face_model_sheet: expected the picture to fit into {LIMIT} bytes, got {len(data)}")
    options.out.write_bytes(data.tobytes())
    print(f"wrote {options.out}: {rows * columns} faces, {len(data) / 1000:.0f} kB, quality {quality}")


if __name__ == "__main__":
    main()
