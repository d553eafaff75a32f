"""FLAME (`generic_model.pkl`, `flame2023.pkl` or an .npz of the same arrays): metres, geometry, the linear part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .common import Array, Options, at_eyes, outward, plain_albedo
from .format import ModelArrays
from .landmark_ids import read_landmarks
from .safe_pickle import read_pickle, to_array

KEYS = ("v_template", "f", "shapedirs")
_MM_PER_UNIT = 1000.0
_IDENTITY, _EXPRESSION = 300, 100


def load_flame_pickle(path: Path, options: Options) -> ModelArrays:
    """Reads the .pkl file without running anything in it (see safe_pickle.py)."""
    value = read_pickle(path.read_bytes(), path, options.caller)
    if not isinstance(value, dict):
        options.fail(f"{path} to be FLAME's dictionary with {', '.join(KEYS)}", type(value).__name__)
    return load_flame(value, path, options)


def load_flame(data: Mapping[str, Any], path: Path, options: Options) -> ModelArrays:
    """data: v_template [V,3], f [F,3], shapedirs [V,3,400], the first 300 identity, then 100 expression directions.

    Jaw and eye rotations and the corrective shapes that go with them are not linear and are left out.
    """

    def array(key: str, kinds: str, shape: tuple[int | None, ...]) -> Array:
        value = to_array(data[key]) if key in data else None
        if value is None:
            held = ", ".join(sorted(map(str, data)))
            options.fail(f"{path} to be FLAME's file with the arrays {', '.join(KEYS)}", f"no {key} among {held}")
        good = value.dtype.kind in kinds and value.ndim == len(shape)
        if not good or any(wanted not in (None, got) for wanted, got in zip(shape, value.shape, strict=True)):
            text = ", ".join("*" if n is None else str(n) for n in shape)
            options.fail(f"{key} in {path} to be numbers [{text}]", f"{value.dtype} {list(value.shape)}")
        return value

    positions = array("v_template", "f", (None, 3)).astype(np.float64) * _MM_PER_UNIT
    V = len(positions)
    faces = array("f", "iu", (None, 3)).astype(np.int64)
    if faces.size and (faces.min() < 0 or faces.max() >= V):
        options.fail(f"f in {path} to be in 0..{V - 1}", f"{faces.min()}..{faces.max()}")
    directions = array("shapedirs", "f", (V, 3, _IDENTITY + _EXPRESSION))
    identity, expression = options.count(0, _IDENTITY), options.count(1, _EXPRESSION)
    shape_basis = np.empty((identity + expression, V, 3), options.dtype)
    shape_basis[:identity] = directions[:, :, :identity].transpose(2, 0, 1)
    shape_basis[identity:] = directions[:, :, _IDENTITY : _IDENTITY + expression].transpose(2, 0, 1)
    shape_basis *= _MM_PER_UNIT

    landmarks = read_landmarks(faces, V, options)
    positions = at_eyes(positions, landmarks)
    mean_albedo, albedo_basis = plain_albedo(V, options.dtype)
    return ModelArrays(
        faces=outward(faces, positions),
        mean_shape=positions.astype(options.dtype),
        shape_basis=shape_basis,
        num_identity=identity,
        mean_albedo=mean_albedo,
        albedo_basis=albedo_basis,
        landmarks=landmarks,
        symmetry=None,
        name="FLAME",
        license="FLAME licence of the Max Planck Society: see the terms of the file's release",
        source=path.name,
    )
