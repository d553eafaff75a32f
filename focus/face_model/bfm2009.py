"""Basel Face Model 2009 as Deep3DFaceRecon_pytorch packs it (`BFM_model_front.mat`): decimetres, colours in 0..255."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .common import Array, Options, outward
from .format import ModelArrays
from .landmark_ids import read_landmarks
from .mat5 import read_mat

_KEYS = ("meanshape", "meantex", "idBase", "exBase", "texBase", "tri", "keypoints")
_MM_PER_UNIT = 100.0


def load_bfm2009(path: Path, options: Options) -> ModelArrays:
    """Reads the .mat file. Its bases are scaled by one standard deviation already; the mean is centred as in Deep3D."""
    try:
        data, names = read_mat(path, _KEYS)
    except ValueError as error:
        raise ValueError(f"{options.caller}: expected {path} to be a complete .mat file, got: {error}") from error
    if missing := [key for key in _KEYS if key not in data]:
        options.fail(
            f"{path} to be Deep3D's BFM_model_front.mat with {', '.join(_KEYS)}",
            f"a file with {', '.join(names)}, without {', '.join(missing)}",
        )
    size = data["meanshape"].size

    def array(key: str, shape: tuple[int | None, ...]) -> Array:
        value: Array = data[key]
        good = value.dtype.kind in "iuf" and value.ndim == len(shape)
        if not good or any(wanted not in (None, got) for wanted, got in zip(shape, value.shape, strict=True)):
            text = ", ".join("*" if n is None else str(n) for n in shape)
            options.fail(f"{key} in {path} to be numbers [{text}]", f"{value.dtype} {list(value.shape)}")
        return value

    def points(key: str) -> Array:
        # [1, 3V] in the file of Deep3D's script, [3V, 1] in some others.
        return (
            array(key, (None, size) if data[key].shape[:1] == (1,) else (size, None)).reshape(-1, 3).astype(np.float64)
        )

    if size == 0 or size % 3:
        options.fail(f"meanshape in {path} to hold 3 numbers per vertex", f"{size} numbers")
    V = size // 3
    positions = points("meanshape")
    positions = (positions - positions.mean(axis=0)) * _MM_PER_UNIT
    identity, expression, albedo = (array(key, (size, None)) for key in ("idBase", "exBase", "texBase"))
    counts = [options.count(kind, basis.shape[1]) for kind, basis in enumerate((identity, expression, albedo))]
    shape_basis = np.empty((counts[0] + counts[1], V, 3), options.dtype)
    for out, basis in ((shape_basis[: counts[0]], identity), (shape_basis[counts[0] :], expression)):
        out[:] = basis[:, : len(out)].T.reshape(-1, V, 3)
    shape_basis *= _MM_PER_UNIT
    albedo_basis = np.ascontiguousarray(albedo[:, : counts[2]].T.reshape(-1, V, 3), options.dtype) / options.dtype.type(
        255
    )

    faces = array("tri", (None, 3)).astype(np.int64) - 1
    if faces.size and (faces.min() < 0 or faces.max() >= V):
        options.fail(f"tri in {path} to be in 1..{V}", f"{faces.min() + 1}..{faces.max() + 1}")
    landmarks = read_landmarks(faces, V, options)
    if landmarks is None:
        landmarks = array("keypoints", (None, None)).reshape(-1).astype(np.int64) - 1
        if len(landmarks) != 68 or landmarks.min() < 0 or landmarks.max() >= V:
            got = f"{len(landmarks)} in {landmarks.min() + 1}..{landmarks.max() + 1}" if len(landmarks) else "none"
            options.fail(f"keypoints in {path} to be 68 numbers in 1..{V}", got)
    return ModelArrays(
        faces=outward(faces, positions),
        mean_shape=positions.astype(options.dtype),
        shape_basis=shape_basis,
        num_identity=counts[0],
        mean_albedo=(points("meantex") / 255).astype(options.dtype),
        albedo_basis=albedo_basis,
        landmarks=landmarks,
        symmetry=None,
        name="Basel Face Model 2009, Deep3D front",
        license="Basel Face Model licence of the University of Basel: non-commercial research, no redistribution",
        source=path.name,
    )
