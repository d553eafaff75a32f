"""Colours, smooth noise and patterns: planar float32 arrays from a numpy Generator, drawn small and enlarged."""

import cv2
import numpy as np

Array = np.ndarray

# Ends of the range of human skin in sunlight-balanced photographs, and of hair; a draw lies between two neighbours.
SKIN = np.array([[0.25, 0.15, 0.11], [0.45, 0.29, 0.21], [0.66, 0.47, 0.37], [0.80, 0.62, 0.52], [0.92, 0.78, 0.70]])
HAIR = np.array([[0.05, 0.04, 0.04], [0.16, 0.10, 0.07], [0.33, 0.20, 0.12], [0.62, 0.45, 0.27], [0.78, 0.74, 0.70]])


def between(rng: np.random.Generator, palette: Array) -> Array:
    """A colour [3] float32 on the way between two neighbours of a palette [N, 3]."""
    place = rng.uniform(0, len(palette) - 1)
    index = min(int(place), len(palette) - 2)
    return (palette[index] + (place - index) * (palette[index + 1] - palette[index])).astype(np.float32)


def colour(rng: np.random.Generator, vivid: float = 0.5) -> Array:
    """A colour [3] float32 in [0.03, 0.97] of any hue; `vivid` in [0, 1] is its mean saturation."""
    hue, value = rng.random() * 6, rng.uniform(0.08, 0.97)
    saturation = min(1.0, vivid * 2 * rng.random())
    ramps = np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1  # red, green and blue of a pure hue
    return np.clip(value * (1 - saturation * (1 - np.clip(ramps, 0, 1))), 0.03, 0.97).astype(np.float32)


def noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int], octaves: int = 1) -> Array:
    """Smooth noise [height, width] in about [-1, 1]: values at `cells` (rows, columns), enlarged by cubic splines.

    Each further octave has twice the cells and half the strength.
    """
    total = rng.random(cells, np.float32) * np.float32(2) - 1
    for octave in range(1, octaves):
        rows, columns = cells[0] << octave, cells[1] << octave
        if rows > height or columns > width:
            break
        total = cv2.resize(total, (columns, rows), interpolation=cv2.INTER_CUBIC)
        total += (rng.random((rows, columns), np.float32) * np.float32(2) - 1) * np.float32(0.5**octave)
    return cv2.resize(total, (width, height), interpolation=cv2.INTER_CUBIC)


def grain(rng: np.random.Generator, height: int, width: int) -> Array:
    """White noise [height, width] in [-1, 1]."""
    values = np.frombuffer(rng.bytes(height * width), np.uint8).reshape(height, width)
    return values * np.float32(2 / 255) - 1


def colour_noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int], octaves: int) -> Array:
    """Two to four colours that flow into each other: [3, height, width] in [0, 1]."""
    palette = [colour(rng) for _ in range(int(rng.integers(2, 5)))]
    image = np.broadcast_to(palette[0][:, None, None], (3, height, width)).copy()
    for other in palette[1:]:
        share = np.clip(0.5 + 1.5 * noise(rng, height, width, cells, octaves), 0, 1)
        image += share * (other[:, None, None] - image)
    return image


def gradient(rng: np.random.Generator, height: int, width: int) -> Array:
    """Two colours along a line or around a point: [3, height, width] in [0, 1]."""
    y, x = np.ogrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    if rng.random() < 0.5:
        turn = rng.uniform(0, 2 * np.pi)
        share = 0.5 + (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn)
    else:
        share = ((x - rng.random()) ** 2 + (y - rng.random()) ** 2) * rng.uniform(0.7, 2.5)
    share = np.clip(share, 0, 1).astype(np.float32)
    first, second = colour(rng)[:, None, None], colour(rng)[:, None, None]
    return first + share * (second - first)


def pattern(rng: np.random.Generator, height: int, width: int) -> Array:
    """Stripes, checks, dots or cells of two colours, turned and bent: [3, height, width] in [0, 1]."""
    y, x = np.ogrid[0:height, 0:width]
    turn, period = rng.uniform(0, np.pi), rng.uniform(0.04, 0.2) * max(height, width)
    period = max(period, 3.0)  # px; finer ones alias
    u = (x * np.float32(np.cos(turn) / period) + y * np.float32(np.sin(turn) / period)).astype(np.float32)
    v = (y * np.float32(np.cos(turn) / period) - x * np.float32(np.sin(turn) / period)).astype(np.float32)
    if rng.random() < 0.6:
        bend = np.float32(rng.uniform(0, 0.5)) * noise(rng, height, width, (3, 3))
        u, v = u + bend, v + bend
    kind = int(rng.integers(4))
    if kind == 0:
        wave = np.sin(2 * np.pi * u)
    elif kind == 1:
        wave = np.sin(np.pi * u) * np.sin(np.pi * v) * 2
    elif kind == 2:
        wave = np.hypot(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5) * -4 + 1.3
    else:
        wave = 4 * noise(rng, height, width, (int(rng.integers(4, 24)), int(rng.integers(4, 24))))
    share = np.clip(wave * np.float32(rng.uniform(0.5, 3)) + 0.5, 0, 1)
    first, second = colour(rng)[:, None, None], colour(rng)[:, None, None]
    return first + share * (second - first)


def texture(rng: np.random.Generator, height: int, width: int) -> Array:
    """Any of the above, or one colour, some with grain: [3, height, width] float32 in [0, 1]."""
    choice = rng.random()
    if choice < 0.4:
        image = pattern(rng, height, width)
    elif choice < 0.7:
        image = colour_noise(rng, height, width, (int(rng.integers(2, 7)), int(rng.integers(2, 7))), 3)
    elif choice < 0.85:
        image = gradient(rng, height, width)
    else:
        image = np.broadcast_to(colour(rng)[:, None, None], (3, height, width)).copy()
    if rng.random() < 0.3:
        image += np.float32(rng.uniform(0.02, 0.12)) * grain(rng, height, width)
    return np.clip(image, 0, 1, out=image)


def puffed(alpha: Array, rng: np.random.Generator, depth: float = 0.7) -> Array:
    """Shading [h, w], about 1, of a shape that bulges: Lambert's cosine on a height that grows from its outline.

    Args:
        alpha: coverage [h, w] in [0, 1].
        depth: how steep the sides are; 0 is flat.
    """
    height, width = alpha.shape
    small = (max(height // 2, 1), max(width // 2, 1))
    inside = (cv2.resize(alpha, small[::-1], interpolation=cv2.INTER_AREA) > 0.5).astype(np.uint8)
    framed = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 3)
    top = max(float(distance.max()), 1.0)
    surface = cv2.blur(np.sqrt(distance * (2 * top) - distance * distance + 1e-3), (3, 3)) * np.float32(depth)
    dx, dy = cv2.Sobel(surface, -1, 1, 0, scale=1 / 8), cv2.Sobel(surface, -1, 0, 1, scale=1 / 8)
    turn, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.9)
    side = np.sin(tilt)
    shade = (np.cos(tilt) - side * (np.cos(turn) * dx + np.sin(turn) * dy)) / np.sqrt(1 + dx * dx + dy * dy)
    shade = np.float32(0.35) + np.float32(0.75) * np.clip(shade, 0, None).astype(np.float32)
    return cv2.resize(shade[1:-1, 1:-1], (width, height), interpolation=cv2.INTER_LINEAR)
