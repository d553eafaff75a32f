"""Expressions: sparse random activations of face units, about the neutral face."""

from __future__ import annotations

from typing import Any

import numpy as np

from .identity import MACRO_RACES, Settings
from .source import Source

Array = np.ndarray[Any, Any]

ACTIVE = 0.08  # chance that a unit takes part in an expression
STRENGTH = 0.9  # its largest activation
UNIT_WIDTH = 0.35  # of MakeHuman's own expression units, which overlap the face units
BOTH_SIDES = 0.8  # chance that left and right are equal
GAZE_WIDTH = 0.3
SIDEWAYS = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")  # movements to a side, not sides of one unit
LEFT_OUT = ("tongueOut", "mouthClose", "neck-platysma")


def sample_expressions(source: Source, count: int, rng: np.random.Generator) -> Settings:
    """Weights of face units and of MakeHuman's expression units (the mean of the three origins) for `count` faces."""
    settings = Settings(count)

    def draw(width: float) -> Array:
        return (rng.uniform(size=count) < ACTIVE) * rng.uniform(0, width, count)

    for left, right in _sides(source.face_unit_names(), ("Left", "Right")):
        if left in LEFT_OUT or left.startswith("eyeLook"):
            continue
        first = draw(STRENGTH)
        settings.add(f"faceunits/{left}", first)
        if left == "jawOpen":
            # mouthClose brings the lips together over an open jaw; alone it would push them through each other.
            settings.add("faceunits/mouthClose", first * (rng.uniform(size=count) < 0.25) * rng.uniform(size=count))
        if right:
            settings.add(f"faceunits/{right}", np.where(rng.uniform(size=count) < BOTH_SIDES, first, draw(STRENGTH)))
    for left, right in _sides(source.target_names("expression/units/caucasian"), ("-left-", "-right-")):
        if left in LEFT_OUT:
            continue
        first = draw(UNIT_WIDTH)
        second = np.where(rng.uniform(size=count) < BOTH_SIDES, first, draw(UNIT_WIDTH))
        for race in MACRO_RACES:
            settings.add(f"expression/units/{race}/{left}", first / 3)
            if right:
                settings.add(f"expression/units/{race}/{right}", second / 3)
    sideways, upwards = rng.normal(0, GAZE_WIDTH, (2, count))
    for side, towards in (("Left", 1), ("Right", -1)):
        settings.add(f"faceunits/eyeLookOut{side}", np.maximum(towards * sideways, 0))
        settings.add(f"faceunits/eyeLookIn{side}", np.maximum(-towards * sideways, 0))
        settings.add(f"faceunits/eyeLookUp{side}", np.maximum(upwards, 0))
        settings.add(f"faceunits/eyeLookDown{side}", np.maximum(-upwards, 0))
    return settings


def _sides(names: list[str], words: tuple[str, str]) -> list[tuple[str, str | None]]:
    """(left, right) names for two-sided units, (name, None) for the others."""
    pairs: list[tuple[str, str | None]] = []
    for name in names:
        if name in SIDEWAYS or (words[0] not in name and words[1] not in name):
            pairs.append((name, None))
        elif words[0] in name:
            pairs.append((name, name.replace(*words)))
    return pairs
