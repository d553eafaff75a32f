"""Occluders that are worn: glasses, masks over mouth and nose, hair over the face."""

from __future__ import annotations

import cv2
import numpy as np

from .layers import Layer, Stencil, curve, ellipse, ribbon
from .textures import HAIR, Array, between, colour, colour_noise, noise, pattern, puffed
from .view import FaceView

CLEAR_GLASSES = 0.4  # probability of lenses that one sees through
MASK_COLOURS = np.array(
    [[0.55, 0.73, 0.85], [0.62, 0.80, 0.80], [0.93, 0.94, 0.95], [0.10, 0.10, 0.11], [0.90, 0.68, 0.72]], np.float32
)


def draw_glasses(rng: np.random.Generator, view: FaceView) -> list[Layer]:
    """Two lenses, clear, tinted or dark, a bridge, and temples that run to the ears."""
    half = np.array([rng.uniform(0.62, 0.86), rng.uniform(0.19, 0.36)])  # of a lens, in the face's coordinates
    drop, power, apart = rng.uniform(0.0, 0.07), rng.uniform(1.8, 5.0), rng.uniform(0.95, 1.08)
    thickness = view.height * rng.uniform(0.02, 0.075)
    dark = rng.random() >= CLEAR_GLASSES
    lenses = [
        ellipse(view.at(side * apart, drop), half[0] * view.across, half[1] * view.down, power) for side in (-1, 1)
    ]
    inner = apart - 0.9 * half[0]
    bridge = curve([view.at(-inner, drop), view.at(0, drop - 0.08), view.at(inner, drop)])
    temples = [
        np.stack([view.at(side * (apart + 0.97 * half[0]), drop - 0.25 * half[1]), ear + 0.08 * (ear - view.origin)])
        for side, ear in ((-1, view.landmarks[0]), (1, view.landmarks[16]))
        # The temple of the far side is behind the face.
        if side * np.dot(ear - view.at(side * (apart + half[0]), drop), view.unit(view.across)) > 0
    ]
    stencil = Stencil(view.size, np.concatenate([*lenses, *temples]), margin=2 + thickness)
    if stencil.empty:
        return []
    layers = []
    glass = stencil.blank()
    for lens in lenses:
        stencil.fill(glass, lens)
    height, width = glass.shape
    tint = colour(rng, 0.6) * np.float32(0.35 if dark else 1.0)
    if dark:
        down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        opacity = np.float32(rng.uniform(0.7, 1.0)) * (1 - np.float32(rng.choice([0.0, 0.0, 0.45])) * down)
        sky = np.clip(0.5 + noise(rng, height, width, (4, 3), 2), 0, 1) * np.float32(rng.choice([0.08, 0.25, 0.6]))
        shine = tint[:, None, None] + sky * (colour(rng, 0.4)[:, None, None] - tint[:, None, None])
        layers.append(stencil.layer(glass, shine, opacity))
    else:
        layers.append(stencil.layer(glass, tint, rng.uniform(0.0, 0.15)))
    if rng.random() < 0.6:
        layers += _glints(rng, view, stencil, glass, half, apart, drop)
    if not dark or rng.random() < 0.8:
        frame = stencil.blank()
        for lens in lenses:
            stencil.stroke(frame, lens, thickness, closed=True)
        stencil.stroke(frame, bridge, thickness * 1.1)
        for temple in temples:
            stencil.stroke(frame, temple, thickness)
        tone = colour(rng, 0.4) * np.float32(rng.choice([0.2, 0.5, 1.0]))
        shade = tone[:, None, None] * (1 + 0.35 * noise(rng, height, width, (5, 9), 2))
        layers.append(stencil.layer(frame, np.clip(shade, 0, 1)))
    return layers


def _glints(
    rng: np.random.Generator, view: FaceView, stencil: Stencil, glass: Array, half: Array, apart: float, drop: float
) -> list[Layer]:
    """A window's slanted reflection on both lenses."""
    glint = stencil.blank()
    place, breadth, slant = rng.uniform(-0.6, 0.4), rng.uniform(0.1, 0.5), rng.uniform(-0.4, 0.4)
    for side in (-1, 1):
        x = side * apart + half[0] * np.array([place, place + breadth, place + breadth + slant, place + slant])
        stencil.fill(glint, view.at(x, drop + half[1] * np.array([-1, -1, 1, 1])))
    glint = np.minimum(glint, glass)
    return [stencil.layer(glint, np.ones(3, np.float32), rng.uniform(0.1, 0.5))]


def draw_mask(rng: np.random.Generator, view: FaceView) -> list[Layer]:
    """A face mask from the nose, or from under it, to below the chin, with pleats and ear loops."""
    lm = view.landmarks
    jaw = lm[2:15].copy()
    jaw += rng.uniform(0.08, 0.16) * (jaw - lm[30])  # the cloth stands off the face
    protruding = lm[[33, 48, 54, 57]]  # what the head's turn may bring in front of the jaw
    if rng.random() < 0.12:
        top = lm[33] + 0.3 * (lm[51] - lm[33])  # worn below the nose
    else:
        top = lm[27] + rng.uniform(0.35, 0.85) * (lm[30] - lm[27])
        protruding = np.concatenate([protruding, lm[30:31] + 0.15 * (lm[30:31] - lm[33:34])])
    rise = rng.uniform(-0.3, 0.5)
    left, right = lm[2] + rise * (lm[1] - lm[2]), lm[14] + rise * (lm[15] - lm[14])
    rise_left, rise_right = ((side + top) / 2 - 0.06 * view.down for side in (left, right))
    edge = np.concatenate([curve([right, rise_right, top], 6), curve([top, rise_left, left], 6)])
    outline = cv2.convexHull(np.concatenate([jaw, edge, protruding]).astype(np.float32))[:, 0]
    stencil = Stencil(view.size, np.concatenate([outline, lm[[0, 16]]]))
    if stencil.empty:
        return []
    loops = stencil.blank()
    for ear, upper, lower in ((lm[0], left, jaw[1]), (lm[16], right, jaw[-2])):
        for corner in (upper, lower):
            stencil.stroke(loops, curve([corner, (corner + ear) / 2 + 0.03 * view.down, ear], 6), view.height / 60)
    coverage = stencil.blank()
    stencil.fill(coverage, outline)
    height, width = coverage.shape
    cloth: Array
    choice = rng.random()
    if choice < 0.55:
        cloth = MASK_COLOURS[int(rng.integers(len(MASK_COLOURS)))][:, None, None]
    elif choice < 0.7:
        cloth = colour(rng)[:, None, None]
    elif choice < 0.85:
        cloth = pattern(rng, height, width)
    else:
        cloth = colour_noise(rng, height, width, (5, 5), 2)
    shade = puffed(coverage * np.float32(1 / 255), rng, rng.uniform(0.3, 0.8))
    shade = shade * (1 + 0.12 * noise(rng, height, width, (5, 5), 2))
    if rng.random() < 0.65:
        pleats = stencil.blank()
        for share in np.linspace(0.25, 0.8, int(rng.integers(2, 5))):
            ends = jaw[1] + share * (jaw[4] - jaw[1]), jaw[-2] + share * (jaw[-5] - jaw[-2])
            sag = top + (0.2 + 0.9 * share) * (lm[8] - top)
            stencil.stroke(pleats, curve([ends[0], sag, ends[1]], 10), view.height / 70)
        shade = shade * (1 - np.float32(rng.uniform(0.1, 0.35) / 255) * pleats)
    band = np.full(3, 0.9 if rng.random() < 0.7 else 0.1, np.float32)
    return [stencil.layer(loops, band), stencil.layer(coverage, np.clip(cloth * shade, 0, 1))]


def draw_hair(rng: np.random.Generator, view: FaceView) -> list[Layer]:
    """Locks and single hairs that fall from above or from one side over the face."""
    fringe = rng.random() < 0.6
    side = 1.0 if rng.random() < 0.5 else -1.0
    swing, reach = rng.uniform(-0.7, 0.7), rng.uniform(0.0, 0.35) if fringe else rng.uniform(0.3, 1.15)
    count = int(rng.integers(7, 13)) if fringe else int(rng.integers(3, 7))
    span = rng.uniform(1.2, 2.2)
    locks: list[tuple[Array, float]] = []
    for index in range(count):
        if fringe:
            x = span * (2 * (index + rng.uniform(0.2, 0.8)) / count - 1)
            start, end = view.at(0.75 * x, -1.0), view.at(x + swing + rng.normal(0, 0.15), reach - rng.uniform(0, 0.25))
        else:
            x = side * rng.uniform(0.9, 2.0)
            start = view.at(side * rng.uniform(0.0, 1.2), -1.05)
            end = view.at(x + rng.normal(0, 0.4), reach + rng.uniform(-0.3, 0.3))
        bend = view.at(x * rng.uniform(0.7, 1.3) + 0.4 * swing, -0.45)
        line = curve([start, bend, end], 9)
        thick = view.height * rng.uniform(0.06, 0.16) * (1.0 if fringe else 0.8)
        locks.append((line, thick))
    stencil = Stencil(view.size, np.concatenate([line for line, _ in locks]), margin=view.height * 0.18)
    if stencil.empty:
        return []
    coverage, shade = stencil.blank(), stencil.blank(128)
    aside = view.unit(view.across)
    taper = np.array([0.9, 1, 1, 1, 0.95, 0.85, 0.65, 0.35, 0.05])
    for line, thick in locks:
        outline = ribbon(line, thick * taper)
        stencil.fill(coverage, outline)
        stencil.fill(shade, outline, int(rng.integers(105, 150)))
        strands = thick * rng.uniform(-0.8, 0.8, (4, 1, 1)) * taper[:, None] * aside  # within the lock
        stencil.stroke(shade, line + strands[:2], 1, int(rng.integers(70, 105)))
        stencil.stroke(shade, line + strands[2:], 1, int(rng.integers(150, 210)))
    for opacity in rng.integers(120, 256, 2).tolist():  # single hairs
        chosen = rng.integers(len(locks), size=int(rng.integers(2, 8)))
        stray = np.stack([locks[index][0] for index in chosen])
        stray += np.linspace(0.3, 1, 9)[:, None] * rng.normal(0, 2.2 * locks[0][1], (len(chosen), 1, 2))
        stencil.stroke(coverage, stray, 1, opacity)
        stencil.stroke(shade, stray, 1, int(rng.integers(80, 180)))
    tone = between(rng, HAIR)
    if view.hair is not None and rng.random() < 0.8:
        tone = view.hair
    light = shade * np.float32(1 / 128) * (1 + 0.2 * noise(rng, *stencil.shape, (4, 4), 2))
    return [stencil.layer(coverage, np.clip(tone[:, None, None] * light, 0, 1))]
