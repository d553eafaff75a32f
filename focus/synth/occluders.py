"""Occluders by kind: which there are, how many cover a face, and what they leave visible.

Each kind draws `Layer`s with its own random form, colour, texture and shading, placed by the face's landmarks. The
alpha of the layers is the ground truth: image and visible-face mask are blended with the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .layers import Layer, paste, uncover
from .textures import Array
from .things import draw_cutout, draw_hand, draw_shape, draw_text
from .view import FaceView
from .worn import draw_glasses, draw_hair, draw_mask

DRAW: dict[str, Callable[[np.random.Generator, FaceView], list[Layer]]] = {
    "hand": draw_hand,
    "glasses": draw_glasses,
    "mask": draw_mask,
    "hair": draw_hair,
    "text": draw_text,
    "shape": draw_shape,
    "cutout": draw_cutout,
}
KINDS = tuple(DRAW)
COUNTS = (0.6, 0.3, 0.1)  # probabilities of one, two and three occluders, where there are any
LEAST_SEEN = 0.15  # share of the face's pixels that occluders leave visible; what would cover more is not drawn


def check_kinds(function: str, kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds as a tuple. ValueError for a name that is not one of KINDS or stands twice; TypeError for a string."""
    if isinstance(kinds, str):
        raise TypeError(f"{function}(): expected kinds to be a sequence of names, got the string {kinds!r}")
    for kind in kinds:
        if kind not in DRAW:
            raise ValueError(f"{function}(): expected kinds to be among {', '.join(KINDS)}, got {kind!r}")
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"{function}(): expected every name in kinds once, got {', '.join(kinds)}")
    return tuple(kinds)


def draw_occluder(kind: str, rng: np.random.Generator, view: FaceView) -> list[Layer]:
    """One occluder as layers, the lowest first; empty where it came to lie outside the image.

    Raises:
        ValueError: a kind that is not one of KINDS.
    """
    check_kinds("draw_occluder", (kind,))
    return DRAW[kind](rng, view)


def occlude(
    rng: np.random.Generator,
    image: Array,
    visible: Array,
    view: FaceView,
    kinds: Sequence[str] = KINDS,
    none_probability: float = 0.2,
) -> tuple[str, ...]:
    """Covers a face with up to three occluders of different kinds, in place.

    Args:
        image: [3, H, H] float32 in [0, 1].
        visible: [H, H] float32, the share of each pixel that the face covers; what is left visible of it afterwards.
        kinds: which may be drawn, each as likely as the others; empty draws none.
        none_probability: of no occluder at all.

    Returns:
        The kinds drawn, the lowest first: those that cover any of the face, in the order in which they lie.
    """
    if not kinds or rng.random() < none_probability:
        return ()
    count = min(1 + int(rng.choice(len(COUNTS), p=COUNTS)), len(kinds))
    face = float(visible.sum())
    drawn = []
    for index in rng.permutation(len(kinds))[:count]:
        kind = kinds[index]
        layers = DRAW[kind](rng, view)
        left = visible.copy()
        uncover(left, layers)
        seen = float(left.sum())
        if seen < LEAST_SEEN * face or seen == float(visible.sum()):
            continue
        paste(image, layers)
        visible[:] = left
        drawn.append(kind)
    return tuple(drawn)
