"""Distances of points to the surface of a triangle mesh, by libigl's bounding volume hierarchy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Mesh(NamedTuple):
    """A triangle mesh.

    Attributes:
        vertices: [V, 3] float64. faces: [F, 3] int64, from 0.
    """

    vertices: Array
    faces: Array


class Nearest(NamedTuple):
    """The nearest points of a surface.

    Attributes:
        distance: [N] float64. point: [N, 3] float64, on the surface. face: [N] int64, the triangle it lies in.
    """

    distance: Array
    point: Array
    face: Array


def _igl() -> Any:
    try:
        import igl
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'distances to meshes need libigl; pip install "focus-kernels[now]"', name=error.name
        ) from error
    return igl


class Surface:
    """The triangles of a mesh, sorted for the search. Exact; degenerate triangles count as the segment that they are.

    Args:
        vertices: [V, 3], finite.
        faces: [F, 3] integers from 0, F > 0.

    Raises:
        TypeError, ValueError: wrong shapes or types, numbers that are not finite, indices out of range.
        ModuleNotFoundError: libigl is not installed.
    """

    def __init__(self, vertices: Array, faces: Array) -> None:
        self.vertices, self.faces = check_mesh("Surface", vertices, faces)
        # Columns first: what libigl works in, so that it need not copy the mesh at every search.
        self._arrays = (np.asfortranarray(self.vertices), np.asfortranarray(self.faces))
        self._tree = _igl().AABB()
        self._tree.init(*self._arrays)

    def nearest(self, points: Array) -> Nearest:
        """The point of the surface that is nearest to each of points [N, 3].

        Raises:
            ValueError: a wrong shape, or numbers that are not finite.
        """
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"Surface.nearest(): expected points to be shape [N, 3], got {list(points.shape)}")
        if not np.isfinite(points).all():
            raise ValueError("Surface.nearest(): expected points to be finite")
        if len(points) == 0:
            return Nearest(np.empty(0), np.empty((0, 3)), np.empty(0, np.int64))
        squared, face, nearest = self._tree.squared_distance(*self._arrays, np.asfortranarray(points))
        return Nearest(np.sqrt(squared), np.ascontiguousarray(nearest), face)

    def normals(self, faces: Array) -> Array:
        """Unit normals [N, 3] of triangles [N]; zero for those without area."""
        a, b, c = (self.vertices[self.faces[faces, corner]] for corner in range(3))
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        return np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)


def check_mesh(function: str, vertices: Array, faces: Array) -> Mesh:
    """The mesh as float64 and int64; TypeError or ValueError where it is none."""
    vertices, faces = np.asarray(vertices), np.asarray(faces)
    for name, array in (("vertices", vertices), ("faces", faces)):
        if array.ndim != 2 or array.shape[1] != 3 or len(array) == 0:
            raise ValueError(f"{function}(): expected {name} to be shape [N, 3] with N > 0, got {list(array.shape)}")
    if not np.issubdtype(faces.dtype, np.integer):
        raise TypeError(f"{function}(): expected faces to be integers, got {faces.dtype}")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError(
            f"{function}(): expected faces to be in 0..{len(vertices) - 1}, got {faces.min()}..{faces.max()}"
        )
    vertices = vertices.astype(np.float64)
    if not np.isfinite(vertices).all():
        raise ValueError(f"{function}(): expected vertices to be finite")
    return Mesh(vertices, faces.astype(np.int64))
