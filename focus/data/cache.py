"""Memory that a source and the worker processes copied from it fill together, each item once."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from ..processes import context

ABSENT = 0


class SharedCache:
    """Arrays of bytes by number, in memory that forked processes share; what no longer fits is not kept.

    Where processes begin afresh (not on Linux), each has its own.

    Args:
        count: numbers go from 0 to count - 1.
        capacity: bytes in all; taken from the system only as they are filled. 0 keeps nothing.
    """

    def __init__(self, count: int, capacity: int) -> None:
        self.count, self.capacity = count, max(capacity, 0)
        self._memory: mmap.mmap | None = None
        if self.count and self.capacity:
            # Anonymous, so that a small /dev/shm does not limit it: begin and length of each item, what is taken, data.
            self._memory = mmap.mmap(-1, 16 * count + 8 + self.capacity)
            numbers = np.frombuffer(self._memory, np.int64, 2 * count + 1)
            self._begin, self._length, self._taken = numbers[:count], numbers[count:-1], numbers[-1:]
            self._data = np.frombuffer(self._memory, np.uint8, offset=16 * count + 8)
            self._lock = context().Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedCache, (self.count, self.capacity)

    @property
    def kept(self) -> int:
        """How many items are there."""
        return 0 if self._memory is None else int((self._length > ABSENT).sum())

    def get(self, index: int) -> np.ndarray | None:
        """The bytes of an item, uint8, not to be written to; None where it is not there."""
        if self._memory is None:
            return None
        with self._lock:  # also so that what another process wrote is seen in order
            begin, length = int(self._begin[index]), int(self._length[index])
        return None if length == ABSENT else self._data[begin : begin + length]

    def put(self, index: int, data: np.ndarray) -> None:
        """Keeps the bytes of an item, uint8 [N], N > 0, if there is room and it is not there yet."""
        if self._memory is None:
            return
        with self._lock:
            begin = int(self._taken[0])
            if self._length[index] != ABSENT or begin + len(data) > self.capacity:
                return
            self._taken[0] = begin + len(data)
        self._data[begin : begin + len(data)] = data
        with self._lock:  # only now can others read it; another may have come first, and wrote the same
            self._begin[index], self._length[index] = begin, len(data)
