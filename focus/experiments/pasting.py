"""Occluders pasted on photos, for the baselines -cutmix and -cutout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.batch import Batch
from ..data.source import Source, UnusableItemError
from .configurations import CUTMIX, CUTOUT

# What is known of the authors' augmentation: the names min_scale, max_scale, start, prob and these values.
PROBABILITY, SMALLEST, LARGEST, START = 0.25, 0.1, 0.4, 0.15
TRIES = 8  # other photos, where one cannot be had
PASTE = 3  # random stream


class PastedSource:
    """A source with true masks, on some of whose photos a rectangle is pasted, which then is not visible face.

    "cutmix" pastes a piece of another photo of the source, "cutout" a black rectangle. Item i of an epoch is the same
    bits for the same (seed, epoch, i).

    Args:
        source: whose batches have `visible`.
        kind: "cutmix" or "cutout".
        seed: any integer >= 0.
        probability: that a photo gets a rectangle.

    Raises:
        ValueError: another kind, or a probability outside [0, 1].
    """

    def __init__(self, source: Source, kind: str, seed: int = 0, probability: float = PROBABILITY) -> None:
        if kind not in (CUTMIX, CUTOUT):
            raise ValueError(f"PastedSource(): expected kind to be {CUTMIX!r} or {CUTOUT!r}, got {kind!r}")
        if not 0 <= probability <= 1:
            raise ValueError(f"PastedSource(): expected probability to be in [0, 1], got {probability}")
        self.source, self.kind, self.seed, self.probability = source, kind, seed, probability
        self.size = source.size

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        """See `Source.batch`. ValueError where the source's batches have no true masks."""
        batch = self.source.batch(indices, epoch)
        if batch.visible is None:
            raise ValueError("PastedSource.batch(): expected a source with visible masks, got None")
        image, visible = batch.image.clone(), batch.visible.clone()
        for row, index in enumerate(indices):
            rng = np.random.default_rng([self.seed, epoch, index, PASTE])
            if rng.random() >= self.probability:
                continue
            height, width = (max(1, round(self.size * side)) for side in rng.uniform(SMALLEST, LARGEST, 2))
            top, left = (self._place(rng, side) for side in (height, width))
            window = (slice(None), slice(top, top + height), slice(left, left + width))
            if self.kind == CUTOUT:
                image[row][window] = 0
            else:
                piece = self._piece(rng, index, epoch, height, width)
                if piece is None:
                    continue
                image[row][window] = piece
            visible[row][window] = 0
        return batch._replace(image=image, visible=visible)

    def _place(self, rng: np.random.Generator, side: int) -> int:
        """Where a rectangle begins: it lies within the middle of the photo."""
        low, high = round(START * self.size), round((1 - START) * self.size) - side
        return int(rng.integers(low, max(high, low) + 1))

    def _piece(self, rng: np.random.Generator, index: int, epoch: int, height: int, width: int) -> Tensor | None:
        """A piece [3, height, width] of another photo; None where none can be had."""
        count = len(self.source)
        others = rng.integers(1, max(count, 2), TRIES)
        top, left = (int(rng.integers(self.size - side + 1)) for side in (height, width))
        for step in others:
            try:
                donor = self.source.batch([(index + int(step)) % count], epoch).image[0]
            except UnusableItemError:
                continue
            return torch.clone(donor[:, top : top + height, left : left + width])
        return None
