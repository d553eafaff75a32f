"""The file format of face models: one safetensors file, no pickle. docs/face_models.md describes every key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..tensor_file import CODES, Array, read_tensors, write_tensors

FORMAT = "focus-face-model"
VERSION = "1"

_REQUIRED = ("faces", "mean_shape", "identity_basis", "expression_basis", "mean_albedo", "albedo_basis")
_OPTIONAL = ("landmarks", "symmetry")


@dataclass
class ModelArrays:
    """A face model in numpy, at one level: what every loader returns and FaceModel is made of.

    faces [F,3] int; mean_shape [V,3] mm; shape_basis [K_id+K_exp,V,3] mm per standard deviation, identity first;
    mean_albedo [V,3] in [0,1]; albedo_basis [K_alb,V,3]; landmarks [68] vertex ids or None; symmetry [V] mirror
    vertex or None.
    """

    faces: Array
    mean_shape: Array
    shape_basis: Array
    num_identity: int
    mean_albedo: Array
    albedo_basis: Array
    landmarks: Array | None
    symmetry: Array | None
    name: str
    license: str
    source: str


def write_model(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str],
    caller: str = "write_model()",
) -> None:
    """Writes a model file atomically, the same bytes for the same content.

    `arrays` and `metadata` hold the keys of docs/face_models.md; `format`, `version` and `checksum` are filled in.
    A failure leaves neither a new file nor a changed old one.
    """
    path = Path(path)
    arrays = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    metadata = {**metadata, "format": FORMAT, "version": VERSION}
    check_model(arrays, metadata, caller, path)
    write_tensors(path, arrays, metadata)


def read_model(path: str | os.PathLike[str], caller: str = "read_model()") -> tuple[dict[str, Array], dict[str, str]]:
    """Reads and checks a model file. Returns (arrays, metadata); ValueError tells what is wrong with the file."""
    path = Path(path)
    arrays, metadata = read_tensors(path, caller)
    check_model(arrays, metadata, caller, path)
    return arrays, metadata


def check_model(arrays: Mapping[str, Array], metadata: Mapping[str, str], caller: str, path: Path) -> None:
    """Raises ValueError unless keys, dtypes, shapes and index ranges are those of the format."""

    def fail(what: str, got: object) -> None:
        raise ValueError(f"{caller}: expected {path} to {what}, got {got}")

    if metadata.get("format") != FORMAT:
        fail(f"say format {FORMAT!r} in its metadata", repr(metadata.get("format")))
    if metadata.get("version") != VERSION:
        fail(f"have format version {VERSION!r}", repr(metadata.get("version")))
    if missing := [key for key in _REQUIRED if key not in arrays]:
        fail("hold the arrays " + ", ".join(_REQUIRED), f"a file without {', '.join(missing)}")
    if unknown := sorted(set(arrays) - set(_REQUIRED) - set(_OPTIONAL)):
        fail("hold no other arrays than " + ", ".join(_REQUIRED + _OPTIONAL), ", ".join(unknown))
    for key, array in arrays.items():
        integer = key in ("faces", "landmarks", "symmetry")
        if (array.dtype.kind != "i" if integer else array.dtype.kind != "f") or array.dtype.name not in CODES:
            fail(f"hold {key} as {'int32 or int64' if integer else 'float16, float32 or float64'}", array.dtype)
    V, A = arrays["mean_shape"].shape[0], arrays["mean_albedo"].shape[0]
    shapes: dict[str, tuple[int | None, ...]] = {
        "faces": (None, 3), "mean_shape": (V, 3), "identity_basis": (None, V, 3), "expression_basis": (None, V, 3),
        "mean_albedo": (A, 3), "albedo_basis": (None, A, 3), "landmarks": (None, 68), "symmetry": (V,),
    }  # fmt: skip
    for key, array in arrays.items():
        shape = shapes[key]
        if len(shape) != array.ndim or any(w not in (None, g) for w, g in zip(shape, array.shape, strict=True)):
            fail(f"hold {key} of shape [{', '.join('*' if s is None else str(s) for s in shape)}]", list(array.shape))
    if metadata.get("subdivision", "none") not in ("none", "loop"):
        fail("have subdivision 'none' or 'loop'", repr(metadata["subdivision"]))
    if metadata.get("subdivision", "none") == "none" and A != V:
        fail(f"hold one albedo for each of its {V} vertices", A)
    for key in ("faces", "symmetry"):
        if key in arrays and arrays[key].size and not (arrays[key].min() >= 0 and arrays[key].max() < V):
            fail(f"hold {key} in 0..{V - 1}", f"{arrays[key].min()}..{arrays[key].max()}")
