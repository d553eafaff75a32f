"""Loaders of other people's face models, each on a small file of the layout that its makers give out."""

import json
import pickle
import struct
import sys
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch

from focus import FaceModel
from focus.face_model.bfm2017 import CROPPED_LANDMARKS, FULL_LANDMARKS
from focus.face_model.safe_pickle import read_pickle, to_array

ICT_FILE = Path(__file__).parents[2] / "shared" / "models" / "ict_facekit_face.npz"


def dome(num_vertices: int, columns: int, size: float):
    """A smooth cap around +z, `size` mm wide: vertices [V, 3] float64 in rows, and faces that look outward."""
    i, j = np.divmod(np.arange(num_vertices), columns)
    rows = num_vertices // columns
    x, y = size * (j / (columns - 1) - 0.5), size * (0.5 - i / max(rows - 1, 1))
    vertices = np.stack([x, y, 100 - (x**2 + y**2) / (2 * size)], axis=1)
    a = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    faces = np.concatenate([np.stack([a, a + columns, a + 1], 1), np.stack([a + 1, a + columns, a + columns + 1], 1)])
    return vertices, faces


def outward(model: FaceModel) -> bool:
    corners = model.mean_shape[model.topology.faces.long()]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return bool(((corners.mean(1) - model.mean_shape.mean(0)) * normals).sum() > 0)


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
    kept = np.array(sorted({v for f in faces.tolist() for v in f if all(inside_focus_crop(vertices[w]) for w in f)}))
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


# FLAME


class Ch:
    """A stand-in for chumpy's constant: it pickles as an object with a dictionary that holds the array as `x`."""

    def __init__(self, x):
        self.x, self._dirty_vars, self._itr, self._depends_on_deps = x, {"x"}, None, {}


Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"


@pytest.fixture
def chumpy(monkeypatch):
    module = ModuleType("chumpy.ch")
    module.Ch = Ch
    monkeypatch.setitem(sys.modules, "chumpy", ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return monkeypatch


def flame_arrays(seed=0):
    """The contents of generic_model.pkl, in metres."""
    rng = np.random.default_rng(seed)
    vertices, faces = dome(132, 12, 160)
    return {
        "v_template": vertices / 1000,
        "f": faces.astype(np.uint32),
        "shapedirs": rng.normal(size=(132, 3, 400)),
        "posedirs": rng.normal(size=(132, 3, 36)),
        "J_regressor": scipy.sparse.csc_matrix(np.eye(5, 132)),
        "kintree_table": np.zeros((2, 5), np.int64),
        "weights": rng.uniform(size=(132, 5)),
        "bs_type": "lrotmin",
        "bs_style": "lbs",
    }


def check_flame(model: FaceModel, arrays, origin=(0.0, 0.0, 0.0)):
    np.testing.assert_allclose(model.mean_shape, 1000 * arrays["v_template"] + origin, atol=1e-10)
    directions = 1000 * arrays["shapedirs"].transpose(2, 0, 1)
    np.testing.assert_array_equal(model.identity_basis, directions[:300])
    np.testing.assert_array_equal(model.expression_basis, directions[300:])
    np.testing.assert_array_equal(model.topology.faces, arrays["f"])
    assert model.albedo_basis.shape == (0, 132, 3)
    skin = model.albedo(torch.zeros(2, 0, dtype=torch.float64))
    assert torch.equal(skin, model.mean_albedo.expand(2, -1, -1)) and skin.min() > 0.1 and skin.max() < 0.9


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("old_numpy", [False, True], ids=["numpy 2", "numpy 1"])
def test_flame_pickle(tmp_path, chumpy, protocol, old_numpy):
    arrays = flame_arrays()
    held = {**arrays, "shapedirs": Ch(arrays["shapedirs"]), "posedirs": Ch(arrays["posedirs"])}
    data = pickle.dumps(held, protocol)
    if old_numpy and protocol < 4:  # from 4 on names carry their length
        data = data.replace(b"numpy._core.", b"numpy.core.").replace(b"scipy.sparse._csc", b"scipy.sparse.csc")
        assert b"_core" not in data
    chumpy.delitem(sys.modules, "chumpy.ch")
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(data)
    model = FaceModel.load(path, dtype=torch.float64)
    check_flame(model, arrays)
    assert model.landmarks is None


def python2_array(array: np.ndarray) -> bytes:
    """The opcodes with which numpy 1 under Python 2 pickled an array, protocol 2: raw bytes as a Python 2 string."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def integer(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    kind = array.dtype.str[1:].encode()
    dtype = (
        b"cnumpy\ndtype\n(" + text(kind) + b"K\x00K\x01tR(K\x03" + text(b"<") + b"NNN" + integer(-1) * 2 + b"K\x00tb"
    )
    raw = array.tobytes()
    shape = b"(" + b"".join(map(integer, array.shape)) + b"t"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR(K\x01" + shape + dtype
        + b"\x89T" + struct.pack("<I", len(raw)) + raw + b"tb"
    )  # fmt: skip


def test_flame_pickle_of_python_2(tmp_path):
    arrays = flame_arrays()
    ch = (
        b"ccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtR}(U\x01x"
        + python2_array(arrays["shapedirs"])
        + b"U\x0b_dirty_varsc__builtin__\nset\n](U\x01xe\x85R"
        + b"ub"
    )
    data = b"\x80\x02}(U\x01f" + python2_array(arrays["f"]) + b"U\x09shapedirs" + ch
    data += b"U\x0av_template" + python2_array(arrays["v_template"]) + b"U\x07bs_typeU\x07lrotminu."
    (tmp_path / "model.pkl").write_bytes(data)
    check_flame(FaceModel.load(tmp_path / "model.pkl", dtype=torch.float64), arrays)


def test_flame_npz(tmp_path):
    arrays = flame_arrays()
    plain = {key: value for key, value in arrays.items() if isinstance(value, np.ndarray)}
    # Converted files keep what they could not convert as objects; those are not read.
    np.savez(tmp_path / "flame.npz", **plain, J_regressor=np.array(arrays["J_regressor"], object))
    check_flame(FaceModel.load(tmp_path / "flame.npz", dtype=torch.float64), arrays)
    few = FaceModel.load(tmp_path / "flame.npz", components=(100, 50, 80))
    expected = 1000 * arrays["shapedirs"].transpose(2, 0, 1)
    np.testing.assert_allclose(few.shape_basis, np.concatenate([expected[:100], expected[300:350]]), rtol=1e-6)


def embedding(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, len(flame_arrays()["f"]), 68), rng.dirichlet([1, 1, 1], 68)


@pytest.mark.parametrize("layout", ["full", "static and jaw", "npz"])
def test_flame_landmark_embedding(tmp_path, layout):
    arrays = flame_arrays()
    np.savez(tmp_path / "flame.npz", **{key: arrays[key] for key in ("v_template", "f", "shapedirs")})
    triangles, weights = embedding()
    path = tmp_path / ("embedding.npz" if layout == "npz" else "embedding.npy")
    if layout == "npz":
        np.savez(path, lmk_faces_idx=triangles, lmk_bary_coords=weights)
    else:
        # As given out: a dictionary in an object array, with torch tensors beside the numpy arrays.
        jaw = np.stack([triangles[:17], triangles[:17] * 0]), np.stack([weights[:17], weights[:17] * 0])
        table = {
            "static_lmk_faces_idx": triangles[17:],
            "static_lmk_bary_coords": weights[17:],
            "dynamic_lmk_faces_idx": torch.from_numpy(jaw[0]) if layout == "full" else jaw[0],
            "dynamic_lmk_bary_coords": torch.from_numpy(jaw[1]) if layout == "full" else jaw[1],
        }
        if layout == "full":
            table |= {"full_lmk_faces_idx": triangles[None], "full_lmk_bary_coords": weights[None]}
        np.save(path, table, allow_pickle=True)
    model = FaceModel.load(tmp_path / "flame.npz", landmarks=path, dtype=torch.float64)
    expected = [arrays["f"][t][np.argmax(w)] for t, w in zip(triangles, weights, strict=True)]
    np.testing.assert_array_equal(model.landmarks, expected)
    # The eye corners are put where BFM 2017 has them in FOCUS's frame.
    np.testing.assert_allclose(model.mean_shape[model.landmarks[[36, 39, 42, 45]]].mean(0), [0, 32.76, -9.8], atol=1e-9)
    shift = np.array([0, 32.76, -9.8]) - 1000 * arrays["v_template"][np.array(expected)[[36, 39, 42, 45]]].mean(0)
    check_flame(model, arrays, shift)


def test_flame_errors(tmp_path):
    arrays = flame_arrays()
    path = tmp_path / "flame.pkl"

    def message(value, **options) -> str:
        path.write_bytes(pickle.dumps(value, 2))
        with pytest.raises(ValueError, match=r"expected .*flame\.pkl") as error:
            FaceModel.load(path, **options)
        return str(error.value)

    del arrays["J_regressor"]
    assert "FLAME's dictionary" in message([1, 2])
    assert "no shapedirs among" in message({**arrays, "shapedirs": "text"})
    assert "v_template, f, shapedirs, got no f" in message({key: arrays[key] for key in ("v_template", "shapedirs")})
    assert "shapedirs in" in message({**arrays, "shapedirs": arrays["shapedirs"][:, :, :10]})
    assert "f in" in message({**arrays, "f": arrays["f"] + 1})
    triangles, weights = embedding()
    np.savez(tmp_path / "flame.npz", **{key: arrays[key] for key in ("v_template", "f", "shapedirs")})
    for table, text in (
        ({"full_lmk_faces_idx": triangles + 999, "full_lmk_bary_coords": weights}, r"triangles in 0\.\."),
        ({"lmk_face_idx": triangles[:51], "lmk_b_coords": weights[:51]}, "51 without a jaw"),
        ({"full_lmk_faces_idx": triangles[:5], "full_lmk_bary_coords": weights}, "68 landmarks, got 5"),
        ({"other": triangles}, "landmark embedding .* got the keys other"),
    ):
        np.save(tmp_path / "e.npy", table, allow_pickle=True)
        with pytest.raises(ValueError, match=text):
            FaceModel.load(tmp_path / "flame.npz", landmarks=tmp_path / "e.npy")


# Pickles that try to do something


class Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile_pickles(mark: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would create the file `mark`, and the name that the error must say."""
    import os

    touch = f"open({str(mark)!r}, 'w')"
    array = pickle.dumps(np.zeros(3), 2)
    return {
        "os.system": (pickle.dumps(Call(os.system, f"touch {mark}"), 2), "posix.system"),
        "exec": (pickle.dumps({"f": Call(exec, touch)}, 4), "builtins.exec"),
        "open": (pickle.dumps(Call(open, str(mark), "w"), 4), "io.open"),
        "python 2 eval": (b"c__builtin__\neval\n(V" + touch.encode() + b"\ntR.", "__builtin__.eval"),
        "instance": (b"(Vtouch\nios\nsystem\n.", "os.system"),
        "allowed module": (b"cnumpy\nload\n(Vx\ntR.", "numpy.load"),
        "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.", "numpy.dtype.__init__"),
        "getattr": (b"cbuiltins\ngetattr\n(cnumpy\ndtype\nV__init__\ntR.", "builtins.getattr"),
        "import": (b"cbuiltins\n__import__\n(Vos\ntR.", "builtins.__import__"),
        "after an array": (array[:-1] + b"0cposix\nsystem\n(Vtouch\ntR.", "posix.system"),
        "persistent": (b"\x80\x02U\x01xQ.", "outside the file"),
        "chumpy function": (b"cchumpy.ch\nload\n)R.", "chumpy.ch.load"),
    }


@pytest.mark.parametrize("name", hostile_pickles(Path("mark")))
@pytest.mark.parametrize("kind", ["model", "landmarks"])
def test_hostile_pickles_are_refused_by_name(tmp_path, name, kind):
    mark = tmp_path / "mark"
    data, culprit = hostile_pickles(mark)[name]
    path = tmp_path / "model.pkl"
    if kind == "model":
        path.write_bytes(data)
        arguments = {"path": path}
    else:
        arrays = flame_arrays()
        np.savez(tmp_path / "flame.npz", **{key: arrays[key] for key in ("v_template", "f", "shapedirs")})
        np.save(tmp_path / "e.npy", {"a": 1}, allow_pickle=True)
        npy = (tmp_path / "e.npy").read_bytes()
        (tmp_path / "e.npy").write_bytes(npy[: npy.index(b"\n") + 1] + data)
        arguments = {"path": tmp_path / "flame.npz", "landmarks": tmp_path / "e.npy"}
    with pytest.raises(ValueError, match="to be a pickle of plain arrays, got an error") as error:
        FaceModel.load(**arguments)
    assert culprit in str(error.value)
    assert not mark.exists()


def test_permitted_names_do_nothing_either(tmp_path):
    """Names on the list are records: even what they would do when called, or with a hostile state, does not happen."""
    for data in (
        b"ctorch.storage\n_load_from_bytes\n(C\x10cposix\nsystem\n(VtR\x85R.",
        b"cchumpy.ch\nCh\n)\x81}U\x0c__setstate__cnumpy\nndarray\nsb.",
        b"cnumpy\nndarray\n}U\x0c__setstate__Vx\nsb.",  # the state of a class instead of an object
        b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.",
    ):
        try:
            value = read_pickle(data, tmp_path / "x", "test()")
        except ValueError:
            continue
        assert to_array(value) is None


def test_impossible_arrays_are_no_arrays(tmp_path):
    good = pickle.dumps(np.arange(6.0).reshape(2, 3), 2)
    assert to_array(read_pickle(good, tmp_path, "test()")).shape == (2, 3)
    for old, new in ((b"K\x02K\x03\x86", b"K\x02K\x04\x86"), (b"f8", b"O8"), (b"f8", b"f4"), (b"f8", b"V8")):
        assert old in good
        assert to_array(read_pickle(good.replace(old, new, 1), tmp_path, "test()")) is None
    ring = b"cchumpy.ch\nCh\n)\x81q\x00}U\x01xh\x00sb."  # a constant whose value is itself
    assert to_array(read_pickle(ring, tmp_path, "test()")) is None
    empty = pickle.dumps(np.zeros((0, 3)), 2).replace(b"K\x00K\x03\x86", b"K\x00\x8a\x10" + b"\x7f" * 16 + b"\x86")
    assert to_array(read_pickle(empty, tmp_path, "test()")) is None


def test_damaged_pickles_give_one_kind_of_error(tmp_path, chumpy):
    arrays = flame_arrays()
    small = {"v_template": arrays["v_template"][:4], "f": arrays["f"][:2], "shapedirs": Ch(np.zeros((4, 3, 400)))}
    data = pickle.dumps(small, 2)
    chumpy.delitem(sys.modules, "chumpy.ch")
    path = tmp_path / "flame.pkl"
    rng = np.random.default_rng(0)
    for _ in range(400):
        place = int(rng.integers(2, 700)) if rng.uniform() < 0.9 else int(rng.integers(2, len(data)))
        path.write_bytes(data[:place] + bytes([rng.integers(256)]) + data[place + 1 :])
        try:
            FaceModel.load(path)
        except ValueError as error:
            assert "flame.pkl" in str(error)


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
