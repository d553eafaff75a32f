"""Identities: random settings of MakeHuman's modelling sliders, whose widths are a prior set by hand, no statistics."""

from __future__ import annotations

from typing import Any

import numpy as np

from .mesh import SKIN, FaceMesh
from .source import Source

Array = np.ndarray[Any, Any]

PARTS = ("nose", "mouth", "eyes", "cheek", "chin", "forehead", "head", "eyebrows")
# Standard deviation of a slider, whose range is -1 to 1, by the start of its name: the first that fits.
WIDTHS = (
    ("head-age", 0.30), ("head-fat", 0.30), ("head-angle", 0.10), ("head-", 0.16), ("forehead", 0.25),
    ("eyebrows-trans-down", 0.40), ("eyebrows", 0.30), ("eye-trans", 0.30), ("eye-bag", 0.20), ("eye", 0.26),
    ("nose-trans-down", 0.35), ("nose-trans", 0.15), ("nose", 0.27),
    ("mouth-trans-down", 0.35), ("mouth-trans", 0.15), ("mouth-laugh", 0.2), ("mouth", 0.25),
    ("cheek", 0.25), ("chin", 0.27),
)  # fmt: skip
# Sliders without an opposite in target.json, paired where two of them are opposites. The others work both ways.
OPPOSITES = {
    "head-triangular": "head-invertedtriangular", "head-rectangular": "head-round", "head-square": "head-diamond",
}  # fmt: skip
# Means of sliders: the base mesh has rather small eyes.
MEANS = {"eye-scale-decr-incr": 0.3, "eye-height2-decr-incr": 0.25}
ASYMMETRY_WIDTH = 0.10
SIDE_WIDTH = 0.03  # how much the two sides' settings of one slider differ
BROW_WIDTH = 2.6  # mm, standard deviation of the height of the eyebrows
MACRO_RACES = ("african", "asian", "caucasian")

Slider = tuple[str, float, list[tuple[str | None, str]]]  # name, width, (negative, positive) target for each side


def find_sliders(source: Source) -> list[Slider]:
    """All sliders of the face from target.json. A missing negative target means minus the positive one."""
    sliders: list[Slider] = []
    pairs: list[tuple[str | None, str]]
    table = source.slider_table()
    for part in PARTS:
        for entry in table[part]["categories"]:
            name = entry["name"]
            if (part == "head" and "trans" in name) or name in OPPOSITES.values():
                continue
            width = next(width for start, width in WIDTHS if name.startswith(start))
            opposites = entry.get("opposites")
            if opposites:
                sides = ("left", "right") if entry["has_left_and_right"] else ("unsided",)
                low, high = ([f"{part}/{opposites[f'{sign}-{s}']}" for s in sides] for sign in ("negative", "positive"))
                pairs = list(zip(low, high, strict=True))
            elif entry["has_left_and_right"]:  # named ...-A-B, with the targets l-...-A, l-...-B, r-...-A, r-...-B
                stem, negative, positive = name.rsplit("-", 2)
                pairs = [(f"{part}/{s}-{stem}-{negative}", f"{part}/{s}-{stem}-{positive}") for s in "lr"]
            else:
                other = OPPOSITES.get(name)
                pairs = [(f"{part}/{other}" if other else None, f"{part}/{name}")]
            sliders.append((name, width, pairs))
    return sliders


def macro_shape(source: Source, num_vertices: int) -> Array:
    """The average adult, [N,3] displacement from the base mesh in dm: three origins and two sexes in equal parts."""
    shape = np.zeros((num_vertices, 3))
    for sex in ("female", "male"):
        for race in MACRO_RACES:
            shape += source.target(f"macrodetails/{race}-{sex}-young", num_vertices) / 6
        shape += source.target(f"macrodetails/universal-{sex}-young-averagemuscle-averageweight", num_vertices) / 2
    return shape


class Settings:
    """Weights of targets for N people, filled column by column."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.columns: dict[str, Array] = {}

    def add(self, target: str, weight: Array) -> None:
        self.columns[target] = self.columns.get(target, np.zeros(self.count)) + weight

    def apply(self, source: Source, mesh: FaceMesh, num_base: int) -> Array:
        """[N,V,3] displacements in dm."""
        names = sorted(self.columns)
        weights = np.stack([self.columns[name] for name in names], axis=1)
        targets = np.stack([mesh.take(source.target(name, num_base)).ravel() for name in names])
        return (weights @ targets).reshape(self.count, -1, 3)


def sample_identities(source: Source, mesh: FaceMesh, num_base: int, count: int, rng: np.random.Generator) -> Array:
    """[count,V,3] random displacements from the base mesh in dm."""
    settings = Settings(count)
    _add_macros(settings, rng)
    for name, width, pairs in find_sliders(source):
        common = rng.normal(MEANS.get(name, 0.0), width, count)
        for negative, positive in pairs:
            value = np.clip(common + (rng.normal(0, SIDE_WIDTH, count) if len(pairs) > 1 else 0), -1, 1)
            settings.add(positive, np.maximum(value, 0) if negative else value)
            if negative:
                settings.add(negative, np.maximum(-value, 0))
    names = source.target_names("asym")
    for name in names:
        stem = name.removesuffix("-l")
        if name.endswith("-l") and not any(word in name for word in ("breast", "trunk", "ear")):
            value = rng.normal(0, ASYMMETRY_WIDTH, count)
            settings.add(f"asym/{name}", np.maximum(value, 0))
            settings.add(f"asym/{stem}-r", np.maximum(-value, 0))
    return settings.apply(source, mesh, num_base)


def _add_macros(settings: Settings, rng: np.random.Generator) -> None:
    """Origin, sex, age, muscle and weight, which MakeHuman blends multiplicatively."""
    n = settings.count
    race = rng.dirichlet([0.8] * 3, n)  # [N, 3]
    male = rng.beta(0.6, 0.6, n)
    sex = {"female": 1 - male, "male": male}
    old = np.clip(rng.uniform(-0.7, 0.8, n), 0, 1)
    child = np.where(rng.uniform(size=n) < 0.06, rng.uniform(0, 0.45, n), 0.0)
    age = {"child": child, "young": (1 - child) * (1 - old), "old": (1 - child) * old}
    level = ("min", "average", "max")
    muscle = dict(zip(level, _three_ways(rng.uniform(-0.6, 0.6, n)), strict=True))
    weight = dict(zip(level, _three_ways(np.clip(rng.normal(0, 0.4, n), -0.9, 0.9)), strict=True))
    for s in sex:
        for a in age:
            for r, name in enumerate(MACRO_RACES):
                settings.add(f"macrodetails/{name}-{s}-{a}", sex[s] * age[a] * race[:, r])
            for m in level:
                for w in level:
                    name = f"macrodetails/universal-{s}-{a}-{m}muscle-{w}weight"
                    settings.add(name, sex[s] * age[a] * muscle[m] * weight[w])


def _three_ways(value: Array) -> tuple[Array, Array, Array]:
    return np.maximum(-value, 0), 1 - np.abs(value), np.maximum(value, 0)


def brow_mode(positions: Array, normals: Array, brow_height: float) -> Array:
    """[V,3]: the eyebrows one unit up along the skin, fading out at the lids and on the forehead. positions in mm."""
    x, y = positions[:, 0], positions[:, 1] - brow_height
    fade = np.exp(-((y / np.where(y < 0, 9.0, 20.0)) ** 2)) / (1 + np.exp((np.abs(x) - 58) / 4))
    fade = fade * (positions[:, 2] > positions[:, 2].max() - 70)
    up = np.array([0.0, 1.0, 0.0]) - normals * normals[:, 1:2]
    return fade[:, None] * up


def align_rigidly(samples: Array, part: Array, passes: int = 3) -> tuple[Array, Array]:
    """Generalised Procrustes without scale on the skin: (samples moved to a common frame, their mean), centred at 0."""
    skin = part == SKIN
    samples = samples - samples[:, skin].mean(axis=1, keepdims=True)
    mean = samples.mean(axis=0)
    for _ in range(passes):
        u, _, vt = np.linalg.svd(np.einsum("nvi,vj->nij", samples[:, skin], mean[skin]))
        vt[:, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
        samples = samples @ (u @ vt)
        mean = samples.mean(axis=0)
    return samples, mean
