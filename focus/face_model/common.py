"""What the loaders share: options, winding, the place of the origin, plain skin, and messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

Array = np.ndarray[Any, Any]

# A medium skin tone, for models without colour.
SKIN = (0.45, 0.33, 0.27)

# Mean of the four eye corners in FOCUS's frame: BFM 2017's own landmarks (+-41.65, 32.80, 88.02) and (+-20.83, 32.72,
# 92.38) mm, moved by FOCUS's (0, 0, -100).
EYES = (0.0, 32.76, -9.8)
EYE_CORNERS = [36, 39, 42, 45]


@dataclass(frozen=True)
class Options:
    """The keyword arguments of FaceModel.load, and the names that its messages use."""

    level: int
    crop: bool
    landmarks: Any
    components: tuple[int, int, int] | None
    dtype: np.dtype[Any]
    caller: str = "FaceModel.load()"

    def count(self, kind: int, available: int) -> int:
        """Components to keep of `available`; kind 0 identity, 1 expression, 2 albedo."""
        return available if self.components is None else min(self.components[kind], available)

    def fail(self, what: str, got: object) -> NoReturn:
        raise ValueError(f"{self.caller}: expected {what}, got {got}")


def outward(faces: Array, positions: Array) -> Array:
    """The faces, all turned over if the surface looks inward: front faces are counter-clockwise seen from outside."""
    corners = positions[faces].astype(np.float64)  # [F, 3, 3]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flux = ((corners.mean(axis=1) - positions.mean(axis=0)) * normals).sum()
    return np.ascontiguousarray(faces[:, ::-1] if flux < 0 else faces, np.int32)


def at_eyes(positions: Array, landmarks: Array | None) -> Array:
    """The positions moved so that the eye corners lie where FOCUS's model has them; unmoved without landmarks."""
    if landmarks is None:
        return positions
    return positions + (np.array(EYES) - positions[landmarks[EYE_CORNERS]].mean(axis=0))


def plain_albedo(num_vertices: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """(mean_albedo [V,3], albedo_basis [0,V,3]) of one skin colour."""
    return np.tile(np.asarray(SKIN, dtype), (num_vertices, 1)), np.zeros((0, num_vertices, 3), dtype)


def keep_vertices(faces: Array, keep: Array) -> tuple[Array, Array]:
    """(ids of the vertices that stay, faces between them): faces of three kept vertices, no vertex without a face."""
    inside = faces[keep[faces].all(axis=1)]
    ids = np.unique(inside)
    new = np.full(len(keep), -1, np.int64)
    new[ids] = np.arange(len(ids))
    return ids, new[inside]
