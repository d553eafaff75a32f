"""Reading meshes and 3D landmarks of NoW and of those who take part in it. Pickles are never read."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from .mesh_distance import Array, Mesh, check_mesh

NUM_NOW_LANDMARKS = 7


def read_mesh(path: str | os.PathLike[str], *, need_faces: bool = True) -> Mesh:
    """A mesh of an OBJ or PLY file: all its vertices in its order, polygons as fans of triangles, no colours.

    Args:
        need_faces: False also takes a cloud of points.

    Raises:
        ValueError: another format, a damaged or cut-off file, or no triangles.
        OSError: the file cannot be read.
    """
    path = Path(path)
    readers = {".obj": _read_obj, ".ply": _read_ply}
    if path.suffix.lower() not in readers:
        raise ValueError(f"read_mesh(): expected an .obj or .ply file, got {path}")
    data = path.read_bytes()
    try:
        mesh = readers[path.suffix.lower()](data)
        if need_faces or len(mesh.faces):
            return check_mesh("read_mesh", *mesh)
        return Mesh(check_mesh("read_mesh", mesh.vertices, np.zeros((1, 3), np.int64)).vertices, mesh.faces)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read_obj(data: bytes) -> Mesh:
    # Not by a library: trimesh drops vertices without a face, and libigl lines that are cut off.
    vertices: list[list[bytes]] = []
    corners: list[tuple[int, int, int]] = []
    for number, line in enumerate(data.splitlines(), 1):
        words = line.split()
        if not words or words[0] not in (b"v", b"f"):
            continue
        if len(words) < 4:
            raise ValueError(f"read_mesh(): expected three numbers or more in line {number}, got {line[:60]!r}")
        if words[0] == b"v":
            vertices.append(words[1:4])
            continue
        try:
            ids = [int(word.split(b"/", 1)[0]) for word in words[1:]]
        except ValueError:
            raise ValueError(f"read_mesh(): expected vertex numbers in line {number}, got {line[:60]!r}") from None
        ids = [k - 1 if k > 0 else len(vertices) + k if k < 0 else -1 for k in ids]
        corners += [(ids[0], ids[k], ids[k + 1]) for k in range(1, len(ids) - 1)]
    try:
        points = np.array(vertices, dtype=np.float64).reshape(-1, 3)
    except ValueError as error:
        raise ValueError(f"read_mesh(): expected vertices to be numbers: {error}") from None
    return Mesh(points, np.array(corners, dtype=np.int64).reshape(-1, 3))


def _read_ply(data: bytes) -> Mesh:
    import trimesh

    try:
        loaded = trimesh.load(io.BytesIO(data), file_type="ply", process=False)
    except Exception as error:  # whatever a damaged file makes of it
        raise ValueError(f"read_mesh(): expected a complete PLY file, got {type(error).__name__}: {error}") from error
    faces = getattr(loaded, "faces", None)
    faces = np.zeros((0, 3), np.int64) if faces is None else np.asarray(faces)
    return Mesh(np.asarray(getattr(loaded, "vertices", np.zeros((0, 3)))), faces.astype(np.int64))


def read_now_landmarks(path: str | os.PathLike[str]) -> Array:
    """The seven landmarks of NoW [7, 3] float64, in the file's unit, from what its ending says.

    .pp: the picked points of MeshLab in their order, as NoW's scans have them. .npy: [7, 3] or [1, 7, 3] numbers; an
    array of objects, which only a pickle can hold, is refused. .txt: seven lines "x y z". Their order: right outer and
    inner eye corner, left inner and outer, below the nose, right and left mouth corner (iBUG 36, 39, 42, 45, 33, 48,
    54).

    Raises:
        ValueError: another format, another number of points, or what is no finite number.
        OSError: the file cannot be read.
    """
    path = Path(path)
    suffix, data = path.suffix.lower(), path.read_bytes()
    function = "read_now_landmarks()"
    if suffix not in (".pp", ".npy", ".txt"):
        raise ValueError(f"{function}: expected a .pp, .npy or .txt file, got {path}")
    try:
        if suffix == ".pp":
            points = _read_pp(data)
        elif suffix == ".npy":
            points = np.load(io.BytesIO(data), allow_pickle=False)
        else:
            lines = data.strip().splitlines()
            points = np.array([[float(word) for word in re.split(rb"[,\s]+", line.strip())] for line in lines])
        points = points.astype(np.float64)
    except (ValueError, TypeError, KeyError, EOFError, ElementTree.ParseError) as error:
        raise ValueError(f"{function}: expected {path} to hold numbers, got {type(error).__name__}: {error}") from error
    if points.shape == (1, NUM_NOW_LANDMARKS, 3):
        points = points[0]
    if points.shape != (NUM_NOW_LANDMARKS, 3):
        raise ValueError(f"{function}: expected {path} to hold points of shape [7, 3], got {list(points.shape)}")
    if not np.isfinite(points).all():
        raise ValueError(f"{function}: expected the points in {path} to be finite")
    return points


def _read_pp(data: bytes) -> Array:
    points = ElementTree.fromstring(data).iter("point")
    return np.array([[float(point.attrib[axis]) for axis in "xyz"] for point in points]).reshape(-1, 3)
