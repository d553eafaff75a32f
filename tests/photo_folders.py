"""Small folders of photographs with landmarks, for tests of what reads them."""

import csv

import numpy as np
from PIL import Image

from focus.demo import demo_photo

SCALE = 4  # the demo photo is shrunk by this


def small_photo():
    """The demo photo at 128 px: uint8 [128, 128, 3], and its landmarks [68, 2], half-pixel centres."""
    image, points = demo_photo()
    picture = Image.fromarray(image)
    return np.array(picture.resize((picture.width // SCALE, picture.height // SCALE), Image.Resampling.BOX)), (
        points / SCALE
    )


def write_table(path, rows):
    """`image,x0,y0,...` of names and points [68, 2], half-pixel centres, or texts as they are."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", *(f"{axis}{k}" for k in range(68) for axis in "xy")])
        for name, points in rows:
            table.writerow([name, *(points if isinstance(points, list) else (points - 0.5).reshape(-1).tolist())])


def dots(shape, points, sigma=1.5):
    """A picture uint8 [H, W, 3], grey 30 with a bright round dot at each point [N, 2], half-pixel centres."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    image = np.full(shape, 30.0)
    for px, py in points:
        image += 220 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
    return np.repeat(np.clip(image, 0, 255).round().astype(np.uint8)[:, :, None], 3, 2)


def brightest(image, near, radius=6):
    """The centre of mass [2] of what is brighter than the ground around a point; half-pixel centres."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    weight = np.clip(image.astype(float) - 30, 0, None) * (np.hypot(x - near[0], y - near[1]) < radius)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
