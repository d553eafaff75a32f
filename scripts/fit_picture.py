"""The picture of the README: `focus demo && python scripts/fit_picture.py focus-demo/astronaut docs/images/fit.jpg`."""

import sys
from pathlib import Path

from PIL import Image

NAMES = ("photo", "overlay", "mask", "shape_front", "shape_side")
GAP = 8  # px


def main(folder: Path, target: Path) -> None:
    """Put the pictures of one fitted photo side by side on white."""
    pictures = [Image.open(folder / f"{name}.png").convert("RGBA") for name in NAMES]
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    row = Image.new("RGB", (width, pictures[0].height), "white")
    x = 0
    for picture in pictures:
        row.paste(picture, (x, 0), picture)
        x += picture.width + GAP
    target.parent.mkdir(parents=True, exist_ok=True)
    row.save(target, quality=90, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
