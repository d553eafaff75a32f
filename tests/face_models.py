"""Meshes and face model arrays that the face model tests share. Nothing here is random without a seed."""

import numpy as np
import scipy.sparse
import torch

from focus import FaceModel
from focus.face_model.subdivision import loop_subdivision

METADATA = {"name": "sheet", "license": "CC0-1.0", "source": "made here", "subdivision": "loop", "albedo_level": "1"}


def grid(rows: int, columns: int, mirrored: bool = True):
    """A sheet that bulges to +z: vertices [rows*columns, 3] mm and outward faces; its mirror plane is x = 0."""
    i, j = np.divmod(np.arange(rows * columns), columns)
    x, y = 10.0 * (j - (columns - 1) / 2), 10.0 * ((rows - 1) / 2 - i)
    vertices = np.stack([x, y, -0.01 * (x**2 + y**2)], axis=1)
    faces = []
    for r in range(rows - 1):
        for c in range(columns - 1):
            a, b, d, e = r * columns + c, r * columns + c + 1, (r + 1) * columns + c, (r + 1) * columns + c + 1
            # Diagonals that run alike on both sides are no mirror images of each other.
            slash = not mirrored or c < (columns - 1) / 2
            faces += [(a, d, b), (b, d, e)] if slash else [(a, d, e), (a, e, b)]
    return vertices, np.array(faces, np.int32)


def model_arrays(seed: int = 0, rows: int = 9, columns: int = 9):
    """The arrays of a file with levels: float16 bases at level 0, albedo at level 1."""
    rng = np.random.default_rng(seed)
    vertices, faces = grid(rows, columns)
    V0 = len(vertices)
    V1 = loop_subdivision(faces, V0).matrix.shape[0]
    return {
        "faces": faces,
        "mean_shape": vertices.astype(np.float32),
        "identity_basis": rng.normal(size=(4, V0, 3)).astype(np.float16),
        "expression_basis": rng.normal(size=(3, V0, 3)).astype(np.float16),
        "mean_albedo": rng.uniform(size=(V1, 3)).astype(np.float16),
        "albedo_basis": rng.normal(size=(2, V1, 3)).astype(np.float16),
        "landmarks": rng.integers(0, V0, (3, 68)).astype(np.int32),
        "symmetry": np.arange(V0).reshape(rows, columns)[:, ::-1].reshape(-1).astype(np.int32),
    }


def dome(num_vertices: int, columns: int, size: float):
    """A smooth cap around +z, `size` mm wide: vertices [V, 3] float64 in rows, and faces that look outward."""
    i, j = np.divmod(np.arange(num_vertices), columns)
    rows = num_vertices // columns
    x, y = size * (j / (columns - 1) - 0.5), size * (0.5 - i / max(rows - 1, 1))
    vertices = np.stack([x, y, 100 - (x**2 + y**2) / (2 * size)], axis=1)
    a = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    faces = np.concatenate([np.stack([a, a + columns, a + 1], 1), np.stack([a + 1, a + columns, a + columns + 1], 1)])
    return vertices, faces


def outward(model: FaceModel) -> bool:
    corners = model.mean_shape[model.topology.faces.long()]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return bool(((corners.mean(1) - model.mean_shape.mean(0)) * normals).sum() > 0)


def flame_arrays(seed=0):
    """The contents of generic_model.pkl, in metres."""
    rng = np.random.default_rng(seed)
    vertices, faces = dome(132, 12, 160)
    return {
        "v_template": vertices / 1000,
        "f": faces.astype(np.uint32),
        "shapedirs": rng.normal(size=(132, 3, 400)),
        "posedirs": rng.normal(size=(132, 3, 36)),
        "J_regressor": scipy.sparse.csc_matrix(np.eye(5, 132)),
        "kintree_table": np.zeros((2, 5), np.int64),
        "weights": rng.uniform(size=(132, 5)),
        "bs_type": "lrotmin",
        "bs_style": "lbs",
    }


def loop_by_the_book(faces, V):
    """Loop's rules, one vertex and one edge at a time: (weights [V+E, V], faces)."""
    edge_number, opposite = {}, {}
    for a, b, c in faces.tolist():
        for u, v, o in ((a, b, c), (b, c, a), (c, a, b)):
            edge = (min(u, v), max(u, v))
            edge_number.setdefault(edge, len(edge_number))
            opposite.setdefault(edge, []).append(o)
    neighbours = {v: set() for v in range(V)}
    creases = {v: [] for v in range(V)}
    weights = np.zeros((V + len(edge_number), V))
    for (u, v), number in edge_number.items():
        neighbours[u].add(v)
        neighbours[v].add(u)
        row = weights[V + number]
        if len(opposite[u, v]) == 2:
            row[u] += 3 / 8
            row[v] += 3 / 8
            for o in opposite[u, v]:
                row[o] += 1 / 8
        else:
            row[u] += 1 / 2
            row[v] += 1 / 2
            creases[u].append(v)
            creases[v].append(u)
    for v in range(V):
        n = len(neighbours[v])
        if len(creases[v]) == 2:
            weights[v, v] = 3 / 4
            weights[v, creases[v]] = 1 / 8
        elif creases[v] or n == 0:
            weights[v, v] = 1
        else:
            beta = (5 / 8 - (3 / 8 + np.cos(2 * np.pi / n) / 4) ** 2) / n
            weights[v, v] = 1 - n * beta
            weights[v, list(neighbours[v])] = beta
    new = [[], [], [], []]
    for a, b, c in faces.tolist():
        ab, bc, ca = (V + edge_number[min(e), max(e)] for e in ((a, b), (b, c), (c, a)))
        for block, face in zip(new, ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)), strict=True):
            block.append(face)
    return weights, np.concatenate(new)
