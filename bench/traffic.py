"""Bytes: those that a call moves between its ops, the fewest that it could move, and how fast this machine copies."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import median

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .clock import CLOCK

COPIED = {"cpu": 1 << 28, "cuda": 1 << 30}  # bytes; more than any cache
UNWRITTEN = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")


@dataclass(frozen=True)
class Bytes:
    """`moved`: what the ops of a call take and give, each by itself. `least`: the call's inputs and results, once."""

    moved: int
    least: int


@dataclass
class _Seen(TorchDispatchMode):
    """Follows the ops of a call, ours and torch's, by the memory that they take and give."""

    moved: int = 0
    made: set[int] = field(default_factory=set)  # storages that the call itself has written
    given: dict[int, int] = field(default_factory=dict)  # storages that it has read and did not make: their bytes
    alive: list[torch.Tensor] = field(default_factory=list)  # so that no address is used twice

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        taken, gives = dict(_tensors((args, kwargs))), dict(_tensors(out))
        self.alive += [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        if func.overloadpacket.__name__ in UNWRITTEN:
            return out
        if gives.keys() <= taken.keys() and not func._schema.is_mutable:  # a view: nothing moves
            return out
        self.moved += sum(taken.values()) + sum(gives.values())
        for storage, size in taken.items():
            if storage not in self.made:
                self.given[storage] = max(size, self.given.get(storage, 0))
        self.made |= gives.keys() - self.given.keys()
        return out


def of(call: Callable[[], object]) -> Bytes:
    """Runs the call once. What a kernel reads twice within itself is not seen."""
    with _Seen() as seen:
        out = call()
    results = {storage: size for storage, size in _tensors(out) if storage in seen.made}
    return Bytes(seen.moved, sum(seen.given.values()) + sum(results.values()))


def _tensors(values: object) -> Iterator[tuple[int, int]]:
    """Storage and bytes of each tensor; of an expanded one no more than it has."""
    for x in tree_leaves(values):
        if isinstance(x, torch.Tensor) and x.numel():
            own = math.prod(size for size, stride in zip(x.shape, x.stride(), strict=True) if stride)
            yield x.untyped_storage().data_ptr(), own * x.element_size()


@lru_cache
def bandwidth(device: str, threads: int) -> float:
    """Bytes per second, read and written, of a large copy in as many threads."""
    before, kind = torch.get_num_threads(), CLOCK.kind
    torch.set_num_threads(threads)
    CLOCK.choose(device, threads)
    source, target = (torch.zeros(COPIED[device], dtype=torch.uint8, device=device) for _ in range(2))
    target.copy_(source)
    seconds = median(CLOCK.time(lambda: target.copy_(source)) for _ in range(7))
    torch.set_num_threads(before)
    CLOCK.kind = kind
    return 2 * COPIED[device] / seconds
