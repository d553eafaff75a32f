"""Opens a face model by what the path holds: the file's first bytes and its keys decide, not its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import flame, ict
from .bfm2009 import load_bfm2009
from .bfm2017 import load_bfm2017
from .common import Array, Options
from .format import ModelArrays, read_model
from .landmark_ids import read_landmarks
from .subdivision import Subdivision, loop_subdivision, subdivide, subdivide_symmetry

DEFAULT_ASSET = Path(__file__).parents[1] / "assets" / "face_model.safetensors"
_KINDS = (
    "a face model: a FOCUS .safetensors file, BFM 2017 .h5, Deep3D's BFM 2009 .mat, FLAME .pkl or .npz, "
    "or ICT-FaceKit's folder or .npz"
)


def load_arrays(path: Path, options: Options) -> ModelArrays:
    """The model at `path`. ValueError for content, OSError for a path that cannot be read."""
    if path.is_dir():
        if not (path / ict.NEUTRAL).exists():
            options.fail(f"{path} to hold {_KINDS}", f"a folder without {ict.NEUTRAL}")
        _one_level(path, options)
        return ict.load_ict_folder(path, options)
    with path.open("rb") as file:
        head = file.read(128)
    # A safetensors file: the length of its header, which the library limits to 100 MB, and then a JSON object.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000:
        return load_native(path, options)
    _one_level(path, options)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return load_bfm2017(path, options)
    if head.startswith(b"MATLAB 7.3"):
        options.fail(f"{path} to be a .mat file up to version 7", "version 7.3 (save it with '-v7')")
    if head.startswith(b"MATLAB 5.0"):
        return load_bfm2009(path, options)
    if head.startswith(b"PK\x03\x04"):
        return _load_npz(path, options)
    if head[:1] == b"\x80" or path.suffix.lower() == ".pkl":  # protocol 0 and 1 have no mark
        return flame.load_flame_pickle(path, options)
    return options.fail(f"{path} to be {_KINDS}", f"a file that begins with {head[:8]!r}" if head else "an empty file")


def load_native(path: Path, options: Options) -> ModelArrays:
    """A file of this project (docs/face_models.md), brought to the wanted level."""
    arrays, metadata = read_model(path, options.caller)
    landmarks, V0 = arrays.get("landmarks"), len(arrays["mean_shape"])
    levels = 3 if landmarks is None else len(landmarks)
    loop = metadata.get("subdivision", "none") == "loop"
    if not loop:
        _one_level(path, options)
        levels, level, albedo_level = 1, 0, 0
    else:
        level, albedo_level = options.level, _integer(path, metadata, "albedo_level", options)
    if not 0 <= level < levels:
        options.fail(f"level to be in 0..{levels - 1} for {path}", level)

    steps, sizes, faces = [], [V0], arrays["faces"]
    level_faces = [faces]
    for _ in range(max(level, albedo_level)):
        step = loop_subdivision(faces, sizes[-1])
        faces = step.faces
        steps.append(step)
        sizes.append(step.matrix.shape[0])
        level_faces.append(faces)
    if len(arrays["mean_albedo"]) != sizes[albedo_level]:
        options.fail(
            f"{path} to hold {sizes[albedo_level]} albedos, one for each vertex of level {albedo_level}",
            len(arrays["mean_albedo"]),
        )

    identity, expression, albedo = (
        arrays[key][: options.count(kind, len(arrays[key]))]
        for kind, key in enumerate(("identity_basis", "expression_basis", "albedo_basis"))
    )
    V = sizes[level]
    mean = subdivide(arrays["mean_shape"], steps[:level], np.dtype(np.float64))
    shape_basis = np.empty((len(identity) + len(expression), V, 3), options.dtype)
    subdivide(identity, steps[:level], options.dtype, shape_basis[: len(identity)])
    subdivide(expression, steps[:level], options.dtype, shape_basis[len(identity) :])
    symmetry = arrays.get("symmetry")
    if symmetry is not None:
        symmetry = symmetry.astype(np.int64)
        for i, step in enumerate(steps[:level]):
            symmetry = subdivide_symmetry(symmetry, step, mean[: sizes[i + 1]])
    given = read_landmarks(level_faces[level], V, options)
    ids = (
        given if given is not None else None if landmarks is None else landmarks[level if loop else 0].astype(np.int64)
    )
    if ids is not None and not (ids.min() >= 0 and ids.max() < V):
        options.fail(f"landmarks in {path} to be in 0..{V - 1}", f"{ids.min()}..{ids.max()}")
    return ModelArrays(
        faces=level_faces[level],
        mean_shape=mean.astype(options.dtype),
        shape_basis=shape_basis,
        num_identity=len(identity),
        mean_albedo=_albedo(arrays["mean_albedo"], level, albedo_level, steps, V, options),
        albedo_basis=_albedo(albedo, level, albedo_level, steps, V, options),
        landmarks=ids,
        symmetry=symmetry,
        name=metadata.get("name", path.stem),
        license=metadata.get("license", "unknown"),
        source=metadata.get("source", path.name),
    )


def _albedo(values: Array, level: int, albedo_level: int, steps: list[Subdivision], V: int, options: Options) -> Array:
    # Coarser than stored: the old vertices come first at every level, so the coarse colours are its first rows.
    return subdivide(values[..., :V, :], steps[albedo_level:level], options.dtype)


def _integer(path: Path, metadata: dict[str, str], key: str, options: Options) -> int:
    text = metadata.get(key, "0")
    if text not in ("0", "1", "2"):
        options.fail(f"{key} in {path} to be '0', '1' or '2'", repr(text))
    return int(text)


def _load_npz(path: Path, options: Options) -> ModelArrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = set(file.files)
            wanted = next((names for names in (ict.KEYS, flame.KEYS) if keys >= set(names)), None)
            data = {key: file[key] for key in wanted} if wanted else {}
    # Damage shows as anything from zlib.error to a tokenizer's error.
    except Exception as error:
        raise ValueError(
            f"{options.caller}: expected {path} to be a complete .npz file of plain arrays, got: {error}"
        ) from error
    if wanted is ict.KEYS:
        return ict.load_ict_npz(data, path, options)
    if wanted is flame.KEYS:
        return flame.load_flame(data, path, options)
    return options.fail(
        f"{path} to hold ICT-FaceKit's arrays ({', '.join(ict.KEYS)}) or FLAME's ({', '.join(flame.KEYS)})",
        ", ".join(sorted(keys)) or "no arrays",
    )


def _one_level(path: Path, options: Options) -> None:
    if options.level != 1:
        options.fail(f"level to be left at its default for {path}, which has one resolution", options.level)
