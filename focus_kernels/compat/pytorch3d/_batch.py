"""The list, packed and padded layouts of a batch of meshes."""

from __future__ import annotations

import torch
from torch import Tensor

from ._layouts import chosen, pad, starts


class MeshBatch:
    """Checked meshes and their layouts; see `Meshes`."""

    device: torch.device
    _dtype: torch.dtype
    _verts: list[Tensor]  # [V_i, 3] each
    _faces: list[Tensor]  # int64 [F_i, 3] each
    _verts_padded: Tensor | None = None  # as they were given
    _faces_padded: Tensor | None = None

    def __len__(self) -> int:
        return len(self._verts)

    @property
    def valid(self) -> Tensor:
        return torch.tensor([len(f) > 0 for f in self._faces], dtype=torch.bool, device=self.device)

    @property
    def equisized(self) -> bool:
        return len({(len(v), len(f)) for v, f in zip(self._verts, self._faces, strict=True)}) == 1

    def isempty(self) -> bool:
        """True when no mesh has a face."""
        return not any(len(f) for f in self._faces)

    def verts_list(self) -> list[Tensor]:
        """[V_i, 3] per mesh."""
        return list(self._verts)

    def faces_list(self) -> list[Tensor]:
        """int64 [F_i, 3] per mesh."""
        return list(self._faces)

    def get_mesh_verts_faces(self, index: int) -> tuple[Tensor, Tensor]:
        """[V_i, 3] and int64 [F_i, 3] of one mesh."""
        (number,) = chosen("Meshes.get_mesh_verts_faces", [index], len(self))
        return self._verts[number], self._faces[number]

    def verts_packed(self) -> Tensor:
        """[sum V, 3]."""
        return torch.cat([*self._verts, torch.empty((0, 3), dtype=self._dtype, device=self.device)])

    def faces_packed(self) -> Tensor:
        """int64 [sum F, 3], indices into ``verts_packed()``."""
        first = 0
        packed = [torch.empty((0, 3), dtype=torch.int64, device=self.device)]
        for v, f in zip(self._verts, self._faces, strict=True):
            packed.append(f + first)
            first += len(v)
        return torch.cat(packed)

    def verts_padded(self) -> Tensor:
        """[B, max V, 3], missing vertices 0."""
        if self._verts_padded is not None:
            return self._verts_padded
        return pad(self._verts, 0.0, torch.empty((0, 3), dtype=self._dtype, device=self.device))

    def faces_padded(self) -> Tensor:
        """int64 [B, max F, 3], missing faces -1."""
        if self._faces_padded is not None:
            return self._faces_padded
        return pad(self._faces, -1, torch.empty((0, 3), dtype=torch.int64, device=self.device))

    def num_verts_per_mesh(self) -> Tensor:
        """int64 [B]."""
        return torch.tensor([len(v) for v in self._verts], dtype=torch.int64, device=self.device)

    def num_faces_per_mesh(self) -> Tensor:
        """int64 [B]."""
        return torch.tensor([len(f) for f in self._faces], dtype=torch.int64, device=self.device)

    def mesh_to_verts_packed_first_idx(self) -> Tensor:
        """int64 [B], where each mesh starts in ``verts_packed()``."""
        return starts(self.num_verts_per_mesh())

    def mesh_to_faces_packed_first_idx(self) -> Tensor:
        """int64 [B], where each mesh starts in ``faces_packed()``."""
        return starts(self.num_faces_per_mesh())

    def verts_packed_to_mesh_idx(self) -> Tensor:
        """int64 [sum V], the mesh of each packed vertex."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.num_verts_per_mesh())

    def faces_packed_to_mesh_idx(self) -> Tensor:
        """int64 [sum F], the mesh of each packed face."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.num_faces_per_mesh())

    def verts_padded_to_packed_idx(self) -> Tensor:
        """int64 [sum V]: ``verts_padded().view(-1, 3)`` at these rows is ``verts_packed()``."""
        most = self.verts_padded().shape[1]
        rows = [torch.arange(len(v), device=self.device) + i * most for i, v in enumerate(self._verts)]
        return torch.cat([torch.zeros(0, dtype=torch.int64, device=self.device), *rows])
