"""Loop subdivision as sparse matrices: new vertices = matrix @ old vertices, for positions, bases and colours alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

Array = np.ndarray[Any, Any]


@dataclass
class Subdivision:
    """One step of Loop's scheme. The first V rows are the old vertices, then comes one vertex per edge.

    matrix [V+E, V] csr float64, rows sum to 1; faces [4F,3] int32; edges [E,2] int64, smaller vertex first.
    """

    matrix: sp.csr_matrix
    faces: Array
    edges: Array


def loop_subdivision(faces: Array, num_vertices: int) -> Subdivision:
    """C. Loop, Smooth Subdivision Surfaces Based on Triangles, 1987: one step for a triangle mesh with boundaries.

    faces [F,3] int with ids below num_vertices. An edge with two faces gets 3/8 of its ends and 1/8 of the two opposite
    vertices, every other edge its middle. An inner vertex of valence n takes b = (5/8 - (3/8 + cos(2 pi/n)/4)^2) / n of
    each neighbour and keeps 1 - n b; a boundary vertex keeps 3/4 and takes 1/8 of its two boundary neighbours; where
    more than two boundary edges meet it stays, as does a vertex without faces.
    """
    F, V = len(faces), num_vertices
    faces = faces.astype(np.int64)
    ends = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)  # [3F, 2], half edges
    opposite = faces[:, [2, 0, 1]].reshape(-1)  # [3F]
    low, high = ends.min(axis=1), ends.max(axis=1)
    _, first, inverse, count = np.unique(low * V + high, return_index=True, return_inverse=True, return_counts=True)
    by_appearance = np.argsort(first)  # edges are numbered in the order in which the faces name them
    E = len(first)
    rank = np.empty(E, np.int64)
    rank[by_appearance] = np.arange(E)
    edge_of = rank[inverse.reshape(-1)]  # [3F]
    edges = np.stack([low, high], axis=1)[first[by_appearance]]  # [E, 2]
    inner = count[by_appearance] == 2

    rows, columns, weights = [], [], []

    def add(row: Array, column: Array, weight: Array | float) -> None:
        rows.append(row)
        columns.append(column)
        weights.append(np.broadcast_to(weight, row.shape))

    edge_vertex = V + np.arange(E)
    for end in (0, 1):
        add(edge_vertex, edges[:, end], np.where(inner, 0.375, 0.5))
    across = inner[edge_of]
    add(V + edge_of[across], opposite[across], 0.125)

    vertex = np.arange(V)
    both = np.concatenate([edges, edges[:, ::-1]])  # [2E, 2], each edge from both ends
    boundary_edge = np.tile(~inner, 2)
    boundary_count = np.bincount(both[boundary_edge, 0], minlength=V)
    crease = boundary_count == 2
    smooth = boundary_count == 0
    valence = np.bincount(both[:, 0], minlength=V)
    n = np.maximum(valence, 1)
    b = np.where(valence > 0, (5 / 8 - (3 / 8 + np.cos(2 * np.pi / n) / 4) ** 2) / n, 0.0)
    add(vertex, vertex, np.where(crease, 0.75, np.where(smooth, 1 - valence * b, 1.0)))
    along = boundary_edge & crease[both[:, 0]]
    add(both[along, 0], both[along, 1], 0.125)
    around = smooth[both[:, 0]]
    add(both[around, 0], both[around, 1], b[both[around, 0]])

    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    matrix = sp.csr_matrix(entries, shape=(V + E, V))
    a, b_, c = faces.T
    ab, bc, ca = V + edge_of.reshape(F, 3).T
    quarters = [(a, ab, ca), (b_, bc, ab), (c, ca, bc), (ab, bc, ca)]
    new_faces = np.concatenate([np.stack(corner, axis=1) for corner in quarters]).astype(np.int32)
    return Subdivision(matrix, new_faces, edges)


def subdivide(values: Array, steps: Sequence[Subdivision], dtype: np.dtype[Any], out: Array | None = None) -> Array:
    """values [V,3] or [K,V,3] -> [V',3] or [K,V',3] in `dtype` (float32 or float64) after all `steps`.

    The result goes to `out` if given, and is `values` itself where there is nothing to do.
    """
    matrices = [step.matrix.astype(dtype) for step in steps]
    if out is None:
        if not matrices:
            return np.ascontiguousarray(values, dtype)
        out = np.empty((*values.shape[:-2], matrices[-1].shape[0], 3), dtype)
    # One component at a time: its three columns stay in the cache, and no transposed copy of the basis is made.
    for component, target in zip(values.reshape(-1, *values.shape[-2:]), out.reshape(-1, *out.shape[-2:]), strict=True):
        rows = component.astype(dtype, copy=False)
        for matrix in matrices:
            rows = matrix @ rows
        target[:] = rows
    return out


def subdivide_symmetry(symmetry: Array, step: Subdivision, positions: Array) -> Array:
    """The mirror vertex of every vertex after one step.

    symmetry [V] int, the mirror vertices before it; positions [V+E,3] after it, whose mirror is x = 0. An edge whose
    mirror image is no edge (quads cut along unlike diagonals) takes the vertex nearest to its own mirror image.
    """
    V, edges = len(symmetry), step.edges
    symmetry = symmetry.astype(np.int64)
    key = edges[:, 0] * V + edges[:, 1]
    mirrored = np.sort(symmetry[edges], axis=1)
    wanted = mirrored[:, 0] * V + mirrored[:, 1]
    order = np.argsort(key)
    found = order[np.minimum(np.searchsorted(key, wanted, sorter=order), len(key) - 1)]
    result = V + found
    lost = np.flatnonzero(key[found] != wanted)
    if len(lost):
        result[lost] = cKDTree(positions).query(positions[V + lost] * [-1, 1, 1])[1]
    return np.concatenate([symmetry, result])
