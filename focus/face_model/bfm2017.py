"""Basel Face Model 2017 (`model2017-1_bfm_nomouth.h5`) as FOCUS uses it: millimetres, cropped, moved by -100 in z."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.spatial import cKDTree

from .common import Array, Options, keep_vertices, outward
from .format import ModelArrays
from .landmark_ids import read_landmarks

_CENTER = (0.0, 0.0, 100.0)
_NUM_VERTICES = 53149  # of model2017-1_bfm_nomouth.h5, which the landmark lists belong to

# For the uncropped mesh: the list of the authors' first program.
FULL_LANDMARKS = (
    22212, 23003, 23412, 23817, 44075, 45617, 46739, 47456, 47847, 48237, 48953, 50064, 51700,
    30656, 31279, 31775, 32532,
    38719, 39462, 39835, 40033, 40252, 40668, 40882, 41081, 41459, 42172,
    8124, 8140, 8149, 8155, 6750, 7459, 8171, 8993, 9699,
    2735, 4275, 5050, 6088, 4804, 4030, 10263, 11159, 11932, 13746, 12203, 11429,
    5394, 6283, 7474, 8183, 9007, 10203, 11116, 9380, 8673, 8201, 7847, 7020,
    6539, 7600, 8190, 8780, 10339, 8545, 8191, 7837,
)  # fmt: skip

# For the authors' crop: points picked anew, not the list above renumbered.
CROPPED_LANDMARKS = (
    16678, 16817, 16480, 16254, 32170, 32866, 33302, 33598, 33765, 33949, 34239, 34693, 35398,
    27717, 27536, 27137, 27249,
    27998, 28747, 29133, 29336, 29503, 30188, 30352, 30557, 30947, 31682,
    8122, 8137, 8147, 8152, 6627, 7219, 8165, 9107, 9695,
    2475, 4275, 5050, 5829, 4802, 3900, 10382, 11280, 12053, 14123, 12323, 11419,
    5137, 5897, 7467, 8175, 8883, 10450, 11110, 9372, 8666, 8194, 7722, 7012,
    5524, 7358, 8184, 9010, 10852, 8659, 8187, 7715,
)  # fmt: skip


def load_bfm2017(path: Path, options: Options) -> ModelArrays:
    """Reads the .h5 file. Bases are pcaBasis * sqrt(pcaVariance); the mean is shape mean + expression mean."""
    try:
        with h5py.File(path, "r") as file:
            return _load(file, path, options)
    except ValueError:
        raise
    # h5py reports damage with many types, from OSError to RuntimeError.
    except Exception as error:
        raise ValueError(f"{options.caller}: expected {path} to be a complete HDF5 file, got: {error}") from error


def _load(file: h5py.File, path: Path, options: Options) -> ModelArrays:
    def dataset(name: str) -> h5py.Dataset:
        item = file.get(name)
        if not isinstance(item, h5py.Dataset):
            options.fail(f"{path} to be a Basel Face Model with the dataset {name}", f"the groups {sorted(file)}")
        return item

    def mean(kind: str) -> Array:
        values = np.asarray(dataset(f"{kind}/model/mean"), np.float64).reshape(-1)
        if values.size == 0 or values.size % 3 or (kind != "shape" and values.size != 3 * len(shape_mean)):
            options.fail(f"{kind}/model/mean in {path} to hold 3 numbers per vertex", f"{values.size} numbers")
        return values.reshape(-1, 3)

    def fill(out: Array, kind: str, ids: Array) -> None:
        basis, variance = dataset(f"{kind}/model/pcaBasis"), dataset(f"{kind}/model/pcaVariance")
        values = basis[:, : len(out)].reshape(-1, 3, len(out))
        out[:] = values[ids].transpose(2, 0, 1)
        out *= np.sqrt(np.asarray(variance[: len(out)], np.float64)).astype(out.dtype)[:, None, None]

    def count(kind: str, which: int) -> int:
        shape, variance = dataset(f"{kind}/model/pcaBasis").shape, dataset(f"{kind}/model/pcaVariance").shape
        if len(shape) != 2 or shape[0] != 3 * len(shape_mean) or variance != shape[1:]:
            what = f"[{3 * len(shape_mean)}, K] with K variances"
            options.fail(f"{kind}/model/pcaBasis in {path} to be {what}", f"{list(shape)} with {list(variance)}")
        return options.count(which, shape[1])

    shape_mean = mean("shape")
    cells = np.asarray(dataset("shape/representer/cells"), np.int64)
    if cells.ndim != 2 or 3 not in cells.shape:
        options.fail(f"shape/representer/cells in {path} to be [3, F]", list(cells.shape))
    faces = cells.T if cells.shape[0] == 3 else cells
    if faces.size and (faces.min() < 0 or faces.max() >= len(shape_mean)):
        options.fail(f"cells in {path} to be in 0..{len(shape_mean) - 1}", f"{faces.min()}..{faces.max()}")

    full_faces, ids = faces, np.arange(len(shape_mean))
    if options.crop:
        ids, faces = keep_vertices(faces, face_region(shape_mean))
        if len(ids) == 0:
            options.fail(f"{path} to have a face in FOCUS's crop region", "none (crop=False loads all of it)")
    num_identity, num_expression = count("shape", 0), count("expression", 1)
    shape_basis = np.empty((num_identity + num_expression, len(ids), 3), options.dtype)
    fill(shape_basis[:num_identity], "shape", ids)
    fill(shape_basis[num_identity:], "expression", ids)
    albedo_basis = np.empty((count("color", 2), len(ids), 3), options.dtype)
    fill(albedo_basis, "color", ids)
    positions = (shape_mean + mean("expression"))[ids] - _CENTER
    albedo = mean("color")[ids]

    landmarks, note = _landmarks(shape_mean, full_faces, ids, options)
    return ModelArrays(
        faces=outward(faces, positions),
        mean_shape=positions.astype(options.dtype),
        shape_basis=shape_basis,
        num_identity=num_identity,
        mean_albedo=albedo.astype(options.dtype),
        albedo_basis=albedo_basis,
        landmarks=landmarks,
        symmetry=None,
        name="Basel Face Model 2017" + (", FOCUS crop" if options.crop else ""),
        license="Basel Face Model licence of the University of Basel: non-commercial research, no redistribution",
        source=f"{path.name}; {len(ids)} of {len(shape_mean)} vertices; landmarks: {note}",
    )


def face_region(shape_mean: Array) -> Array:
    """[V] bool, the vertices inside FOCUS's crop; shape_mean [V,3] in the file's own frame, before it is moved."""
    x, y, z = shape_mean.T
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # z = 0 is outside by the last condition, or far off to the side

        def inside(width: float, shift: float, height: float) -> Array:
            return (x / z) ** 2 / width**2 + ((y + shift) / z) ** 2 / height**2 <= 1

        region = inside(100, 0, 0.75) | inside(100, 18, 0.62) | inside(3.2, -25, 0.92)
    return np.asarray(region & (z + 0.05 * y > 20))


def _landmarks(shape_mean: Array, faces: Array, ids: Array, options: Options) -> tuple[Array | None, str]:
    given = read_landmarks(faces, len(shape_mean), options)
    if given is not None:
        return _nearest(shape_mean, ids, given), "as given"
    if len(shape_mean) != _NUM_VERTICES:
        return None, f"none known for a mesh of {len(shape_mean)} vertices"
    full = np.array(FULL_LANDMARKS)
    if not options.crop:
        return full, "the authors' list for the full mesh"
    # The authors' crop was never published. Their list for it counts only if it names the places of their list for the
    # full mesh (they picked the points anew, so some millimetres apart); under another numbering it points anywhere.
    cropped = np.array(CROPPED_LANDMARKS)
    if cropped.max() < len(ids):
        apart = np.linalg.norm(shape_mean[ids[cropped]] - shape_mean[full], axis=1)
        if np.median(apart[17:]) < 5 and apart.max() < 30:
            return cropped, "the authors' list for their crop"
    return _nearest(shape_mean, ids, full), "the authors' list for the full mesh, nearest kept vertices"


def _nearest(shape_mean: Array, ids: Array, wanted: Array) -> Array:
    """Where the vertices `wanted` of the full mesh are among the kept `ids`, or else the nearest kept ones."""
    nearest: Any = cKDTree(shape_mean[ids]).query(shape_mean[wanted])[1]
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[place] == wanted, place, nearest).astype(np.int64)
