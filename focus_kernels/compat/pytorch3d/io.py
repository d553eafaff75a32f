"""PyTorch3D's ``load_obj``, ``load_objs_as_meshes`` and ``save_obj``: geometry, texture coordinates and normals."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from ... import _checks
from ._layouts import positive_int
from .structures import Meshes

_LARGEST = torch.finfo(torch.float32).max


class Faces(NamedTuple):
    """Indices of F triangles.

    Attributes:
        verts_idx: int64 [F, 3], into the vertices.
        normals_idx: int64 [F, 3], into ``aux.normals``, -1 where a face names none.
        textures_idx: int64 [F, 3], into ``aux.verts_uvs``, -1 where a face names none.
        materials_idx: int64 [F], the materials numbered by first use, -1 before the first.
    """

    verts_idx: Tensor
    normals_idx: Tensor
    textures_idx: Tensor
    materials_idx: Tensor


class Properties(NamedTuple):
    """What a file holds besides its triangles.

    Attributes:
        normals: float32 [N, 3] as in the file, or None.
        verts_uvs: float32 [T, 2] as in the file, (0, 0) at the lower left of the texture, or None.
        material_colors, texture_images, texture_atlas: None.
    """

    normals: Tensor | None
    verts_uvs: Tensor | None
    material_colors: dict | None
    texture_images: dict | None
    texture_atlas: Tensor | None


def load_obj(
    f: str | os.PathLike | bytes | IO,
    load_textures: bool = True,
    create_texture_atlas: bool = False,
    texture_atlas_size: int = 4,
    texture_wrap: str | None = "repeat",
    device: torch.device | str | int = "cpu",
    path_manager: Any = None,
) -> tuple[Tensor, Faces, Properties]:
    """Reads a Wavefront OBJ file: vertices, faces, texture coordinates and normals.

    Polygons become fans of triangles around their first corner. Vertex colours and what is neither ``v``, ``vt``,
    ``vn``, ``f`` nor ``usemtl`` are passed over.

    Args:
        f: path, or file object (text or binary UTF-8) at the start of the data.
        load_textures: accepted; materials and images are not read, which a warning says where the file has them.
        create_texture_atlas: False only.
        texture_atlas_size, texture_wrap: accepted and without effect; ``texture_wrap`` is "repeat", "clamp" or None.
        device: where the tensors are made.
        path_manager: None, or an object whose ``open(path, "r")`` opens `f`.

    Returns:
        ``(verts float32 [V, 3], faces Faces, aux Properties)``.

    Raises:
        TypeError, ValueError: a wrong argument, or a line that is no OBJ; the file and the line are named.
        OSError: the file cannot be read.

    Differences from upstream:
        * Material files and images are not read: ``material_colors``, ``texture_images``, ``texture_atlas`` are None.
        * Negative indices count back from the line they are on, as the format has it; upstream counts back from the
          end of the file, and takes -1/-1/-1 for "none" in texture coordinates and normals.
        * An index that is 0 or out of range, a face of fewer than three corners, and a vertex or texture coordinate
          that is not finite are errors; upstream warns or goes on.
        * Lines that end in a backslash are joined. Texture and normal indices of no faces are tensors, not lists.
    """
    if create_texture_atlas:
        _checks.fail(ValueError, "load_obj", "create_texture_atlas", "False", repr(create_texture_atlas))
    if texture_wrap not in ("repeat", "clamp", None):
        _checks.fail(ValueError, "load_obj", "texture_wrap", "'repeat', 'clamp' or None", repr(texture_wrap))
    name, lines = _read("load_obj", f, path_manager)
    reader = _ObjReader(name)
    reader.read(lines)
    verts, faces, normals, uvs = reader.tensors(device)
    if load_textures and reader.library and reader.materials:
        message = f"load_obj(): materials and images of {name} are not read; aux.texture_images is None"
        warnings.warn(message, stacklevel=2)
    return verts, faces, Properties(normals if len(normals) else None, uvs if len(uvs) else None, None, None, None)


def load_objs_as_meshes(
    files: Sequence,
    device: torch.device | str | int | None = None,
    load_textures: bool = True,
    create_texture_atlas: bool = False,
    texture_atlas_size: int = 4,
    texture_wrap: str | None = "repeat",
    path_manager: Any = None,
) -> Meshes:
    """Reads OBJ files into one `Meshes`, without textures; see `load_obj`."""
    verts, faces = [], []
    for f in files:
        v, its, _ = load_obj(
            f,
            load_textures,
            create_texture_atlas,
            texture_atlas_size,
            texture_wrap,
            "cpu" if device is None else device,
            path_manager,
        )
        verts.append(v)
        faces.append(its.verts_idx)
    return Meshes(verts, faces)


def save_obj(
    f: str | os.PathLike | IO,
    verts: Tensor,
    faces: Tensor,
    decimal_places: int | None = None,
    path_manager: Any = None,
    *,
    normals: Tensor | None = None,
    faces_normals_idx: Tensor | None = None,
    verts_uvs: Tensor | None = None,
    faces_uvs: Tensor | None = None,
    texture_map: Tensor | None = None,
) -> None:
    """Writes a Wavefront OBJ file; a path is written completely or not at all.

    Args:
        f: path, or file object (text or binary).
        verts: [V, 3], any float dtype.
        faces: [F, 3] integers in [0, V).
        decimal_places: digits after the point; None is 6.
        path_manager: None, or an object whose ``open(path, "w")`` opens `f`.
        normals: [N, 3], written where ``faces_normals_idx`` [F, 3] is given.
        faces_normals_idx, faces_uvs: [F, 3] integers into ``normals`` and ``verts_uvs``, a row of -1 where a face has
            none.
        verts_uvs: [T, 2], written where ``faces_uvs`` [F, 3] is given.
        texture_map: None only.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape or index, a value that is not finite, or a texture map.
        OSError: the file cannot be written.

    Differences from upstream:
        * Texture coordinates need no texture map, and texture maps are not written.
        * Indices out of range and values that are not finite are errors; upstream warns, or writes them.
        * A failure leaves the old file. The last line ends.
    """
    if texture_map is not None:
        _checks.fail(ValueError, "save_obj", "texture_map", "None: images are not written", type(texture_map).__name__)
    digits = 6 if decimal_places is None else positive_int("save_obj", "decimal_places", decimal_places, least=0)
    columns = [_indices("faces", faces, _rows("verts", verts, 3), None)]
    text = _lines("v", _rows("verts", verts, 3), digits)
    used = ["v"]
    for prefix, values, width, name, index, index_name in (
        ("vt", verts_uvs, 2, "verts_uvs", faces_uvs, "faces_uvs"),
        ("vn", normals, 3, "normals", faces_normals_idx, "faces_normals_idx"),
    ):
        if values is not None and index is not None:
            rows = _rows(name, values, width)
            columns.append(_indices(index_name, index, rows, columns[0]))
            text += _lines(prefix, rows, digits)
            used.append(prefix)
    text += _face_lines(columns, used)
    if not text:
        warnings.warn("save_obj(): verts and faces are empty", stacklevel=2)
    _write("save_obj", f, text, path_manager)


class _ObjReader:
    """Collects the numbers of an OBJ file; says which line it cannot read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
        # per triangle; 0-based, None where a face names nothing
        self.indices: dict[str, list] = {"v": [], "vt": [], "vn": []}
        self.material_of: list[int] = []
        self.line_of: list[int] = []
        self.materials: dict[str, int] = {}
        self.material = -1
        self.library = False

    def read(self, lines: Iterable[str]) -> None:
        continued, first = "", 0
        for number, line in enumerate(lines, 1):
            if continued:
                line, number = f"{continued} {line}", first
            if line.rstrip().endswith("\\"):
                continued, first = line.rstrip()[:-1], number
                continue
            continued = ""
            words = line.split()
            if not words:
                continue
            kind = words[0]
            if kind == "v" or kind == "vn":
                self._vector(kind, words[1:4], 3, number, line)
            elif kind == "vt":
                self._vector(kind, words[1:3], 2, number, line)
            elif kind == "f":
                self._face(words[1:], number, line)
            elif kind == "usemtl":
                name = " ".join(words[1:])
                self.material = self.materials.setdefault(name, len(self.materials))
            elif kind == "mtllib":
                self.library = True
        if continued:
            self._fail(first, "complete", continued + "\\")

    def tensors(self, device: torch.device | str | int) -> tuple[Tensor, Faces, Tensor, Tensor]:
        values = {
            kind: torch.tensor(rows, dtype=torch.float32, device=device).reshape(-1, 2 if kind == "vt" else 3)
            for kind, rows in self.values.items()
        }
        indices = {}
        for kind, rows in self.indices.items():
            index = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
            beyond = (index >= len(values[kind])).any(1)
            if beyond.any():
                row = int(beyond.nonzero()[0])
                expected = f"of indices up to {len(values[kind])}, the number of {kind} lines"
                self._fail(self.line_of[row], expected, f"{int(index[row].max()) + 1}")
            indices[kind] = index.to(device)
        materials = torch.tensor(self.material_of, dtype=torch.int64, device=device)
        faces = Faces(indices["v"], indices["vn"], indices["vt"], materials)
        return values["v"], faces, values["vn"], values["vt"]

    def _vector(self, kind: str, words: list[str], width: int, number: int, line: str) -> None:
        try:
            vector = [float(word) for word in words]
        except ValueError:
            vector = []
        # normals that are nan come from degenerate faces, and nothing need use them
        if len(vector) != width or (kind != "vn" and not all(-_LARGEST <= x <= _LARGEST for x in vector)):
            self._fail(number, f"'{kind}' and {width} finite numbers", line)
        self.values[kind].append(vector)

    def _face(self, words: list[str], number: int, line: str) -> None:
        corners = []
        for word in words:
            if word.startswith("#"):
                break
            corners.append(word.split("/"))
        if len(corners) < 3:
            self._fail(number, "'f' and three corners or more", line)
        if any(len(corner) > 3 for corner in corners):
            self._fail(number, "a face of v, v/vt, v//vn or v/vt/vn", line)
        for place, kind in enumerate(("v", "vt", "vn")):
            numbers = [corner[place] if len(corner) > place else "" for corner in corners]
            if place and not any(numbers):
                self.indices[kind].extend([(-1, -1, -1)] * (len(corners) - 2))
                continue
            try:
                index = [int(word) for word in numbers]
            except ValueError:
                self._fail(number, "a face of v, v/vt, v//vn or v/vt/vn, alike at all its corners", line)
            seen = len(self.values[kind])
            if 0 in index or min(index) < -seen or max(index) > 2**31:
                self._fail(number, f"of indices from 1, or from -1 back to {-seen}", line)
            index = [i - 1 if i > 0 else seen + i for i in index]
            start = index[0]
            self.indices[kind].extend((start, *pair) for pair in pairwise(index[1:]))
        triangles = len(corners) - 2
        self.material_of.extend([self.material] * triangles)
        self.line_of.extend([number] * triangles)

    def _fail(self, number: int, expected: str, got: str) -> NoReturn:
        got = got.strip()
        shown = repr(got if len(got) <= 80 else f"{got[:77]}...")
        _checks.fail(ValueError, "load_obj", f"line {number} of {self.name}", expected, shown)


def _read(op: str, f: Any, path_manager: Any) -> tuple[str, Iterable[str]]:
    """The name and the lines of a path or a file object."""
    if isinstance(f, (str, bytes, os.PathLike)):
        path = os.fsdecode(f)
        if path_manager is None:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        else:
            with path_manager.open(path, "r") as opened:
                text = opened.read()
        return path, _split(text)
    if not hasattr(f, "read"):
        _checks.fail(TypeError, op, "f", "a path or a file object", type(f).__name__)
    data = f.read()
    text = data.decode("utf-8", errors="replace") if isinstance(data, (bytes, bytearray)) else data
    return str(getattr(f, "name", "the file object")), _split(text)


def _split(text: str) -> list[str]:
    # not splitlines(), to which a form feed in a comment ends the line
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _rows(name: str, values: Any, width: int) -> Tensor:
    """[*, width] finite float64 on the CPU; empty tensors of any shape are no rows."""
    _checks.tensor("save_obj", name, values)
    if not values.is_floating_point():
        _checks.fail(TypeError, "save_obj", name, "a float tensor", str(values.dtype))
    values = values.detach().to("cpu", torch.float64)
    if values.numel() == 0:
        return values.reshape(0, width)
    _checks.shape("save_obj", name, values, (-1, width))
    if not values.isfinite().all():
        _checks.fail(ValueError, "save_obj", name, "finite", "nan or inf")
    return values


def _indices(name: str, faces: Any, rows: Tensor, like: Tensor | None) -> Tensor:
    """int64 [F, 3] on the CPU, in range; with `like` [F, 3] given, rows of -1 are in range too."""
    _checks.tensor("save_obj", name, faces)
    if faces.numel() == 0:
        faces = torch.zeros((0, 3), dtype=torch.int64)
    if faces.is_floating_point() or faces.is_complex() or faces.dtype == torch.bool:
        _checks.fail(TypeError, "save_obj", name, "integers", str(faces.dtype))
    _checks.shape("save_obj", name, faces, (-1 if like is None else len(like), 3))
    faces = faces.detach().long().cpu()
    used = faces if like is None else faces[~(faces == -1).all(1)]
    if used.numel() and not 0 <= int(used.min()) <= int(used.max()) < len(rows):
        got = f"{int(used.min())}..{int(used.max())}"
        _checks.fail(ValueError, "save_obj", name, f"in [0, {len(rows)})", got)
    return faces


def _lines(prefix: str, rows: Tensor, digits: int) -> str:
    line = " ".join([prefix, *[f"%.{digits}f"] * rows.shape[1]]) + "\n"
    return (line * len(rows)) % tuple(rows.flatten().tolist())


def _face_lines(columns: list[Tensor], used: list[str]) -> str:
    """'f' lines of the indices of `used`: v, and perhaps vt and vn, counted from 1."""
    count = len(columns[0])
    by_name = dict(zip(used, (torch.stack(columns) + 1).tolist(), strict=True)) if count else {}
    lines = []
    for face in range(count):
        corners = [str(i) for i in by_name["v"][face]]
        uvs, normals = (by_name[kind][face] if kind in by_name else [0, 0, 0] for kind in ("vt", "vn"))
        if normals[0]:
            corners = [f"{v}/{t or ''}/{n}" for v, t, n in zip(corners, uvs, normals, strict=True)]
        elif uvs[0]:
            corners = [f"{v}/{t}" for v, t in zip(corners, uvs, strict=True)]
        lines.append(f"f {' '.join(corners)}\n")
    return "".join(lines)


def _write(op: str, f: Any, text: str, path_manager: Any) -> None:
    if isinstance(f, (str, os.PathLike)) and path_manager is None:
        path = Path(f).resolve()  # what a link names is replaced, not the link
        temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return
    if isinstance(f, (str, os.PathLike)):
        opened = path_manager.open(os.fspath(f), "w")
    elif hasattr(f, "write"):
        opened = nullcontext(f)
    else:
        _checks.fail(TypeError, op, "f", "a path or a file object", type(f).__name__)
    with opened as file:
        file.write(text.encode() if isinstance(file, (io.RawIOBase, io.BufferedIOBase)) else text)
