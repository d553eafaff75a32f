"""The faces of a mesh, checked once, with the table from vertices to faces that deterministic gradients need."""

from __future__ import annotations

import torch
from torch import Tensor

_INT32_MAX = 2**31 - 1
_INTEGERS = (torch.int32, torch.int64, torch.int16, torch.int8, torch.uint8)


class Topology:
    """Faces of a triangle mesh, validated when it is made.

    Args:
        faces: vertex numbers [F, 3], any integer dtype, each in [0, num_vertices). A face may repeat a vertex (it
            covers nothing) and F may be 0. Front faces are counter-clockwise to the viewer.
        num_vertices: V.

    Attributes:
        faces: [F, 3] int32, a copy of its own.
        offsets: [V + 1] int32. The corners at vertex v are corners[offsets[v]:offsets[v + 1]].
        corners: [3F] int32, corner numbers 3 * face + k, ascending for each vertex.
        opposite: [3F] int32. The edge opposite a corner, shared by exactly two faces that run through it in opposite
            directions, is opposite this corner of the other face; any other edge has -1. Made where it is first read,
            which copies and moves do again.
        num_vertices, num_faces: V and F.
        device: where the tensors lie; `.to(device)` copies them.

    The tensors are read-only: nothing checks them again. Making a Topology reads the faces on the host once; make it
    outside compiled or captured code.

    Raises:
        TypeError: faces is no integer tensor, or num_vertices no int.
        ValueError: faces is not [F, 3], a vertex number is out of range, or 3F or V does not fit int32.
    """

    def __init__(self, faces: Tensor, num_vertices: int):
        if not isinstance(faces, Tensor):
            raise TypeError(f"Topology(): expected faces to be a torch.Tensor, got {type(faces).__name__}")
        if faces.dtype not in _INTEGERS:
            raise TypeError(
                f"Topology(): expected faces to be an integer tensor, got {str(faces.dtype).removeprefix('torch.')}"
            )
        if isinstance(num_vertices, (bool, Tensor)) or not hasattr(num_vertices, "__index__"):
            raise TypeError(f"Topology(): expected num_vertices to be an int, got {type(num_vertices).__name__}")
        num_vertices = num_vertices.__index__()  # NumPy's integers as well
        if faces.dim() != 2 or faces.shape[1] != 3:
            raise ValueError(f"Topology(): expected faces to be shape [*, 3], got {list(faces.shape)}")
        if not 0 <= num_vertices <= _INT32_MAX:
            raise ValueError(f"Topology(): expected num_vertices to be in [0, {_INT32_MAX}], got {num_vertices}")
        if faces.numel() > _INT32_MAX:
            raise ValueError(f"Topology(): expected faces to be at most {_INT32_MAX // 3} rows, got {faces.shape[0]}")
        if faces.numel():
            low, high = (int(bound) for bound in torch.aminmax(faces))
            if low < 0 or high >= num_vertices:
                bad = low if low < 0 else high
                raise ValueError(f"Topology(): expected faces to be in [0, {num_vertices}), got {bad}")
        with torch.inference_mode(False):  # made while evaluating, it must serve training later
            flat = faces.detach().clone().long().reshape(-1)
            counts = torch.bincount(flat, minlength=num_vertices)  # [V]
            self.faces = faces.detach().to(torch.int32, copy=True, memory_format=torch.contiguous_format)
            self.offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
            self.corners = torch.sort(flat, stable=True).indices.int()
        self._opposite: Tensor | None = None
        self.num_vertices = num_vertices
        self.num_faces = faces.shape[0]

    @property
    def device(self) -> torch.device:
        return self.faces.device

    @property
    def opposite(self) -> Tensor:
        if self._opposite is not None:
            return self._opposite
        with torch.inference_mode(False):
            opposite = _opposite(self.faces.long(), self.num_vertices)
        if type(opposite) is Tensor:  # one of FakeTensorMode would outlive it
            self._opposite = opposite
        return opposite

    def to(self, device: torch.device | str | int) -> Topology:
        """The same topology on another device; itself when it is there already."""
        with torch.inference_mode(False):
            faces = self.faces.to(device)
            if faces is self.faces:
                return self
            moved = object.__new__(Topology)
            moved.faces = faces
            moved.offsets = self.offsets.to(device)
            moved.corners = self.corners.to(device)
        moved._opposite = None
        moved.num_vertices = self.num_vertices
        moved.num_faces = self.num_faces
        return moved

    def __repr__(self) -> str:
        return f"Topology(num_faces={self.num_faces}, num_vertices={self.num_vertices}, device='{self.device}')"


def _opposite(faces: Tensor, num_vertices: int) -> Tensor:
    """The corner across each edge, [3F] int32: equal edges are next to each other when sorted."""
    start, end = faces.roll(-1, 1).reshape(-1), faces.roll(-2, 1).reshape(-1)  # [3F]
    edge, corner = torch.sort(torch.minimum(start, end) * num_vertices + torch.maximum(start, end))
    none = edge.new_full((1,), -1)
    before, after = torch.cat([none, edge[:-1]]), torch.cat([edge[1:], none])
    # The first of exactly two, which run in opposite directions.
    first = (edge == after) & (edge != before) & (edge != torch.cat([after[1:], none]))
    first &= (start[corner] == end[corner.roll(-1)]) & (start[corner] != end[corner])
    second = torch.cat([first[-1:], first[:-1]])
    opposite = torch.where(first, corner.roll(-1), torch.where(second, corner.roll(1), -1))
    return torch.empty_like(corner).scatter(0, corner, opposite).int()
