"""Batches for ever, in an order that depends on the seed only, so that training goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..processes import become_worker, start_method
from .batch import Batch
from .source import Skipped, Source, UnusableItemError, join

PREFETCH = 3  # batches that each worker process makes ahead


class Stream:
    """Batches of a source, for ever, each epoch in another random order.

    Position p of the stream, which counts over all epochs, is item perm(seed, epoch)[p % n] with epoch = p // n.
    Iteration t takes positions t B to t B + B - 1; of `world` processes the one with number `rank` gets its share of
    B / world. So iteration t is the same whenever it is asked for: `Stream(..., start=t)` goes on where another one
    stopped, with any number of workers.

    An item that cannot be had is replaced by the next one that can, index + 1, index + 2, ...

    Args:
        source: see `focus.data.Source`; with workers it is copied to them.
        batch_size: B, of all ranks together.
        seed: of the order, any integer >= 0.
        workers: processes that make batches ahead; 0 makes them when they are asked for.
        rank, world: which share this process gets, and of how many.
        start: the first iteration.
        pin_memory: batches in page-locked memory, for copies to a GPU.

    Attributes:
        skipped: the items that were replaced so far, each once, with the reason.
        replaced: how often items were replaced so far.

    Raises:
        ValueError: an empty source, or an argument out of range.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int = 0,
        *,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        pin_memory: bool = False,
    ) -> None:
        if len(source) < 1:
            raise ValueError("Stream(): expected a source with items, got an empty one")
        for name, value, least in (
            ("seed", seed, 0),
            ("workers", workers, 0),
            ("world", world, 1),
            ("start", start, 0),
        ):
            if value < least:
                raise ValueError(f"Stream(): expected {name} to be >= {least}, got {value}")
        if not 0 <= rank < world:
            raise ValueError(f"Stream(): expected rank to be in 0..{world - 1}, got {rank}")
        if batch_size < 1 or batch_size % world:
            raise ValueError(f"Stream(): expected batch_size to be a multiple of world, {world}, got {batch_size}")
        self.source, self.start, self.workers, self.pin_memory = source, start, workers, pin_memory
        self.replaced = 0
        self._batches = _Batches(source, batch_size, seed, rank, world)
        self._reasons: dict[str, str] = {}

    @property
    def skipped(self) -> list[Skipped]:
        return [Skipped(*item) for item in self._reasons.items()]

    def __iter__(self) -> Iterator[Batch]:
        """The batches from `start` on. RuntimeError where no item can be had, or a worker process dies."""
        for batch, replaced in self._loaded():
            self.replaced += len(replaced)
            self._reasons.update(replaced)
            yield batch

    def _loaded(self) -> Iterator[tuple[Batch, list[Skipped]]]:
        if self.workers == 0:
            for iteration in count(self.start):
                batch, replaced = self._batches[iteration]
                yield (batch if not self.pin_memory else _pinned(batch)), replaced
        options: dict[str, Any] = {"multiprocessing_context": start_method(), "prefetch_factor": PREFETCH}
        yield from DataLoader(
            self._batches,
            batch_size=None,
            sampler=_From(self.start),
            num_workers=self.workers,
            worker_init_fn=_begin_worker,
            pin_memory=self.pin_memory,
            **options,
        )


class _From(Sampler[int]):
    """The iterations from one on."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return count(self.start)


class _Batches(Dataset[tuple[Batch, list[Skipped]]]):
    """Iteration -> its batch, and what was replaced in it."""

    def __init__(self, source: Source, batch_size: int, seed: int, rank: int, world: int) -> None:
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.share = batch_size // world
        self.offset = rank * self.share
        self._order: tuple[int, np.ndarray] | None = None
        self._unusable: dict[int, Skipped] = {}

    def __getitem__(self, iteration: int) -> tuple[Batch, list[Skipped]]:
        first, n = iteration * self.batch_size + self.offset, len(self.source)
        parts: list[Batch] = []
        replaced: list[Skipped] = []
        position = first
        while position < first + self.share:  # an epoch may end within the batch
            epoch, start = divmod(position, n)
            stop = min(start + first + self.share - position, n)
            indices = [int(index) for index in self._permutation(epoch)[start:stop]]
            parts.append(self._usable(indices, epoch, replaced))
            position += stop - start
        return join(parts), replaced

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.source))
        return self._order[1]

    def _usable(self, indices: list[int], epoch: int, replaced: list[Skipped]) -> Batch:
        chosen = [self._replacement(index, replaced) for index in indices]
        while True:
            try:
                return self.source.batch(chosen, epoch)
            except UnusableItemError as error:
                self._unusable[error.index] = Skipped(error.name, error.reason)
                chosen = [self._replacement(index, replaced) if index == error.index else index for index in chosen]

    def _replacement(self, index: int, replaced: list[Skipped]) -> int:
        """The item itself, or the next that is not known to be unusable."""
        for step in range(len(self.source)):
            other = (index + step) % len(self.source)
            if other not in self._unusable:
                return other
            replaced.append(self._unusable[other])
        first = next(iter(self._unusable.values()))
        raise RuntimeError(
            f"none of the {len(self.source)} items of the source can be used; {first.name}: {first.reason}"
        )


def _begin_worker(_: int) -> None:
    become_worker()


def _pinned(batch: Batch) -> Batch:
    return Batch(*(None if field is None else cast(torch.Tensor, field).pin_memory() for field in batch))  # type: ignore[arg-type]
