"""Layers: small coloured patches with coverage, drawn where they are seen and blended exactly into image and mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import comb
from typing import NamedTuple

import cv2
import numpy as np

from .textures import Array

SHIFT = 4  # OpenCV's coordinates in 16ths of a pixel
CORNERS = 28  # of a polygon that stands for an ellipse

_TURN = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], 1)  # [CORNERS, 2]
_HALF_TURN = np.linspace(-np.pi / 2, np.pi / 2, 9)
_HALF_CIRCLE = np.stack([np.cos(_HALF_TURN), np.sin(_HALF_TURN)], 1)  # [9, 2]


@lru_cache
def _bernstein(points: int, count: int) -> Array:
    """The weights [count, points] of a Bezier curve's control points."""
    t = np.linspace(0, 1, count)[:, None]
    k, n = np.arange(points), points - 1
    return np.array([comb(n, i) for i in k]) * t**k * (1 - t) ** (n - k)


class Layer(NamedTuple):
    """What covers a window of the image.

    Attributes:
        left, top: the window's first column and row, px.
        alpha: coverage [h, w] float32 in [0, 1].
        colour: [3, h, w] float32 RGB in [0, 1], or [3, 1, 1] for one colour.
    """

    left: int
    top: int
    alpha: Array
    colour: Array

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


class Stencil:
    """Coverage drawn in the window that a list of points spans, with smooth outlines; the image's size cuts it off.

    Points are in pixels, half-pixel centres; canvases are uint8 [h, w]. OpenCV places smooth outlines to about half a
    pixel only; since one alpha blends image and mask, the mask is true all the same.
    """

    def __init__(self, size: int, points: Array, margin: float = 2.0) -> None:
        low, high = points.min(0).tolist(), points.max(0).tolist()
        self.left, self.top = (min(max(int(value - margin), 0), size) for value in low)
        self._corner = np.array([self.left + 0.5, self.top + 0.5])
        self.width = min(max(int(high[0] + margin) + 1, 0), size) - self.left
        self.height = min(max(int(high[1] + margin) + 1, 0), size) - self.top

    @property
    def empty(self) -> bool:
        return self.width < 2 or self.height < 2

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    def blank(self, value: int = 0) -> Array:
        return np.full((self.height, self.width), value, np.uint8)

    def _fixed(self, points: Array) -> Array:
        return np.rint((points - self._corner) * (1 << SHIFT)).astype(np.int32)

    def fill(self, canvas: Array, points: Array, value: int = 255) -> None:
        """A polygon [N, 2]."""
        cv2.fillPoly(canvas, [self._fixed(points)], value, cv2.LINE_AA, SHIFT)

    def stroke(self, canvas: Array, points: Array, width: float, value: int = 255, closed: bool = False) -> None:
        """A line along points [N, 2], or several [M, N, 2], `width` px (a whole number of them is drawn)."""
        thickness = max(1, round(width))
        lines = self._fixed(points).reshape(-1, *points.shape[-2:])
        cv2.polylines(canvas, list(lines), closed, value, thickness, cv2.LINE_AA, SHIFT)

    def layer(self, coverage: Array, colour: Array, opacity: float | Array = 1.0) -> Layer:
        """The layer of a canvas uint8 [h, w]; `opacity` multiplies it."""
        alpha = coverage * np.float32(1 / 255)
        if not (np.isscalar(opacity) and opacity == 1.0):
            alpha = (alpha * opacity).astype(np.float32)
        if colour.ndim == 1:
            colour = colour[:, None, None]
        return Layer(self.left, self.top, alpha, colour)


def ellipse(centre: Array, across: Array, along: Array, power: float = 2.0) -> Array:
    """The outline [N, 2] of a superellipse with half axes `across` and `along` (vectors [2]); power 2 is an ellipse."""
    circle = _CIRCLE if power == 2 else np.sign(_CIRCLE) * np.abs(_CIRCLE) ** (2 / power)
    return centre + circle @ np.stack([across, along])


def capsule(start: Array, end: Array, first: float, second: float) -> Array:
    """The outline [18, 2] of a rod from `start`, of radius `first`, to `end`, of radius `second`."""
    x, y = end - start
    along = np.array([x, y]) / max((x * x + y * y) ** 0.5, 1e-9)
    round_end = _HALF_CIRCLE @ np.array([along, [-along[1], along[0]]])
    return np.concatenate([end + second * round_end, start - first * round_end])


def curve(points: Sequence[Array] | Array, count: int = 10) -> Array:
    """A Bezier curve [count, 2] through the first and the last of its control points [N, 2]."""
    return _bernstein(len(points), count) @ np.asarray(points)


def ribbon(line: Array, widths: Array) -> Array:
    """The outline [2N, 2] of a band along a line [N, 2] with half widths [N]."""
    along = np.empty_like(line)
    along[1:-1], along[0], along[-1] = line[2:] - line[:-2], line[1] - line[0], line[-1] - line[-2]
    normal = along @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    offset = normal * (widths / np.maximum(np.sqrt((normal * normal).sum(1)), 1e-9))[:, None]
    return np.concatenate([line + offset, (line - offset)[::-1]])


def paste(image: Array, layers: Iterable[Layer]) -> None:
    """image = (1 - alpha) image + alpha colour, in place: image [3, H, W] float32. Bits stay where alpha is 0."""
    for layer in layers:
        rows, columns = layer.window
        window = image[:, rows, columns]
        window += layer.alpha * (layer.colour - window)


def uncover(visible: Array, layers: Iterable[Layer]) -> None:
    """visible = (1 - alpha) visible, in place: the share [H, W] of each pixel that the layers leave free."""
    for layer in layers:
        rows, columns = layer.window
        visible[rows, columns] *= 1 - layer.alpha
