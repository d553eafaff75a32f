"""Face tensors, as upstream programs pass them at every call -> `Topology`, made once for each."""

from __future__ import annotations

import operator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import Topology, _checks
from ..topology import _INTEGERS


class _Known(NamedTuple):
    topology: Topology
    faces: Tensor | None  # it was made from; held, so that no other tensor can have its address
    version: int | None  # of `faces` then


class TopologyCache:
    """The topologies of the last few face tensors.

    A tensor is known again by its memory and its version counter, so an edit in place makes a new topology; one with
    other memory is known by its contents. An edit that torch does not count (through NumPy, or `.data`) is seen only
    with `counted=False`.

    Threads may share one: each look-up replaces the tuple of what is known, so at worst a topology is made twice.
    Copies and pickles are empty caches.

    Args:
        most: how many to keep, at least 1.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._known: tuple[_Known, ...] = ()  # the newest first, each topology once

    def __reduce__(self) -> tuple:
        return TopologyCache, (self._most,)

    def look_up(self, faces: Tensor, num_vertices: int, *, counted: bool = True) -> Topology:
        """The topology of `faces` [F, 3], any integer dtype, on their device; errors are `Topology`'s.

        Args:
            faces, num_vertices: as `Topology` takes them.
            counted: torch counts the edits of `faces`; else the contents are compared at each call.
        """
        if isinstance(faces, Tensor):
            _checks.tensor("Topology", "faces", faces)
        if not isinstance(faces, Tensor) or faces.dtype not in _INTEGERS or not _is_count(num_vertices):
            return Topology(faces, num_vertices)  # says what is wrong
        num_vertices = operator.index(num_vertices)
        counted = counted and not faces.is_inference()  # inference tensors have no version counter
        known = self._by_memory(faces, num_vertices) if counted else None
        if known is None:
            topology = self._by_contents(faces, num_vertices) or Topology(faces, num_vertices)
            known = _Known(topology, *((faces, faces._version) if counted else (None, None)))
        others = tuple(other for other in self._known if other.topology is not known.topology)
        self._known = (known, *others[: self._most - 1])
        return known.topology

    def _by_memory(self, faces: Tensor, num_vertices: int) -> _Known | None:
        for known in self._known:
            held = known.faces
            if held is None or known.topology.num_vertices != num_vertices or not _same_memory(held, faces):
                continue
            # two tensors on one memory may count apart, so neither may have moved on
            if held._version == known.version == faces._version:
                return known
        return None

    def _by_contents(self, faces: Tensor, num_vertices: int) -> Topology | None:
        for topology, *_ in self._known:
            same = topology.num_vertices == num_vertices and topology.device == faces.device
            if same and topology.faces.shape == faces.shape and _equal(faces, topology.faces):
                return topology
        return None


def _is_count(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, (bool, Tensor))


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return (
        a.data_ptr() == b.data_ptr()
        and a.shape == b.shape
        and a.stride() == b.stride()
        and a.dtype == b.dtype
        and a.device == b.device
    )


def _equal(faces: Tensor, known: Tensor) -> bool:
    """`known` is int32; wider numbers are not narrowed, which could make them equal."""
    if faces.dtype != torch.int32:
        faces, known = faces.long(), known.long()
    if faces.device.type == "cpu":  # NumPy compares fastest there
        return np.array_equal(faces.numpy(), known.numpy())
    return torch.equal(faces, known)
