"""What a source of faces is, which of its items are for training, and going through it once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch

from .batch import Batch

TRAIN, VALIDATION = "train", "validation"


class UnusableItemError(RuntimeError):
    """An item that cannot be had: a damaged photo, landmarks that fit no face. Others are, so training goes on."""

    def __init__(self, index: int, name: str, reason: str) -> None:
        super().__init__(index, name, reason)
        self.index, self.name, self.reason = index, name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Source(Protocol):
    """Faces by number.

    Item i of epoch e is the same bits whatever it is batched with and in whatever process.
    """

    size: int

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        """The items of these indices, 0 to len - 1, in this order, augmented as in an epoch, from 0.

        Raises:
            UnusableItemError: one of them cannot be had.
        """
        ...


class Skipped(NamedTuple):
    """What was left out, and why."""

    name: str
    reason: str


def split_of(name: str, validation: float = 0.1) -> str:
    """Whether an item is for "train" or "validation", by a hash of its name: the same on every machine.

    Args:
        name: of the item, with / between folders.
        validation: share of the names that are for validation, in [0, 1].

    Raises:
        ValueError: a share outside [0, 1].
    """
    if not 0 <= validation <= 1:
        raise ValueError(f"split_of(): expected validation to be in [0, 1], got {validation}")
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return VALIDATION if int.from_bytes(digest[:8], "big") < validation * 2**64 else TRAIN


def in_order(
    source: Source, batch_size: int, skipped: list[Skipped] | None = None
) -> Iterator[tuple[list[int], Batch]]:
    """Every usable item once, in order, as of epoch 0: (indices, batch); batches may be smaller than `batch_size`.

    Args:
        skipped: gets those that cannot be had.

    Raises:
        ValueError: batch_size < 1.
    """
    if batch_size < 1:
        raise ValueError(f"in_order(): expected batch_size to be >= 1, got {batch_size}")
    for first in range(0, len(source), batch_size):
        indices = list(range(first, min(first + batch_size, len(source))))
        while indices:
            try:
                yield indices, source.batch(indices, 0)
                break
            except UnusableItemError as error:
                indices.remove(error.index)
                if skipped is not None:
                    skipped.append(Skipped(error.name, error.reason))


def join(batches: Sequence[Batch]) -> Batch:
    """Batches as one; a field that one of them lacks is None. ValueError for none."""
    if not batches:
        raise ValueError("join(): expected batches, got none")
    if len(batches) == 1:
        return batches[0]
    fields = zip(*batches, strict=True)
    return Batch(*(None if any(part is None for part in parts) else torch.cat(parts) for parts in fields))  # type: ignore[arg-type]
