"""Results in the layout that the NoW benchmark evaluates: a plain neutral mesh and seven landmarks for each photo."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from focus.atomic import write_atomic

# iBUG numbers, in the benchmark's order: outer and inner corner of the right eye, inner and outer of the left, bottom
# of the nose, right and left corner of the mouth.
LANDMARKS = (36, 39, 42, 45, 33, 48, 54)
SMALLEST_AREA = 1e-8  # mm^2; the benchmark's search tree takes hours on triangles without area


def now_path(photo: str | os.PathLike[str]) -> Path:
    """Where the benchmark looks for a photo's mesh, inside the results: subject/challenge/name.obj.

    Raises:
        ValueError: the photo does not lie in two folders.
    """
    parts = Path(photo).absolute().parts
    if len(parts) < 4:
        raise ValueError(f"now_path(): expected photo to lie in folders as subject/challenge/photo.jpg, got {photo}")
    return Path(parts[-3], parts[-2], Path(parts[-1]).stem + ".obj")


def write_now(path: str | os.PathLike[str], vertices: np.ndarray, faces: np.ndarray, landmarks: np.ndarray) -> int:
    """Write `path` (.obj) with plain `v` and `f` lines, in mm, and beside it `.npy` with its seven landmarks.

    No colours, normals or comments: the benchmark's reader fails on them. Folders are made.

    Args:
        vertices: [V, 3] mm, the whole mesh, neutral.
        faces: [F, 3] vertex numbers from 0. Triangles without area are left out.
        landmarks: [68] vertex numbers of the iBUG landmarks.

    Returns:
        How many triangles were left out.

    Raises:
        ValueError: a wrong shape, or vertices that are not finite.
    """
    path = Path(path)
    for name, array, shape in (
        ("vertices", vertices, (None, 3)),
        ("faces", faces, (None, 3)),
        ("landmarks", landmarks, (68,)),
    ):
        if array.ndim != len(shape) or any(w not in (None, g) for w, g in zip(shape, array.shape, strict=True)):
            wanted = ", ".join("*" if n is None else str(n) for n in shape)
            raise ValueError(f"write_now(): expected {name} to be shape [{wanted}], got {list(array.shape)}")
    points = np.asarray(vertices, np.float64)
    if not np.isfinite(points).all():
        raise ValueError("write_now(): expected vertices to be finite")
    a, b, c = (points[faces[:, i]] for i in range(3))
    kept = faces[np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2 > SMALLEST_AREA]
    text = ("v %.6f %.6f %.6f\n" * len(points)) % tuple(points.reshape(-1).tolist())
    text += ("f %d %d %d\n" * len(kept)) % tuple((kept + 1).reshape(-1).tolist())
    buffer = io.BytesIO()
    np.save(buffer, points[landmarks[list(LANDMARKS)]], allow_pickle=False)  # float64 [7, 3]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    write_atomic(path.with_suffix(".npy"), buffer.getvalue())
    return len(faces) - len(kept)
