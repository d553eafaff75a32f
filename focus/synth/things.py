"""Occluders in front of the face: hands, text, textured shapes, cut-outs of other images."""

from __future__ import annotations

import cv2
import numpy as np

from .layers import Layer, Stencil, capsule, ellipse
from .textures import SKIN, Array, between, colour, noise, puffed, texture
from .view import FaceView

FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)
LEGIBLE = 0.35  # least difference of a text's colour, in one channel, from the skin
LETTERS = "ABCDEFGHIJKLMNOPRSTUVWXYZabcdefghiklmnoprstuvwxyz0123456789!?&#"


def _place(rng: np.random.Generator, view: FaceView) -> Array:
    """A point of the face, in pixels."""
    return view.at(rng.uniform(-1.3, 1.3), rng.uniform(-0.3, 0.95))


def draw_hand(rng: np.random.Generator, view: FaceView) -> list[Layer]:
    """A hand with fingers as tapered rods, and its forearm."""
    scale = view.height * rng.uniform(0.42, 0.72)  # of the palm
    mirror, turn = rng.choice([-1.0, 1.0]), rng.normal(0, 0.9)
    if rng.random() < 0.15:
        turn += np.pi  # from above
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    centre = _place(rng, view) + scale * rng.normal(0, 0.2, 2)

    def at(x: float, y: float) -> Array:  # the palm is one long, its fingers point to -y, up in the image
        return centre + scale * (np.array([mirror * x, -y]) @ spin)

    curl, spread = rng.uniform(0.3, 1.0), rng.uniform(0.0, 0.35)
    rods = [(at(0, -0.35), at(0, -4), 0.3, 0.42)]  # start, end, and their radii in palms
    lengths = np.array([0.72, 0.86, 0.80, 0.62]) * np.clip(curl + rng.normal(0, 0.1, 4), 0.25, 1.05)
    tips = []
    for x, length, radius in zip((-0.33, -0.11, 0.11, 0.32), lengths, (0.115, 0.12, 0.115, 0.1), strict=True):
        lean = x * spread * 2 + rng.normal(0, 0.03)
        base, knuckle = at(x, 0.4), at(x + 0.5 * lean, 0.45 + 0.5 * length)
        tip = at(x + lean * 1.1, 0.45 + length)
        rods += [(base, knuckle, radius, radius), (knuckle, tip, radius, 0.82 * radius)]
        tips.append((tip, tip - knuckle, 0.5 * radius * scale))
    wide = rng.uniform(0.1, 0.6)
    joint, tip = at(-0.5 - 0.3 * wide, 0.15), at(-0.52 - 0.6 * wide, 0.5)
    rods += [(at(-0.3, -0.25), joint, 0.15, 0.125), (joint, tip, 0.125, 0.1)]

    def outlines(share: float) -> list[Array]:
        parts = [capsule(start, end, share * scale * r, share * scale * s) for start, end, r, s in rods]
        parts.insert(1, ellipse(centre, at(0.44 * share, 0) - centre, at(0, 0.58) - centre, 2.8))  # the palm
        return parts

    full = outlines(1.0)
    stencil = Stencil(view.size, np.concatenate(full))
    if stencil.empty:
        return []
    coverage, shade = stencil.blank(), stencil.blank(255)
    for part, middle, core in zip(full, outlines(0.8), outlines(0.55), strict=True):
        stencil.fill(coverage, part)
        stencil.fill(shade, part, 135)  # darker towards the sides, as round things are
        stencil.fill(shade, middle, 205)
        stencil.fill(shade, core, 255)
    height, width = coverage.shape
    blurred = cv2.GaussianBlur(shade, (0, 0), max(0.035 * scale, 0.6)).astype(np.float32) / 255
    tone = view.skin if rng.random() < 0.6 else between(rng, SKIN) * np.float32(rng.uniform(0.7, 1.1))
    tone = tone * (1 + np.float32(0.06) * rng.standard_normal(3).astype(np.float32))
    light = blurred * (1.05 + 0.2 * noise(rng, height, width, (2, 2)) + 0.05 * noise(rng, height, width, (9, 9), 2))
    if rng.random() < 0.3:  # a sleeve or a glove
        tone = colour(rng)
    layers = [stencil.layer(coverage, np.clip(tone[:, None, None] * light, 0, 1))]
    if rng.random() < 0.4:
        nails = stencil.blank()
        for tip, along, radius in tips:
            axis = view.unit(along)
            stencil.fill(nails, ellipse(tip, 0.9 * radius * np.array([-axis[1], axis[0]]), 1.3 * radius * axis))
        polish = np.clip(tone * np.float32(1.2) + 0.05, 0, 1) if rng.random() < 0.6 else colour(rng, 0.9)
        layers.append(stencil.layer(nails, polish, rng.uniform(0.5, 0.9)))
    return layers


def draw_text(rng: np.random.Generator, view: FaceView) -> list[Layer]:
    """One to four lines of random letters, turned a little, some on a bar."""
    lines = int(rng.integers(1, 5))
    font, thick = FONTS[int(rng.integers(len(FONTS)))], int(rng.integers(1, 4))
    picks = rng.integers(len(LETTERS), size=(lines, 12))
    words = ["".join(LETTERS[k] for k in row[: int(rng.integers(3, 13))]) for row in picks]
    scale = view.width / 110 * rng.uniform(0.5, 1.6) / lines**0.5
    thick = max(1, round(2.2 * scale * thick / 2))
    boxes = [cv2.getTextSize(word, font, scale, thick)[0] for word in words]
    pitch = round(1.5 * max(box[1] for box in boxes)) + thick
    pad = thick + 2
    canvas = np.zeros((pitch * lines + 2 * pad, max(box[0] for box in boxes) + 2 * pad), np.uint8)
    for row, word in enumerate(words):
        foot = (pad, pad + pitch * row + round(0.8 * pitch))
        cv2.putText(canvas, word, foot, font, scale, 255, thick, cv2.LINE_AA)
    height, width = canvas.shape
    turn = rng.normal(0, 0.35)
    matrix = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]])
    centre = _place(rng, view)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - (width / 2, height / 2)
    corners = corners @ matrix[:, :2].T + centre
    stencil = Stencil(view.size, corners)
    if stencil.empty:
        return []
    matrix[:, 2] = centre - (stencil.left, stencil.top) - matrix[:, :2] @ (width / 2, height / 2)
    letters = cv2.warpAffine(canvas, matrix, (stencil.width, stencil.height), flags=cv2.INTER_LINEAR)
    layers = []
    ink = colour(rng, 0.7)
    if np.abs(ink - view.skin).max() < LEGIBLE:
        ink = np.float32(1) - ink if view.skin.mean() < LEGIBLE else 0.2 * ink
    if rng.random() < 0.35:
        bar = stencil.blank()
        stencil.fill(bar, corners)
        paper = colour(rng, 0.4) if rng.random() < 0.5 else np.float32(1) - ink
        layers.append(stencil.layer(bar, paper, rng.uniform(0.4, 1.0)))
    elif rng.random() < 0.5:
        rim = cv2.dilate(letters, np.ones((3, 3), np.uint8))
        layers.append(stencil.layer(rim, np.float32(1) - ink))
    layers.append(stencil.layer(letters, ink, rng.uniform(0.75, 1.0)))
    return layers


def draw_shape(rng: np.random.Generator, view: FaceView) -> list[Layer]:
    """A blob, box, disc, star or bar with a texture, flat or bulging, some of them translucent."""
    centre, size = _place(rng, view), view.height * rng.uniform(0.22, 0.62)
    turn, aspect = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 1.0)
    across = size * np.array([np.cos(turn), np.sin(turn)])
    along = size * aspect * np.array([-np.sin(turn), np.cos(turn)])
    kind = int(rng.integers(5))
    if kind == 0:
        outline = ellipse(centre, across, along, 2.0)
    elif kind == 1:
        outline = centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) @ np.stack([across, along])
    elif kind == 2:
        outline = _blob(rng, centre, across, along)
    elif kind == 3:
        points = 2 * int(rng.integers(3, 8))
        angle = 2 * np.pi * np.arange(points) / points
        radius = np.where(np.arange(points) % 2, rng.uniform(0.4, 0.8), 1.15)
        outline = centre + (radius * np.cos(angle))[:, None] * across + (radius * np.sin(angle))[:, None] * along
    else:
        outline = capsule(centre - 2.2 * across, centre + 2.2 * across, 0.3 * size, 0.3 * size * rng.uniform(0.5, 1))
    stencil = Stencil(view.size, outline)
    if stencil.empty:
        return []
    coverage = stencil.blank()
    stencil.fill(coverage, outline)
    filled = texture(rng, *coverage.shape)
    if rng.random() < 0.5:
        filled = np.clip(filled * puffed(coverage * np.float32(1 / 255), rng, rng.uniform(0.2, 1.0)), 0, 1)
    return [stencil.layer(coverage, filled, rng.uniform(0.5, 0.95) if rng.random() < 0.2 else 1.0)]


def _blob(rng: np.random.Generator, centre: Array, across: Array, along: Array, corners: int = 40) -> Array:
    """A round outline [corners, 2] with random bays."""
    angle = 2 * np.pi * np.arange(corners) / corners
    radius = np.ones(corners)
    for wave in range(2, 6):
        radius += 0.35 / wave * rng.normal() * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.35, 1.5)
    return centre + (radius * np.cos(angle))[:, None] * across + (radius * np.sin(angle))[:, None] * along


def draw_cutout(rng: np.random.Generator, view: FaceView) -> list[Layer]:
    """A piece of another image: a donor's face whole or in part, or a patch of one of the user's photographs."""
    centre, size = _place(rng, view), view.height * rng.uniform(0.25, 0.6)
    turn = rng.normal(0, 0.5)
    across = size * np.array([np.cos(turn), np.sin(turn)])
    along = size * rng.uniform(0.7, 1.2) * np.array([-np.sin(turn), np.cos(turn)])
    whole = False
    if view.photos is not None and (not view.donors or rng.random() < 0.6):
        side = int(np.clip(round(2 * size), 8, 256))
        source = np.round(view.photos.crop(rng, side, side).transpose(1, 2, 0) * 255).astype(np.uint8)
    elif view.donors:
        source = view.donors[int(rng.integers(len(view.donors)))]
        whole = rng.random() < 0.5
        if not whole:  # a part of the face, enlarged
            high, wide = (round(n * rng.uniform(0.5, 0.9)) for n in source.shape[:2])
            top, left = (int(rng.integers(n - m + 1)) for n, m in zip(source.shape[:2], (high, wide), strict=True))
            source = np.ascontiguousarray(source[top : top + high, left : left + wide])
    else:
        side = int(np.clip(round(2 * size), 8, 256))
        source = np.round(texture(rng, side, side).transpose(1, 2, 0) * 255).astype(np.uint8)
    box = centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) @ np.stack([across, along])
    outline = box if whole or rng.random() < 0.5 else _blob(rng, centre, 0.85 * across, 0.85 * along)
    stencil = Stencil(view.size, np.concatenate([outline, box]) if whole else outline)
    if stencil.empty:
        return []
    high, wide = source.shape[:2]
    corners = (box[[0, 1, 3]] - (stencil.left + 0.5, stencil.top + 0.5)).astype(np.float32)
    matrix = cv2.getAffineTransform(np.array([[0, 0], [wide, 0], [0, high]], np.float32) - np.float32(0.5), corners)
    border = cv2.BORDER_CONSTANT if whole else cv2.BORDER_REFLECT_101
    moved = cv2.warpAffine(source, matrix, (stencil.width, stencil.height), flags=cv2.INTER_LINEAR, borderMode=border)
    coverage = stencil.blank(255)
    if not whole:
        coverage[:] = 0
        stencil.fill(coverage, outline)
    if source.shape[2] == 4:  # donors are faces with an outline of their own
        coverage = np.minimum(coverage, moved[:, :, 3])
    patch = np.ascontiguousarray(moved[:, :, :3].transpose(2, 0, 1)).astype(np.float32) * np.float32(1 / 255)
    return [stencil.layer(coverage, patch)]
