"""Make docs/images/antialias.png: the free face model, small, without antialias, with it, and from 16 x 16 samples.

python scripts/make_antialias_picture.py [docs/images/antialias.png]
"""

import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from focus import FaceModel, focus_camera
from focus_kernels import antialias, render_sh

TARGET = Path(__file__).parents[1] / "docs" / "images" / "antialias.png"
SIZE = 56  # px; the face is drawn small so that its pixels can be seen
ZOOM = 6
SAMPLES = 16
GAP = 8
MAX_BYTES = 150_000


def drawn(size: int, smooth: bool) -> Tensor:
    """[3, size, size]: a turned head over grey; the nose and the cheek hide what is behind them."""
    model = FaceModel.load()
    vertices, albedo = model.shape(torch.zeros(1, 80), torch.zeros(1, 64)), model.albedo(torch.zeros(1, 80))
    light = torch.zeros(1, 3, 9)
    light[..., 0], light[..., 2:4] = 2.5, -1.0
    camera = focus_camera(torch.tensor([[0.0, 0.9, 0.15]]), torch.zeros(1, 3))
    scale = size / 224
    camera = type(camera)(camera.K * torch.tensor([scale, scale, 1])[:, None], camera.R, camera.t)
    background = torch.full((1, 3, size, size), 0.93)
    render = render_sh(vertices, albedo, light, model.topology, camera, (size, size), background=background)
    image = render.image
    if smooth:
        image = antialias(image, render.raster, render.positions, model.topology)
    return image[0].clamp(0, 1)


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    fine = drawn(SIZE * SAMPLES, False).unflatten(2, (SIZE, SAMPLES)).unflatten(1, (SIZE, SAMPLES)).mean((2, 4))
    tiles = [drawn(SIZE, False), drawn(SIZE, True), fine]
    for name, tile in zip(("without", "with"), tiles, strict=False):
        print(f"{name} antialias: mean error {255 * (tile - fine).abs().mean():.2f} of 255 levels")
    sheet = torch.ones(3, SIZE * ZOOM, 3 * SIZE * ZOOM + 2 * GAP)
    for k, tile in enumerate(tiles):
        left = k * (SIZE * ZOOM + GAP)
        sheet[:, :, left : left + SIZE * ZOOM] = tile.repeat_interleave(ZOOM, 1).repeat_interleave(ZOOM, 2)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * sheet).round().byte().permute(1, 2, 0).numpy()).save(target, optimize=True)
    if target.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{target.stat().st_size} bytes, more than {MAX_BYTES}")
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
