"""What PyTorch3D's structures share: their layouts, and the topologies of packed faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from ... import Topology, _checks
from .._topologies import TopologyCache

# Training loops build their meshes anew at each step, from the same faces.
TOPOLOGIES = TopologyCache()


def as_list(op: str, name: str, value: Sequence[Tensor] | Tensor, width: int = 3) -> list[Tensor]:
    """A list of [*, width] tensors, from one or from a [*, *, width] tensor; -1 is any width."""
    if isinstance(value, Tensor):
        _checks.shape(op, name, value, (-1, -1, width))
        return list(value.unbind(0))
    if not isinstance(value, (list, tuple)):
        _checks.fail(TypeError, op, name, "a tensor or a list of tensors", type(value).__name__)
    for item in value:
        _checks.tensor(op, name, item)
        _checks.shape(op, name, item, (-1, width))
    return list(value)


def pad(items: list[Tensor], fill: float, empty: Tensor) -> Tensor:
    """[N, most, C] of items [*, C]; no items give the shape of `empty` [0, C]."""
    most = max((item.shape[0] for item in items), default=0)
    padded = [torch.cat([item, item.new_full((most - item.shape[0], item.shape[1]), fill)]) for item in items]
    return torch.stack(padded) if padded else empty.reshape(0, 0, empty.shape[1])


def starts(counts: Tensor) -> Tensor:
    return counts.cumsum(0) - counts


def chosen(op: str, index, count: int) -> list[int]:
    """The items that `index` names: an int, a slice, ints, or a tensor of ints or of `count` bools."""
    if isinstance(index, slice):
        return list(range(count))[index]
    if isinstance(index, Tensor) and index.dim() == 1 and not (index.is_floating_point() or index.is_complex()):
        if index.dtype == torch.bool:
            if len(index) != count:
                raise IndexError(f"{op}[]: expected a mask of {count} items, got {len(index)}")
            index = index.nonzero().flatten()
        index = index.tolist()
    elif not isinstance(index, (list, tuple)):
        index = [index]
    numbers = []
    for item in index:
        if isinstance(item, (bool, Tensor)) or not hasattr(item, "__index__"):
            what = f"tensor of {item.dtype}, shape {list(item.shape)}" if isinstance(item, Tensor) else repr(item)
            raise IndexError(f"{op}[]: expected an int, a slice, a list of ints or a 1-D tensor, got {what}")
        number = item.__index__()
        if not -count <= number < count:
            raise IndexError(f"{op}[]: expected an index in [{-count}, {count}), got {number}")
        numbers.append(number % count)
    return numbers


def corners(values: Tensor, faces: Tensor) -> Tensor:
    """values [V, C] at faces [F, 3]: [F, 3, C]."""
    return _rows(values, faces.reshape(-1)).view(-1, 3, values.shape[1])


def sums_at_vertices(values: Tensor, topology: Topology) -> Tensor:
    """values [F, C] summed over the faces of each vertex, in order: [V, C]."""
    at_corners = _rows(values, topology.corners.long() // 3)
    return torch.segment_reduce(at_corners, "sum", offsets=topology.offsets.long(), axis=0, initial=0.0, unsafe=True)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    if values.is_cuda:
        return values[index]
    # one-dimensional index_select: on the CPU its backward adds in order, that of indexing does not
    return torch.stack([column.index_select(0, index) for column in values.unbind(-1)], -1)


def positive_int(op: str, name: str, value, least: int = 1) -> int:
    if isinstance(value, (bool, Tensor)) or not hasattr(value, "__index__"):
        _checks.fail(TypeError, op, name, "an int", type(value).__name__)
    number = value.__index__()
    if number < least:
        _checks.fail(ValueError, op, name, f"> {least - 1}", str(number))
    return number


def refuse(owner: str, name: str, known: frozenset[str]) -> NoReturn:
    """AttributeError, which says more where upstream has the attribute."""
    if name in known:
        raise AttributeError(
            f"{owner}.{name} is PyTorch3D's and not part of this drop-in: use PyTorch3D's own {owner} for it"
        )
    raise AttributeError(f"'{owner}' object has no attribute '{name}'")
