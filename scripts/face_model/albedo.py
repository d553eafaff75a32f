"""Skin, lips, brows, eyes: random albedo maps on the mean face. Hand-set widths, a prior and not statistics.

Values are display values like those of photos, which FOCUS compares with renderings as they are (no gamma).
The model is linear in albedo and its coefficients are Gaussian, so a draw far out must not turn negative or green.
Hence colour of skin is one additive Gaussian mode that every part of the face follows in proportion, and all patterns
on top of it have the size that they have on rather dark skin (REFERENCE), whatever the skin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .landmarks import BROW, PLACES
from .mesh import EYE, SKIN, TEETH

Array = np.ndarray[Any, Any]

TONE = np.array([0.620, 0.488, 0.412])
TONE_WIDTH = np.array([0.115, 0.108, 0.100])
TONE_LIMIT = 2.2
REFERENCE = np.array([0.52, 0.40, 0.34])
HAIR = np.array([0.31, 0.25, 0.215])
LIPS = np.array([0.935, 0.80, 0.81])  # times the skin
SCLERA = np.array([0.81, 0.78, 0.765])
IRIS = np.array([0.37, 0.30, 0.25])
MOUTH = np.array([0.36, 0.20, 0.185])
TOOTH = np.array([0.78, 0.74, 0.67])
PUPIL = 0.10


@dataclass
class Surface:
    """The mean face at the albedo's level: positions [V,3] centred mm, normals, masks [V] in [0,1], mirror vertices."""

    positions: Array
    normals: Array
    part: Array
    symmetry: Array
    lips: Array
    lids: Array
    mouth: Array
    lashes: Array
    shade: Array  # part of the sky that a vertex sees
    template: Array  # [V,3] dm, for places on the eyeballs


def sky_shade(dense: Array, positions: Array, normals: Array, directions: int = 200, cell: float = 2.0) -> Array:
    """Cosine-weighted part of the sky that each vertex sees, [V] in [0,1]: dense [D,3] points of the surface occlude.

    A vertex is hidden from a direction if a point in its cell of a grid across that direction lies over 3 mm before it.
    """
    k = np.arange(directions) + 0.5
    z = 1 - 2 * k / directions
    turn = np.pi * (1 + 5**0.5) * k
    radius = np.sqrt(1 - z * z)
    sky = np.stack([radius * np.cos(turn), z, radius * np.sin(turn)], axis=1)
    sky = np.concatenate([sky, sky * [-1, 1, 1]])  # as symmetric as the face
    seen, total = np.zeros(len(positions)), np.zeros(len(positions))
    for direction in sky[sky[:, 2] > -0.2]:
        across = np.cross(direction, [0.0, 1.0, 0.1])
        across /= np.linalg.norm(across)
        axes = np.stack([across, np.cross(direction, across)], axis=1)
        grid = np.floor(dense @ axes / cell).astype(int)
        low = grid.min(axis=0) - 1
        height, width = grid.max(axis=0) - low + 2
        depth = np.full(height * width, -np.inf)
        np.maximum.at(depth, (grid - low) @ [width, 1], dense @ direction)
        own = np.floor(positions @ axes / cell).astype(int) - low
        own = np.clip(own, 0, [height - 1, width - 1])
        weight = np.maximum(normals @ direction, 0)
        seen += weight * (positions @ direction > depth[own @ [width, 1]] - 3.0)
        total += weight
    return seen / np.maximum(total, 1e-9)


def _bump(positions: Array, centre: tuple[float, float, float], widths: tuple[float, float, float]) -> Array:
    """Gaussian around a place of the right side and its mirror image, [V]."""
    folded = np.column_stack([-np.abs(positions[:, 0]), positions[:, 1:]])
    return np.exp(-(((folded - centre) / widths) ** 2).sum(axis=1))


def brow_mask(positions: Array, up: Array, thickness: Array) -> Array:
    """[N,V]: how much of each vertex is eyebrow, for N brows raised by up [N] mm and thickness [N] times as wide."""
    curve = np.array([PLACES[i] for i in BROW])[:, :2] + [0.0, -0.8]
    t = np.linspace(0, 1, 60)
    x = np.interp(t, np.linspace(0, 1, 5), curve[:, 0])
    y = np.interp(t, np.linspace(0, 1, 5), curve[:, 1])
    width = 1.1 + 1.7 * t**0.7  # mm, from the tail to the head
    folded = -np.abs(positions[:, 0])
    result = np.zeros((len(up), len(positions)))
    near = np.flatnonzero((positions[:, 1] > 30) & (positions[:, 1] < 70) & (positions[:, 2] > -35))
    for i in range(len(up)):
        dx = folded[near, None] - x
        dy = positions[near, 1, None] - y - up[i]
        distance = np.hypot(dx * 0.8, dy) / (width * thickness[i])
        head = 1 / (1 + np.exp((folded[near] + 9.0) / 1.5))  # thins out between the brows
        result[i, near] = np.exp(-0.7 * distance.min(axis=1) ** 2.4) * head
    return result


class Smooth:
    """Random smooth fields on the face by random cosines, mostly symmetric."""

    def __init__(self, surface: Surface, length: float, symmetric: float, rng: np.random.Generator) -> None:
        terms = 400
        waves = rng.normal(0, 1 / length, (3, terms))
        phase = rng.uniform(0, 2 * np.pi, terms)
        field = np.sqrt(2 / terms) * np.cos(surface.positions @ waves + phase)
        even, odd = (field + field[surface.symmetry]) / 2, (field - field[surface.symmetry]) / 2
        self.basis = np.sqrt(2 * symmetric) * even + np.sqrt(2 * (1 - symmetric)) * odd

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        return (rng.normal(size=(count, self.basis.shape[1])) @ self.basis.T).astype(np.float32)  # [N, V]


def static_multiplier(surface: Surface) -> Array:
    """[V,3]: what every skin is multiplied by: shade in hollows, red cheeks, nose and lips, dark lashes and lids."""
    p = surface.positions
    m = np.ones((len(p), 3))
    red = 0.5 * _bump(p, (-42, 4, -5), (17, 14, 40)) + 0.5 * _bump(p, (0, -4, 28), (11, 11, 12))
    red = red + 0.25 * _bump(p, (0, -72, 5), (16, 9, 20))
    m *= 1 - red[:, None] * [0.01, 0.085, 0.08]
    m *= 1 - _bump(p, (-27, 19, 2), (12, 5, 12))[:, None] * [0.05, 0.06, 0.04]  # under the eyes
    m *= 1 - 0.07 * surface.lids[:, None]
    m *= 1 - 0.35 * _bump(p, (-6.5, -13.0, 15.5), (3.2, 2.2, 4.0))[:, None]  # nostrils
    m *= 1 + _bump(p, (0, 66, 10), (40, 22, 30))[:, None] * [0.015, 0.02, 0.02]
    lips = surface.lips[:, None]
    m = m * (1 - lips) + lips * LIPS
    m *= 1 - surface.lashes[:, None] * [0.45, 0.48, 0.48]
    return m * (0.68 + 0.32 * surface.shade[:, None])


def sample_albedo(surface: Surface, count: int, rng: np.random.Generator) -> Array:
    """[count,V,3] float32 random albedo maps."""
    p = surface.positions
    skin = (surface.part == SKIN) & (surface.mouth < 0.5)

    def normal(width: float = 1.0) -> Array:
        return rng.normal(0, width, (count, 1, 1)).astype(np.float32)

    multiplier = static_multiplier(surface).astype(np.float32)
    lips = surface.lips.astype(np.float32)[:, None]
    tone_step = np.clip(normal(), -TONE_LIMIT, TONE_LIMIT)
    tone = TONE + tone_step * TONE_WIDTH + normal(0.010) * [0.9, 0.0, -0.9] + normal(0.005) * [-0.6, 1.0, -0.3]
    base = (tone * multiplier).astype(np.float32)  # [N, V, 3]
    fine, coarse = Smooth(surface, 9.0, 0.5, rng), Smooth(surface, 25.0, 0.8, rng)
    pattern = 0.018 * coarse.draw(count, rng)[..., None] + 0.016 * fine.draw(count, rng)[..., None]
    pattern = pattern + 0.014 * coarse.draw(count, rng)[..., None] * np.array([0.1, 1.0, 1.0], np.float32)
    cheeks = _bump(p, (-42, 4, -5), (18, 15, 40)) + 0.6 * _bump(p, (0, -4, 28), (12, 12, 12))
    pattern += normal(0.04) * cheeks[:, None] * np.array([0.0, -1.0, -0.9])
    pattern += normal(0.03) * surface.lids[:, None] + normal(0.04) * _bump(p, (-27, 19, 2), (13, 6, 14))[:, None]
    # Lips vary in green and blue and in brightness: less red would be green on dark skin.
    pattern += lips * (normal(0.04) + normal(0.06) * np.array([0.0, 1.0, 0.9]))
    beard = _beard(surface)
    grown = normal(0.12) * beard[:, None]
    hair = HAIR + (0.045 * tone_step + normal(0.04)) * [1.1, 1.0, 0.8]  # fair skin tends to fair hair
    hair = np.clip(hair, 0.08, 1).astype(np.float32)
    reference = (REFERENCE * multiplier).astype(np.float32)
    shown = brow_mask(p, rng.normal(0, 1.3, count), np.clip(rng.normal(1, 0.18, count), 0.6, 1.5)).astype(np.float32)
    strength = np.clip(rng.normal(0.75, 0.13, count), 0.25, 0.95).astype(np.float32)
    shown = (strength[:, None] * shown)[..., None]  # [N, V, 1]
    usual = shown.mean(axis=0)
    albedo = base * (1 - usual) + usual * hair + (shown - usual) * (hair - reference)
    albedo += (reference * pattern * (1 - usual)).astype(np.float32) + grown * (1.15 * hair - reference)

    eyes = _eyes(surface, count, rng)
    shade = surface.shade[:, None]
    inside = np.where((surface.part == TEETH)[:, None], TOOTH * (0.56 + 0.44 * shade), MOUTH * (0.5 + 0.5 * shade))
    albedo = np.where(skin[:, None], albedo, inside)
    return np.where((surface.part == EYE)[:, None], eyes, albedo).astype(np.float32)


def _beard(surface: Surface) -> Array:
    """[V] in [0,1]: chin, jaw and upper lip."""
    p = surface.positions
    jaw = np.exp(-((np.maximum(p[:, 1] + 52 - 0.55 * np.abs(p[:, 0]), 0) / 12) ** 2)) * (p[:, 2] > -70)
    lip = _bump(p, (-10, -24, 15), (16, 5, 14))
    below_lip = 1 - 0.8 * _bump(p, (0, -57, 10), (16, 5, 14))
    return np.maximum(jaw * below_lip, lip) * (1 - surface.lips) * (surface.part == SKIN)


def _eyes(surface: Surface, count: int, rng: np.random.Generator) -> Array:
    """[count,V,3]: white, iris and pupil on the eyeballs, shaded by the lids; skin values elsewhere are unused."""
    eye = surface.part == EYE
    x, y = np.abs(surface.template[:, 0]), surface.template[:, 1]
    middle_x = (x[eye].min() + x[eye].max()) / 2
    middle_y = (y[eye].min() + y[eye].max()) / 2
    radius = np.hypot(x - middle_x, y - middle_y)  # dm
    iris = 1 / (1 + np.exp(np.clip((radius - 0.059) / 0.003, -30, 30)))[:, None]
    pupil = 1 / (1 + np.exp(np.clip((radius - 0.024) / 0.003, -30, 30)))[:, None]
    light = rng.normal(0, 1, (count, 1, 1)).astype(np.float32)
    colour = IRIS + light * [0.030, 0.045, 0.060] + rng.normal(0, 1, (count, 1, 1)) * [0.015, 0.0, -0.015]
    white = SCLERA * (1 + rng.normal(0, 0.03, (count, 1, 1)) + rng.normal(0, 0.012, (count, 1, 1)) * [0.0, 1.0, 1.0])
    mixed = (white * (1 - iris) + colour * iris) * (1 - pupil) + PUPIL * pupil
    return (mixed * (0.6 + 0.4 * surface.shade[:, None])).astype(np.float32)
