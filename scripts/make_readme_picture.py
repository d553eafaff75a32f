"""Make docs/images/fit.jpg: the demo's photo, the fit over it, its mask, and its shape from two sides.

python scripts/make_readme_picture.py [docs/images/fit.jpg]
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from focus import FaceModel, fit_photo
from focus.atomic import write_atomic
from focus.demo import demo_photo
from focus.export import overlay
from focus.views import shape_views

TARGET = Path(__file__).parents[1] / "docs" / "images" / "fit.jpg"
GAP = 8  # px between the pictures
QUALITY = 92
MAX_BYTES = 200_000


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    image, landmarks = demo_photo()
    result = fit_photo(image, landmarks, FaceModel.load())
    mask = np.repeat(result.mask[:, :, None], 3, 2).astype(np.uint8) * 255
    tiles = [result.photo, overlay(result), mask]
    for shape in shape_views(result.vertices, result.faces).values():
        alpha = shape[:, :, 3:] / 255
        tiles.append(np.round(shape[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8))
    size = result.photo.shape[0]
    sheet = np.full((size, (size + GAP) * len(tiles) - GAP, 3), 255, np.uint8)
    for column, tile in enumerate(tiles):
        sheet[:, column * (size + GAP) :][:, :size] = tile
    data = io.BytesIO()
    Image.fromarray(sheet).save(data, "JPEG", quality=QUALITY)
    if data.tell() > MAX_BYTES:
        raise SystemExit(f"{data.tell()} bytes, more than {MAX_BYTES}")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, data.getvalue())
    print(
        f"{target}: {data.tell()} bytes; RMSE {result.rmse_inlier:.1f} in the mask ({result.inlier_fraction:.0%} of "
        f"the face), {result.rmse_all:.1f} over all"
    )


if __name__ == "__main__":
    main()
