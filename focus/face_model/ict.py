"""ICT-FaceKit Light: the upstream folder of OBJ files, or the same arrays in one .npz. Centimetres, geometry only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .common import Array, Options, at_eyes, keep_vertices, outward, plain_albedo
from .format import ModelArrays
from .landmark_ids import read_landmarks

NEUTRAL = "generic_neutral_mesh.obj"
KEYS = ("mean", "faces_full", "identity", "expression", "landmarks68")
_MM_PER_UNIT = 10.0
# Upstream's README: these vertices come first in every mesh; teeth, eyeballs and the like follow.
_FULL_FACE, _NARROW_FACE = 9409, 6706


def load_ict_folder(folder: Path, options: Options) -> ModelArrays:
    """Reads generic_neutral_mesh.obj, identityNNN.obj, the expressions of vertex_indices.json, and its landmarks."""
    index = folder / "vertex_indices.json"
    try:
        config = json.loads(index.read_text())
        names, landmarks = list(config["expressions"]), np.asarray(config["idx_to_landmark_verts"])
    except (ValueError, KeyError, TypeError) as error:
        options.fail(f"{index} to be JSON with 'expressions' and 'idx_to_landmark_verts'", repr(error))
    if bad := [name for name in names if not isinstance(name, str) or name != Path(name).name]:
        options.fail(f"expressions in {index} to be file names", repr(bad[0]))
    mean = _vertices(folder / NEUTRAL, _FULL_FACE, options)
    faces = _faces(folder / NEUTRAL, len(mean), options)
    identities: list[Path] = []
    while (path := folder / f"identity{len(identities):03d}.obj").exists():
        identities.append(path)
    if not identities:
        options.fail(f"{folder} to hold identity000.obj and its followers", "none")
    identities = identities[: options.count(0, len(identities))]
    expressions = [folder / f"{name}.obj" for name in names[: options.count(1, len(names))]]

    shape_basis = np.empty((len(identities) + len(expressions), len(mean), 3), options.dtype)
    for out, path in zip(shape_basis, identities + expressions, strict=True):
        vertices = _vertices(path, len(mean), options)
        if len(vertices) != len(mean):
            options.fail(f"{path} to have the {len(mean)} vertices of {NEUTRAL}", len(vertices))
        out[:] = vertices - mean
    return _model(mean, faces, shape_basis, len(identities), landmarks, folder, options)


def load_ict_npz(data: Mapping[str, Any], path: Path, options: Options) -> ModelArrays:
    """data: mean [V,3], faces_full [F,3], identity and expression [K,V,3] as differences from it, landmarks68."""
    mean = np.asarray(data["mean"], np.float64)
    if mean.ndim != 2 or mean.shape[1] != 3:
        options.fail(f"mean in {path} to be [*, 3]", list(mean.shape))
    bases = []
    for kind, key in enumerate(("identity", "expression")):
        basis = data[key]
        if basis.ndim != 3 or basis.shape[1:] != mean.shape or basis.dtype.kind != "f":
            options.fail(f"{key} in {path} to be floats [*, {len(mean)}, 3]", f"{basis.dtype} {list(basis.shape)}")
        bases.append(basis[: options.count(kind, len(basis))].astype(options.dtype))
    faces, landmarks = data["faces_full"], data["landmarks68"]
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        options.fail(f"faces_full in {path} to be integers [*, 3]", f"{faces.dtype} {list(faces.shape)}")
    return _model(mean, faces.astype(np.int64), np.concatenate(bases), len(bases[0]), landmarks, path, options)


def _model(
    mean: Array, faces: Array, shape_basis: Array, num_identity: int, landmarks: Array, path: Path, options: Options
) -> ModelArrays:
    V = len(mean)
    if faces.size and (faces.min() < 0 or faces.max() >= V):
        options.fail(f"faces of {path} to be in 0..{V - 1}", f"{faces.min()}..{faces.max()}")
    given = read_landmarks(faces, V, options)
    landmarks = landmarks if given is None else given
    if landmarks.shape != (68,) or landmarks.dtype.kind not in "iu" or landmarks.min() < 0 or landmarks.max() >= V:
        options.fail(f"landmarks of {path} to be 68 vertices in 0..{V - 1}", f"shape {list(landmarks.shape)}")
    landmarks = landmarks.astype(np.int64)
    if options.crop and landmarks.max() >= _NARROW_FACE:
        # The first releases numbered the vertices otherwise.
        options.fail(
            f"landmarks of {path} to be in the narrow face area, vertices below {_NARROW_FACE} since December 2020",
            f"vertex {landmarks.max()} (crop=False keeps the full face area)",
        )
    keep = np.arange(V) < (_NARROW_FACE if options.crop else V)
    ids, faces = keep_vertices(faces, keep)
    place = np.searchsorted(ids, landmarks)
    if len(ids) == 0 or not np.array_equal(ids[np.minimum(place, len(ids) - 1)], landmarks):
        options.fail(f"landmarks of {path} to lie on its faces", "some that no face uses")
    positions = at_eyes(mean[ids] * _MM_PER_UNIT, place)
    shape_basis = shape_basis[:, ids]
    shape_basis *= _MM_PER_UNIT
    mean_albedo, albedo_basis = plain_albedo(len(ids), options.dtype)
    return ModelArrays(
        faces=outward(faces, positions),
        mean_shape=positions.astype(options.dtype),
        shape_basis=shape_basis,
        num_identity=num_identity,
        mean_albedo=mean_albedo,
        albedo_basis=albedo_basis,
        landmarks=place.astype(np.int64),
        symmetry=None,
        name="ICT-FaceKit" + (", narrow face area" if options.crop else ", full face area"),
        license="MIT",
        source=path.name,
    )


def _vertices(path: Path, limit: int, options: Options) -> Array:
    """The first `limit` vertices of an OBJ file, [<=limit, 3] float64."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            words = " ".join(islice((line[2:] for line in file if line.startswith("v ")), limit)).split()
        return np.array(words, np.float64).reshape(-1, 3)
    except ValueError as error:
        options.fail(f"{path} to be an OBJ file with three numbers in each v line", error)


def _faces(path: Path, num_vertices: int, options: Options) -> Array:
    """The polygons among the first vertices, cut into fans of triangles, [F, 3] int64."""
    triangles = []
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("f "):
                    polygon = [int(corner.split("/", 1)[0]) - 1 for corner in line.split()[1:]]
                    if max(polygon) < num_vertices:
                        triangles += [(polygon[0], b, c) for b, c in pairwise(polygon[1:])]
    except ValueError as error:
        options.fail(f"{path} to be an OBJ file with vertex numbers in its f lines", error)
    return np.array(triangles, np.int64).reshape(-1, 3)
