"""A user's folder of photographs as backgrounds and cut-outs."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np

from ..images import ImageError, read_image, shrink
from ..inputs import find_photos
from .textures import Array

MAX_SIDE = 640  # px; photographs are kept at this size
CACHED = 64  # photographs in memory, 1.2 MB each at most


class PhotoFolder:
    """The pictures directly in a folder, sorted by name; those that cannot be read are replaced by the next one.

    Raises:
        ValueError: no folder, or no pictures in it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"PhotoFolder(): expected folder to be a folder of pictures, got {self.folder}")
        self.paths = find_photos([self.folder])
        if not self.paths:
            raise ValueError(f"PhotoFolder(): expected pictures in {self.folder}, found none")
        self._cache: OrderedDict[int, Array | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Array | None:
        """Picture `index` as uint8 [H, W, 3], its longer side at most 640 px, or None where it cannot be read."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        try:
            image = shrink(read_image(self.paths[index]), MAX_SIDE)[0]
        except ImageError:
            image = None
        self._cache[index] = image
        if len(self._cache) > CACHED:
            self._cache.popitem(last=False)
        return image

    def crop(self, rng: np.random.Generator, height: int, width: int) -> Array:
        """A random part of a random picture as [3, height, width] float32 in [0, 1], turned left to right at times.

        Raises:
            ImageError: none of the pictures can be read.
        """
        first, place, zoom, flip = int(rng.integers(len(self.paths))), rng.random(2), rng.uniform(0.4, 1), rng.random()
        image = None
        for step in range(len(self.paths)):
            image = self.read((first + step) % len(self.paths))
            if image is not None:
                break
        if image is None:
            raise ImageError(f"none of the {len(self.paths)} pictures in {self.folder} can be read")
        scale = zoom * min(image.shape[0] / height, image.shape[1] / width)
        h, w = max(1, int(height * scale)), max(1, int(width * scale))
        top, left = int(place[0] * (image.shape[0] - h)), int(place[1] * (image.shape[1] - w))
        part = image[top : top + h, left : left + w]
        if flip < 0.5:
            part = part[:, ::-1]
        smooth = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        part = cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=smooth)
        return np.ascontiguousarray(part.transpose(2, 0, 1)).astype(np.float32) * np.float32(1 / 255)
