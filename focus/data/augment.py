"""FOCUS's augmentation: shift, turn, scale and mirror of a crop, as one warp together with its alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from ..alignment import CROP_SIZE
from ..settings import Checked, real

LEAST_LEFT = 1.5  # how much a picture of block means has still to shrink, under a Gaussian, where blocks do alias

# The iBUG landmark that takes the place of each one in a mirrored face.
MIRRORED_LANDMARKS = np.array(
    [
        *(*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)),  # jaw, brows, nose
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),  # eyes
        *(*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)),  # lips
    ]
)


@dataclass(frozen=True)
class Augmentation(Checked):
    """How far a crop is moved at random; the defaults are FOCUS's. All draws are uniform.

    Raises:
        TypeError, ValueError: a field of the wrong type or out of range.
    """

    OWNER: ClassVar[str] = "Augmentation"
    shift: float = real(10.0)
    """px to either side in a crop of 224 px; in others in proportion."""
    scale: float = real(0.1, high=1.0, below=True)
    """the face becomes 1 - scale to 1 + scale times as large."""
    rotation: float = real(10.0, high=180.0)
    """degrees to either side."""
    flip: float = real(0.5, high=1.0)
    """probability of a mirror image."""

    def draw(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, bool]:
        """A random map [2, 3] float64 of crop pixels (half-pixel centres), and whether it mirrors.

        About the crop's centre: mirror, shift, turn, scale, in this order.
        """
        x, y = rng.uniform(-1, 1, 2) * (self.shift * size / CROP_SIZE)
        turn = np.deg2rad(self.rotation * rng.uniform(-1, 1))
        zoom = 1 + self.scale * rng.uniform(-1, 1)
        flip = bool(rng.random() < self.flip)
        spin = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        linear = spin @ np.diag([-1.0 if flip else 1.0, 1.0])
        centre = np.full(2, size / 2)
        return np.column_stack([linear, centre + spin @ np.array([x, y]) - linear @ centre]), flip

    def reach(self, size: int) -> float:
        """How far from the crop's centre, in crop pixels, an augmented crop may look in x or y."""
        corner = size / 2 / (1 - self.scale)
        turn = np.deg2rad(min(self.rotation, 45.0))
        return float(corner * (np.cos(turn) + np.sin(turn)) + self.shift * size / CROP_SIZE)


def compose(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The affine map [2, 3] that does one, then the other."""
    return np.column_stack([then[:, :2] @ first[:, :2], then[:, :2] @ first[:, 2] + then[:, 2]])


def map_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [..., 2] under an affine map [2, 3]."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def mirror_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """The 68 landmarks [..., 68, 2] of a mirror image in their order: left and right change names."""
    return landmarks[..., MIRRORED_LANDMARKS, :]


def blocks(shrink: float) -> int:
    """Blocks of how many pixels may be averaged in a picture that is to shrink: less than what would alias."""
    return max(int(shrink / LEAST_LEFT), 1)


def block_mean(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of factor x factor pixels, of uint8 [H, W, ...]; beyond the last row and column it is black."""
    if factor == 1:
        return image
    height, width = image.shape[:2]
    pad = (-height % factor, -width % factor)
    image = cv2.copyMakeBorder(image, 0, pad[0], 0, pad[1], cv2.BORDER_CONSTANT)
    size = (image.shape[1] // factor, image.shape[0] // factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def warp(image: np.ndarray, matrix: np.ndarray, size: int, *, cubic: bool = True, border: str = "black") -> np.ndarray:
    """An image under an affine map, cut to a square, smoothed first where it shrinks so that nothing aliases.

    Args:
        image: uint8 [H, W, 3] or [H, W].
        matrix: [2, 3], from pixels of the image to pixels of the result, half-pixel centres in both.
        size: side of the result in pixels.
        cubic: bicubic interpolation, as for photos; else bilinear, which does not overshoot, as for masks.
        border: what is outside of the image: "black", or "reflect".

    Returns:
        uint8 [size, size, 3] or [size, size].
    """
    shrink = 1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))  # image pixels per pixel of the result
    factor = blocks(shrink)
    if factor > 1:
        image = block_mean(image, factor)
        matrix = np.column_stack([matrix[:, :2] * factor, matrix[:, 2]])
        shrink /= factor
    if shrink > 1.05:
        image = cv2.GaussianBlur(image, (0, 0), 0.5 * float(np.sqrt(shrink**2 - 1)), borderType=cv2.BORDER_REPLICATE)
    shift = matrix[:, :2] @ np.full(2, 0.5) + matrix[:, 2] - 0.5  # OpenCV's pixel centres are at integers
    return cv2.warpAffine(
        image,
        np.column_stack([matrix[:, :2], shift]),
        (size, size),
        flags=cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101 if border == "reflect" else cv2.BORDER_CONSTANT,
    )
