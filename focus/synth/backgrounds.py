"""What is behind a face: smooth noise, gradients, patterns or photographs, and at times hair, neck and shoulders."""

from __future__ import annotations

import numpy as np

from .layers import CORNERS, Stencil, capsule, ellipse, paste
from .photos import PhotoFolder
from .textures import HAIR, Array, between, colour_noise, gradient, noise, pattern, texture
from .view import FaceView

BACKGROUNDS = ("noise", "gradient", "texture", "photo")


def random_background(rng: np.random.Generator, size: int, kind: str, photos: PhotoFolder | None = None) -> Array:
    """A background [3, size, size] float32 in [0, 1] of one of the BACKGROUNDS.

    Raises:
        ValueError: another kind, or "photo" without photos.
    """
    if kind == "photo":
        if photos is None:
            raise ValueError('random_background(): expected photos for kind "photo", got None')
        return photos.crop(rng, size, size)
    if kind == "texture":
        return texture(rng, size, size) if rng.random() < 0.5 else pattern(rng, size, size)
    if kind == "noise":
        cells = int(rng.integers(2, 9))
        image = colour_noise(rng, size, size, (cells, cells), 4)
    elif kind == "gradient":
        image = gradient(rng, size, size)
        image *= 1 + np.float32(rng.uniform(0, 0.2)) * noise(rng, size, size, (4, 4), 3)
    else:
        raise ValueError(f"random_background(): expected kind to be one of {', '.join(BACKGROUNDS)}, got {kind!r}")
    return np.clip(image, 0, 1, out=image)


def draw_person(rng: np.random.Generator, image: Array, points: Array, skin: Array) -> Array | None:
    """Draws shoulders, neck, ears and hair into a background, in place, where the face will cover their middle.

    Args:
        image: [3, H, H] float32 in [0, 1].
        points: [68, 2] px, half-pixel centres, the landmarks of the face that comes over it; skin: its mean colour [3].

    Returns:
        The hair's colour [3], or None without hair.
    """
    left, right, chin = points[0], points[16], points[8]
    middle, up, across = (left + right) / 2, points[27] - chin, (right - left) / 2
    face, half = float(np.linalg.norm(up)), float(np.linalg.norm(across))
    down = np.array([0.0, 1.0]) * face  # bodies stay upright more than heads
    hair = between(rng, HAIR)
    style = int(rng.integers(3))  # 0 bald or cropped, 1 short, 2 long

    shoulders = chin + down * rng.uniform(0.75, 1.0)
    if style == 2:
        long = ellipse(middle + 0.15 * down, across * rng.uniform(1.3, 1.7), up * rng.uniform(1.4, 2.0), 2.5)
        _part(rng, image, long, hair, 0.35)
    wide = np.array([face * rng.uniform(1.7, 2.3), 0.0])
    _part(rng, image, ellipse(shoulders + 0.9 * down, wide, down, 2.6), None)
    neck = capsule(middle, shoulders + 0.1 * down, 0.68 * half, 0.64 * half)
    _part(rng, image, neck, skin * np.float32(rng.uniform(0.5, 0.8)))
    if style < 2:
        for side, point in ((-1, left), (1, right)):
            ear = ellipse(point + 0.12 * side * across + 0.05 * up, 0.16 * across, 0.26 * up)
            _part(rng, image, ear, skin * np.float32(rng.uniform(0.75, 0.95)))
    crown = middle + up * 0.45
    if style == 0:
        skull = ellipse(crown, across * 1.02, up * rng.uniform(0.9, 1.0))
        _part(rng, image, skull, skin * np.float32(rng.uniform(0.8, 0.95)))
    else:
        top = ellipse(crown, across * rng.uniform(1.05, 1.25), up * rng.uniform(1.0, 1.2))
        _part(rng, image, top, hair, 0.35)
    return hair if style else None


def fill_eyes(image: Array, view: FaceView) -> None:
    """Skin in the shade behind the eyes, at whose corners the free model is open: image [3, H, H], in place."""
    eyes = np.stack([view.landmarks[36:42], view.landmarks[42:48]])
    for eye in eyes + 0.3 * (eyes - eyes.mean(1, keepdims=True)):
        stencil = Stencil(image.shape[1], eye)
        if not stencil.empty:
            coverage = stencil.blank()
            stencil.fill(coverage, eye)
            paste(image, [stencil.layer(coverage, view.skin * np.float32(0.5))])


def _part(rng: np.random.Generator, image: Array, outline: Array, colour: Array | None, strands: float = 0.0) -> None:
    """One body part of a colour [3], or clothed where it is None; `strands` is the contrast of hair."""
    stencil = Stencil(image.shape[1], outline)
    if stencil.empty:
        return
    coverage = stencil.blank()
    stencil.fill(coverage, outline)
    height, width = coverage.shape
    if colour is None:
        filled = texture(rng, height, width)
    elif strands:
        filled = colour[:, None, None] * (1 + np.float32(strands) * noise(rng, height, width, (3, CORNERS), 2))
    else:  # darker above, under the chin
        filled = colour[:, None, None] * np.linspace(0.8, 1.05, height, dtype=np.float32)[:, None]
    paste(image, [stencil.layer(coverage, np.minimum(filled, 1))])
