"""The 68 iBUG landmarks as vertex numbers: given by the caller, in a file, or in FLAME's embedding."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from .common import Options
from .safe_pickle import read_npy, read_pickle, to_array

Array = np.ndarray[Any, Any]


def read_landmarks(faces: Array, num_vertices: int, options: Options) -> Array | None:
    """options.landmarks -> [68] int64 ids of the file's own (uncropped) vertices, or None if nothing was given.

    It may be 68 integers; a text or .npy file of them; or a landmark embedding for FLAME (.npy, .npz or .pkl): triangle
    numbers [68] with barycentric coordinates [68, 3], of which the vertex with the largest weight is taken.
    """
    given = options.landmarks
    if given is None:
        return None
    name = "landmarks"
    if isinstance(given, (str, os.PathLike)):
        name = f"landmarks in {given}"
        ids = _read_file(Path(given), faces, options)
    else:
        ids = np.asarray(given)
    if ids.size != 68 or ids.dtype.kind not in "iu":
        options.fail(f"{name} to be 68 integers", f"{ids.dtype} of shape {list(ids.shape)}")
    ids = ids.reshape(68).astype(np.int64)
    if ids.min() < 0 or ids.max() >= num_vertices:
        options.fail(f"{name} to be vertices in 0..{num_vertices - 1}", f"{ids.min()}..{ids.max()}")
    return ids


def _read_file(path: Path, faces: Array, options: Options) -> Array:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        value = read_npy(path, options.caller)
    elif suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            value = {key: file[key] for key in file.files if "lmk" in key}
    elif suffix == ".pkl":
        value = read_pickle(path.read_bytes(), path, options.caller)
    else:
        try:
            return np.array([int(word) for word in path.read_text().replace(",", " ").split()])
        except ValueError as error:
            options.fail(f"landmarks in {path} to be integers between spaces or commas", error)
    if isinstance(value, dict):
        return _from_embedding(value, path, faces, options)
    ids = to_array(value)
    return ids if ids is not None else options.fail(f"landmarks in {path} to be integers", type(value).__name__)


def _from_embedding(value: dict[Any, Any], path: Path, faces: Array, options: Options) -> Array:
    def get(*names: str) -> Array | None:
        return next((to_array(value[name]) for name in names if name in value), None)

    triangles = get("full_lmk_faces_idx", "lmk_faces_idx", "lmk_face_idx", "static_lmk_faces_idx")
    weights = get("full_lmk_bary_coords", "lmk_bary_coords", "lmk_b_coords", "static_lmk_bary_coords")
    if triangles is None or weights is None or triangles.dtype.kind not in "iu":
        options.fail(
            f"{path} to be a landmark embedding with full_lmk_faces_idx and full_lmk_bary_coords",
            f"the keys {', '.join(sorted(map(str, value)))}",
        )
    if triangles.size == 51:
        # The jaw of the frontal view is the first row of the table over head turns.
        jaw, jaw_weights = get("dynamic_lmk_faces_idx"), get("dynamic_lmk_bary_coords")
        if jaw is None or jaw_weights is None or jaw.shape[1:] != (17,) or jaw_weights.shape[1:] != (17, 3):
            options.fail(f"{path} to hold 68 landmarks", "51 without a jaw (dynamic_lmk_* arrays of shape [*, 17])")
        triangles = np.concatenate([jaw[0], triangles.reshape(-1)])
        weights = np.concatenate([jaw_weights[0], weights.reshape(-1, 3)])
    if triangles.size != 68 or weights.size != 68 * 3:
        options.fail(f"{path} to hold 68 landmarks", f"{triangles.size} triangles and {weights.size} weights")
    triangles = triangles.reshape(68)
    if triangles.min() < 0 or triangles.max() >= len(faces):
        options.fail(f"{path} to name triangles in 0..{len(faces) - 1}", f"{triangles.min()}..{triangles.max()}")
    return faces[triangles, weights.reshape(68, 3).argmax(axis=1)]
