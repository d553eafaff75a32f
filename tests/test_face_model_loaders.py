"""Loaders of BFM 2017, BFM 2009 and ICT-FaceKit, each on a small file of the layout that its makers give out."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from face_models import dome, outward

from focus import FaceModel
from focus.face_model.bfm2017 import CROPPED_LANDMARKS, FULL_LANDMARKS

ICT_FILE = Path(__file__).parents[2] / "shared" / "models" / "ict_facekit_face.npz"


# Basel Face Model 2017


def write_bfm2017(path, vertices, faces, components=(3, 2, 4), seed=0):
    """The datasets of model2017-1_bfm_nomouth.h5 that matter: means [3V], bases [3V, K], cells [3, F]."""
    rng = np.random.default_rng(seed)
    V = len(vertices)
    parts = {"shape": vertices, "expression": rng.normal(size=(V, 3)), "color": rng.uniform(size=(V, 3))}
    truth = {}
    with h5py.File(path, "w") as file:
        for (name, mean), K in zip(parts.items(), components, strict=True):
            basis, variance = rng.normal(size=(3 * V, K)).astype(np.float32), rng.uniform(1, 9, K)
            file[f"{name}/model/mean"] = mean.reshape(-1).astype(np.float32)
            file[f"{name}/model/pcaBasis"] = basis
            file[f"{name}/model/pcaVariance"] = variance.astype(np.float32)
            truth[name] = (mean, basis.reshape(V, 3, K) * np.sqrt(variance))
        file["shape/representer/cells"] = faces.T.astype(np.int32)
        file["shape/representer/points"] = vertices.T.astype(np.float32)
        file["metadata/landmarks/json"] = "[]"
    return truth


def inside_focus_crop(p) -> bool:
    """The recipe as the authors' first program has it, for one vertex."""
    x, y = p[0] / p[2], p[1] / p[2]
    low, high = (p[1] + 18) / p[2], (p[1] - 25) / p[2]
    c1 = x**2 / 100**2 + y**2 / 0.75**2 <= 1
    c2 = x**2 / 100**2 + low**2 / 0.62**2 <= 1
    c3 = x**2 / 3.2**2 + high**2 / 0.92**2 <= 1
    return bool((c1 or c2 or c3) and p[2] + 0.05 * p[1] > 20)


def test_bfm2017_full_mesh(tmp_path):
    vertices, faces = dome(300, 20, 200)
    truth = write_bfm2017(tmp_path / "bfm.h5", vertices, faces)
    model = FaceModel.load(tmp_path / "bfm.h5", crop=False, dtype=torch.float64)
    mean = truth["shape"][0] + truth["expression"][0] - [0, 0, 100]
    # The file holds float32: 2^-24 of numbers up to 200, and of basis entries up to 15.
    np.testing.assert_allclose(model.mean_shape, mean, atol=2e-5)
    for basis, name in (
        (model.identity_basis, "shape"), (model.expression_basis, "expression"), (model.albedo_basis, "color"),
    ):  # fmt: skip
        np.testing.assert_allclose(basis, truth[name][1].transpose(2, 0, 1), atol=2e-6)
    np.testing.assert_allclose(model.mean_albedo, truth["color"][0], atol=1e-7)
    np.testing.assert_array_equal(model.topology.faces, faces)
    assert model.landmarks is None  # the published lists are for 53,149 vertices
    assert "Basel" in model.license and outward(model)


def test_bfm2017_crop(tmp_path):
    vertices, faces = dome(2400, 60, 300)
    vertices = np.concatenate([vertices, [[0, 0, 90], [5, 5, 1], [0, 0, -50]]])  # without a face; behind the crop plane
    truth = write_bfm2017(tmp_path / "bfm.h5", vertices, faces)
    model = FaceModel.load(tmp_path / "bfm.h5", dtype=torch.float64)
    kept = {i for i, p in enumerate(vertices) if inside_focus_crop(p)}
    inner = [face for face in faces.tolist() if kept >= set(face)]
    ids = sorted(set(np.ravel(inner)))
    assert 100 < len(ids) < 2000
    assert model.num_vertices == len(ids)
    np.testing.assert_array_equal(np.array(ids)[model.topology.faces], inner)
    mean = truth["shape"][0] + truth["expression"][0] - [0, 0, 100]
    np.testing.assert_allclose(model.mean_shape, mean[ids], atol=2e-5)
    np.testing.assert_allclose(model.identity_basis, truth["shape"][1][ids].transpose(2, 0, 1), atol=2e-6)
    np.testing.assert_allclose(model.albedo_basis, truth["color"][1][ids].transpose(2, 0, 1), atol=2e-6)
    few = FaceModel.load(tmp_path / "bfm.h5", components=(1, 1, 2), dtype=torch.float64)
    assert torch.equal(few.shape_basis, model.shape_basis[[0, 3]])
    assert torch.equal(few.albedo_basis, model.albedo_basis[:2])


def test_bfm2017_faces_that_look_inward_are_turned(tmp_path):
    vertices, faces = dome(300, 20, 200)
    write_bfm2017(tmp_path / "bfm.h5", vertices, faces[:, ::-1])
    assert outward(FaceModel.load(tmp_path / "bfm.h5", crop=False))


def test_bfm2017_landmarks_of_the_full_list(tmp_path):
    """53,149 vertices, as the lists demand. Rows 0-19 are cut off, so all numbers shift and some landmarks are lost."""
    vertices, faces = dome(53149, 211, 160)
    vertices[: 20 * 211, 2] = -10
    write_bfm2017(tmp_path / "bfm.h5", vertices, faces, (1, 1, 1))
    full = FaceModel.load(tmp_path / "bfm.h5", crop=False)
    assert full.landmarks.tolist() == list(FULL_LANDMARKS)
    model = FaceModel.load(tmp_path / "bfm.h5")
    assert model.num_vertices < 53149 and "nearest kept vertices" in model.source
    inside = np.array([inside_focus_crop(p) for p in vertices.tolist()])
    kept = np.unique(faces[inside[faces].all(axis=1)])
    for place, wanted in zip(model.landmarks.tolist(), FULL_LANDMARKS, strict=True):
        if wanted in kept:
            assert kept[place] == wanted
        else:
            distance = np.linalg.norm(vertices[kept] - vertices[wanted], axis=1)
            assert distance[place] == distance.min()
    ids = np.arange(30000, 30068)
    given = FaceModel.load(tmp_path / "bfm.h5", landmarks=ids)
    np.testing.assert_array_equal(kept[given.landmarks], ids)


def test_bfm2017_landmarks_of_the_cropped_list(tmp_path):
    """The authors' second list counts where it names the places of the first: here the crop keeps everything."""
    vertices, faces = dome(53149, 211, 80)
    for new, old in zip(CROPPED_LANDMARKS, FULL_LANDMARKS, strict=True):
        if new not in FULL_LANDMARKS:
            vertices[new] = vertices[old] + [1, 1, 0]  # picked anew, about a millimetre away
    write_bfm2017(tmp_path / "bfm.h5", vertices, faces, (1, 1, 1))
    apart = np.linalg.norm(vertices[list(CROPPED_LANDMARKS)] - vertices[list(FULL_LANDMARKS)], axis=1)
    assert np.median(apart[17:]) < 5 and apart.max() < 30
    model = FaceModel.load(tmp_path / "bfm.h5")
    assert model.num_vertices == 53149 - 53149 % 211  # all but the vertices after the last whole row
    assert model.landmarks.tolist() == list(CROPPED_LANDMARKS)
    assert FaceModel.load(tmp_path / "bfm.h5", crop=False).landmarks.tolist() == list(FULL_LANDMARKS)


def test_bfm2017_errors(tmp_path):
    vertices, faces = dome(300, 20, 200)
    path = tmp_path / "bfm.h5"

    def broken(change) -> str:
        write_bfm2017(path, vertices, faces)
        with h5py.File(path, "a") as file:
            change(file)
        with pytest.raises(ValueError, match="expected") as error:
            FaceModel.load(path)
        assert str(path) in str(error.value)
        return str(error.value)

    def replace(name, value):
        def change(file):
            del file[name]
            file[name] = value

        return change

    assert "the dataset expression/model/pcaBasis" in broken(lambda file: file.__delitem__("expression"))
    assert "cells" in broken(replace("shape/representer/cells", np.full((3, 5), 300)))
    assert "cells" in broken(replace("shape/representer/cells", np.zeros((4, 5), int)))
    assert "[900, K] with K variances, got [900, 3] with [2]" in broken(replace("shape/model/pcaVariance", np.ones(2)))
    assert "color/model/mean" in broken(replace("color/model/mean", np.zeros(300)))
    assert "crop region" in broken(replace("shape/model/mean", np.full(900, -5.0)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"bfm\.h5 to be a complete HDF5 file"):
        FaceModel.load(path)


# Basel Face Model 2009, Deep3D


def bfm2009_arrays(seed=0):
    """BFM_model_front.mat: dm and 0..255, interleaved, bases scaled, numbers from 1."""
    rng = np.random.default_rng(seed)
    vertices, faces = dome(120, 12, 160)
    size = vertices.size
    return {
        "meanshape": (vertices / 100 + [0.1, -0.2, 0.3]).reshape(1, -1),
        "meantex": rng.uniform(0, 255, (1, size)),
        "idBase": rng.normal(size=(size, 6)),
        "exBase": rng.normal(size=(size, 5)),
        "texBase": rng.normal(size=(size, 4)),
        "tri": (faces + 1).astype(np.int32),
        "keypoints": rng.integers(1, 121, (1, 68)).astype(np.int32),
        "point_buf": np.ones((120, 8), np.int32),
        "skinmask": np.ones((1, 120)),
    }, vertices, faces  # fmt: skip


@pytest.mark.parametrize("column", [False, True], ids=["rows", "columns"])
def test_bfm2009(tmp_path, column):
    arrays, vertices, faces = bfm2009_arrays()
    if column:
        arrays["meanshape"], arrays["meantex"] = arrays["meanshape"].T, arrays["meantex"].T
    scipy.io.savemat(tmp_path / "BFM_model_front.mat", arrays)
    model = FaceModel.load(tmp_path / "BFM_model_front.mat", dtype=torch.float64)
    np.testing.assert_allclose(model.mean_shape, vertices - vertices.mean(0), atol=1e-11)
    np.testing.assert_allclose(model.identity_basis, 100 * arrays["idBase"].reshape(120, 3, 6).transpose(2, 0, 1))
    np.testing.assert_allclose(model.expression_basis, 100 * arrays["exBase"].reshape(120, 3, 5).transpose(2, 0, 1))
    np.testing.assert_allclose(model.mean_albedo, arrays["meantex"].reshape(120, 3) / 255)
    np.testing.assert_allclose(model.albedo_basis, arrays["texBase"].reshape(120, 3, 4).transpose(2, 0, 1) / 255)
    np.testing.assert_array_equal(model.topology.faces, faces)
    np.testing.assert_array_equal(model.landmarks, arrays["keypoints"][0] - 1)
    assert FaceModel.load(tmp_path / "BFM_model_front.mat", components=(2, 1, 0)).shape_basis.shape == (3, 120, 3)


def test_bfm2009_errors(tmp_path):
    path = tmp_path / "m.mat"

    def message(**change) -> str:
        arrays = {key: value for key, value in {**bfm2009_arrays()[0], **change}.items() if value is not None}
        scipy.io.savemat(path, arrays)
        with pytest.raises(ValueError, match=r"expected .*m\.mat") as error:
            FaceModel.load(path)
        return str(error.value)

    assert "BFM_model_front.mat" in message(idBase=None) and "without idBase" in message(idBase=None)
    assert "idBase in" in message(idBase=np.zeros((359, 6)))
    assert "meantex in" in message(meantex=np.zeros((1, 3)))
    assert "tri in" in message(tri=np.full((4, 3), 121)) and "tri in" in message(tri=np.zeros((4, 3), int))
    assert "keypoints in" in message(keypoints=np.ones((1, 67)))
    assert "meanshape in" in message(meanshape=np.zeros((1, 4)))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"m\.mat to be a complete \.mat file"):
        FaceModel.load(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"up to version 7, got version 7\.3"):
        FaceModel.load(path)


# ICT-FaceKit


def write_obj(path: Path, vertices, polygons=()):
    """As upstream's files: v, vt and vn lines, quads with `v/vt/vn` corners."""
    lines = ["mtllib ICTFaceModelMaterial.mtl", *(f"v {x:.15f} {y:.15f} {z:.15f}" for x, y, z in vertices)]
    lines += ["vt 0.5 0.5", "vn 0 0 1", "usemtl face"]
    lines += ["f " + " ".join(f"{corner + 1}/1/1" for corner in polygon) for polygon in polygons]
    path.write_text("\n".join(lines) + "\n")


def write_ict(folder: Path, seed=0):
    """9,500 vertices in upstream's order: 9,409 of the full face, of which 6,706 narrow, and some of the rest; cm."""
    rng = np.random.default_rng(seed)
    V, columns = 9500, 100
    vertices = dome(V, columns, 300)[0] / 10
    a = (np.arange(V // columns - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    quads = np.stack([a, a + columns, a + columns + 1, a + 1], axis=1)
    landmarks = rng.choice(6400, 68, replace=False)
    names = ["browDown_L", "jawOpen"]
    moved = {name: vertices + rng.normal(size=(V, 3)) for name in ("identity000", "identity001", *names)}
    write_obj(folder / "generic_neutral_mesh.obj", vertices, quads.tolist())
    for name, positions in moved.items():
        write_obj(folder / f"{name}.obj", positions)
    (folder / "vertex_indices.json").write_text(
        json.dumps({"expressions": names, "idx_to_landmark_verts": landmarks.tolist(), "incompatibilities": []})
    )
    return vertices, quads, landmarks, [positions - vertices for positions in moved.values()]


@pytest.fixture(scope="module")
def ict_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("FaceXModel")
    return folder, write_ict(folder)


@pytest.mark.parametrize("crop", [True, False])
def test_ict_folder(ict_folder, crop):
    folder, (vertices, quads, landmarks, moves) = ict_folder
    model = FaceModel.load(folder, crop=crop, dtype=torch.float64)
    fans = [t for a, b, c, d in quads.tolist() for t in ((a, b, c), (a, c, d)) if max(a, b, c, d) < 9409]
    if crop:
        fans = [t for t in fans if max(t) < 6706]
    ids = sorted(set(np.ravel(fans)))
    np.testing.assert_array_equal(np.array(ids)[model.topology.faces], fans)
    shift = np.array([0, 32.76, -9.8]) - 10 * vertices[landmarks[[36, 39, 42, 45]]].mean(0)
    np.testing.assert_allclose(model.mean_shape, 10 * vertices[ids] + shift, atol=1e-9)
    assert model.num_identity == 2
    np.testing.assert_allclose(model.shape_basis, 10 * np.stack(moves)[:, ids], atol=1e-11)  # 15 digits in the text
    np.testing.assert_array_equal(np.array(ids)[model.landmarks], landmarks)
    assert model.license == "MIT" and len(model.albedo_basis) == 0 and outward(model)


def test_ict_release_with_other_numbers(ict_folder, tmp_path):
    folder, (_, _, landmarks, _) = ict_folder
    for path in folder.glob("*.obj"):
        (tmp_path / path.name).symlink_to(path)
    index = json.loads((folder / "vertex_indices.json").read_text())
    index["idx_to_landmark_verts"][8] = 8746
    (tmp_path / "vertex_indices.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"in the narrow face area, .* since December 2020, got vertex 8746"):
        FaceModel.load(tmp_path)
    assert FaceModel.load(tmp_path, crop=False).landmarks[7] == landmarks[7]


def test_ict_npz_is_the_folder(ict_folder, tmp_path):
    folder, (vertices, quads, landmarks, moves) = ict_folder
    faces = np.array([t for a, b, c, d in quads.tolist() for t in ((a, b, c), (a, c, d)) if max(a, b, c, d) < 9409])
    np.savez(
        tmp_path / "ict.npz",
        mean=vertices[:9409].astype(np.float32),
        faces_full=faces.astype(np.uint16),
        identity=np.stack(moves[:2])[:, :9409].astype(np.float16),
        expression=np.stack(moves[2:])[:, :9409].astype(np.float16),
        landmarks68=landmarks.astype(np.int32),
        expression_names=np.array(["browDown_L", "jawOpen"]),
    )
    for crop in (True, False):
        one, other = FaceModel.load(tmp_path / "ict.npz", crop=crop), FaceModel.load(folder, crop=crop)
        assert torch.equal(one.topology.faces, other.topology.faces)
        assert torch.equal(one.landmarks, other.landmarks)
        torch.testing.assert_close(one.mean_shape, other.mean_shape, rtol=0, atol=1e-4)
        # float16 keeps 11 bits: 2^-12 of displacements up to 50 mm.
        torch.testing.assert_close(one.shape_basis, other.shape_basis, rtol=2**-11, atol=1e-4)


def test_ict_errors(ict_folder, tmp_path):
    with pytest.raises(ValueError, match=r"to hold a face model: .*, got a folder without generic_neutral_mesh\.obj"):
        FaceModel.load(tmp_path)
    vertices = dome(100, 10, 20)[0]
    write_obj(tmp_path / "generic_neutral_mesh.obj", vertices, [(0, 10, 11, 1)])
    index = tmp_path / "vertex_indices.json"
    with pytest.raises(FileNotFoundError, match=r"vertex_indices\.json"):
        FaceModel.load(tmp_path)
    index.write_text('{"expressions": []}')
    with pytest.raises(ValueError, match="'expressions' and 'idx_to_landmark_verts'"):
        FaceModel.load(tmp_path)
    index.write_text(json.dumps({"expressions": ["../../secret"], "idx_to_landmark_verts": [0] * 68}))
    with pytest.raises(ValueError, match=r"to be file names, got '\.\./\.\./secret'"):
        FaceModel.load(tmp_path)
    index.write_text(json.dumps({"expressions": ["smile"], "idx_to_landmark_verts": [0] * 68}))
    with pytest.raises(ValueError, match=r"identity000\.obj and its followers, got none"):
        FaceModel.load(tmp_path)
    write_obj(tmp_path / "identity000.obj", vertices)
    with pytest.raises(FileNotFoundError, match=r"smile\.obj"):
        FaceModel.load(tmp_path)
    write_obj(tmp_path / "smile.obj", vertices[:50])
    with pytest.raises(ValueError, match=r"smile\.obj to have the 100 vertices of .*, got 50"):
        FaceModel.load(tmp_path)
    write_obj(tmp_path / "smile.obj", vertices)
    assert FaceModel.load(tmp_path).num_vertices == 4
    index.write_text(json.dumps({"expressions": ["smile"], "idx_to_landmark_verts": [50] * 68}))
    with pytest.raises(ValueError, match="to lie on its faces"):
        FaceModel.load(tmp_path)
    (tmp_path / "identity000.obj").write_text("v 1 2 three\n")
    with pytest.raises(ValueError, match=r"identity000\.obj to be an OBJ file with three numbers"):
        FaceModel.load(tmp_path)


@pytest.mark.skipif(not ICT_FILE.exists(), reason="the real ICT-FaceKit file is not beside the repository")
def test_real_ict_facekit():
    model = FaceModel.load(ICT_FILE)
    assert (model.num_vertices, model.topology.num_faces, model.num_identity) == (6706, 13120, 100)
    assert FaceModel.load(ICT_FILE, crop=False).num_vertices == 9409
    eyes, chin = model.mean_shape[model.landmarks[[36, 45]]], model.mean_shape[model.landmarks[8]]
    assert 80 < float(eyes[1, 0] - eyes[0, 0]) < 100  # outer eye corners of people are about 90 mm apart
    assert 100 < float(eyes[:, 1].mean() - chin[1]) < 125 and outward(model)


# What the path holds


def test_unknown_files_are_refused(tmp_path):
    path = tmp_path / "model"
    for content, got in ((b"", "an empty file"), (b"solid cube\n", "begins with b'solid cu'")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"to be a face model: a FOCUS \.safetensors file, BFM 2017") as error:
            FaceModel.load(path)
        assert got in str(error.value) and str(path) in str(error.value)
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"to hold ICT-FaceKit's arrays .*, got a$"):
        FaceModel.load(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"to be a complete \.npz file"):
        FaceModel.load(tmp_path / "x.npz")


def test_only_the_free_model_has_levels(ict_folder):
    with pytest.raises(ValueError, match=r"expected level to be left at its default for .*, got 2"):
        FaceModel.load(ict_folder[0], level=2)
