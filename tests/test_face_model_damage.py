"""Damaged files of every layout: an error that names the file, never another exception, a hang or a crash."""

import pickle

import h5py
import numpy as np
import pytest
import scipy.io
from face_models import METADATA, dome, flame_arrays, model_arrays

from focus import FaceModel
from focus.face_model.format import write_model
from focus.face_model.mat5 import read_mat


def write_bfm2017(path):
    vertices, faces = dome(300, 20, 80)
    with h5py.File(path, "w") as file:
        for name in ("shape", "expression", "color"):
            file[f"{name}/model/mean"] = vertices.reshape(-1) if name == "shape" else np.zeros(900)
            file[f"{name}/model/pcaBasis"] = np.ones((900, 2), np.float32)
            file[f"{name}/model/pcaVariance"] = np.ones(2, np.float32)
        file["shape/representer/cells"] = faces.T


def write_bfm2009(path, compress):
    vertices, faces = dome(120, 12, 160)
    basis = np.ones((360, 2))
    arrays = {"meanshape": vertices.reshape(1, -1), "meantex": vertices.reshape(1, -1)}
    arrays |= {
        "idBase": basis,
        "exBase": basis,
        "texBase": basis,
        "tri": faces + 1,
        "keypoints": np.arange(1, 69)[None],
    }
    scipy.io.savemat(path, arrays, do_compression=compress)


def small_flame():
    arrays = flame_arrays()
    return {"v_template": arrays["v_template"][:24], "f": arrays["f"][:3] % 24, "shapedirs": np.zeros((24, 3, 400))}


def write_ict(path):
    vertices, faces = dome(120, 12, 160)
    moves = np.zeros((2, 120, 3), np.float16)
    np.savez_compressed(
        path, mean=vertices, faces_full=faces, identity=moves, expression=moves, landmarks68=np.arange(68)
    )


WRITERS = {
    "own.safetensors": lambda path: write_model(path, model_arrays(), METADATA),
    "bfm2017.h5": write_bfm2017,
    "bfm2009.mat": lambda path: write_bfm2009(path, False),
    "bfm2009_small.mat": lambda path: write_bfm2009(path, True),
    "flame.pkl": lambda path: path.write_bytes(pickle.dumps(small_flame(), 2)),
    "flame.npz": lambda path: np.savez(path, **small_flame()),
    "ict.npz": write_ict,
}


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    assert FaceModel.load(path).num_vertices >= 24
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(150):
        damaged = bytearray(data)
        if trial % 5 == 0:
            del damaged[int(rng.integers(len(data))) :]
        else:
            # Half of the changes where headers are: most of a file is numbers, where a wrong byte is a wrong number.
            reach = min(len(data), 1500) if trial % 2 else len(data)
            for place in rng.integers(reach, size=3):
                damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            FaceModel.load(path)
        except ValueError as error:
            assert name in str(error)


def test_mat_files_are_read_as_scipy_reads_them(tmp_path):
    rng = np.random.default_rng(0)
    numbers = {
        "double": rng.normal(size=(30, 4)), "single": np.ones((2, 3, 4), np.float32),
        "row": np.arange(7, dtype=np.int32), "bytes": np.array([[1, 2]], np.int8),
        "wide": np.arange(9, dtype=np.uint64).reshape(3, 3),
        "scalar": np.array(3.5), "empty": np.zeros((0, 3)), "a_name_of_more_than_eight_letters": np.ones((5, 1)),
    }  # fmt: skip
    others = {"text": "abc", "cell": np.array([1, "x"], object), "complex": np.ones(3) * 1j, "struct": {"field": 1}}
    path = tmp_path / "x.mat"
    for compress in (False, True):
        scipy.io.savemat(path, numbers | others, do_compression=compress)
        arrays, names = read_mat(path, [*numbers, *others, "absent"])
        assert sorted(names) == sorted([*numbers, *others])
        assert arrays.keys() == numbers.keys()
        for key, theirs in scipy.io.loadmat(path, variable_names=list(numbers)).items():
            if key in numbers:
                assert arrays[key].dtype == theirs.dtype
                np.testing.assert_array_equal(arrays[key], theirs)
