"""The file format: reproducible, atomic, and damage is told."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from face_models import METADATA, model_arrays

from focus import FaceModel
from focus.face_model.format import read_model, write_model


@pytest.fixture
def model_file(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    write_model(path, model_arrays(), METADATA)
    return path


def test_write_is_reproducible_and_safetensors_reads_it(tmp_path):
    arrays = model_arrays()
    write_model(tmp_path / "a", arrays, METADATA)
    write_model(tmp_path / "b", dict(reversed(arrays.items())), dict(reversed(METADATA.items())))
    data = (tmp_path / "a").read_bytes()
    assert data == (tmp_path / "b").read_bytes()
    theirs = safetensors.numpy.load(data)
    assert theirs.keys() == arrays.keys()
    for key, value in arrays.items():
        assert theirs[key].dtype == value.dtype
        np.testing.assert_array_equal(theirs[key], value)
    assert read_model(tmp_path / "a")[1].items() >= METADATA.items()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]


def test_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(b"old")

    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_model(path, model_arrays(), METADATA)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_truncated_and_damaged_files(model_file):
    data = model_file.read_bytes()
    for length in [*range(1, 200, 13), len(data) // 2, len(data) - 1]:
        model_file.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"expected .*model\.safetensors to "):
            FaceModel.load(model_file)
    for place in range(0, len(data), len(data) // 50):
        model_file.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        with pytest.raises(ValueError, match="the file is damaged" if place > 1500 else None):
            FaceModel.load(model_file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"faces": None}, "hold the arrays .* a file without faces"),
        ({"weights": np.zeros(3, np.float32)}, "hold no other arrays .* got weights"),
        ({"faces": np.zeros((4, 3), np.float32)}, "hold faces as int32 or int64, got float32"),
        ({"faces": np.zeros((4, 4), np.int32)}, r"hold faces of shape \[\*, 3\], got \[4, 4\]"),
        ({"faces": np.full((4, 3), 81, np.int32)}, r"hold faces in 0\.\.80, got 81\.\.81"),
        ({"mean_shape": np.zeros((81, 3), np.int32)}, "hold mean_shape as float16"),
        ({"identity_basis": np.zeros((4, 80, 3), np.float32)}, r"hold identity_basis of shape \[\*, 81, 3\]"),
        ({"symmetry": np.full(81, -1, np.int32)}, r"hold symmetry in 0\.\.80"),
        ({"landmarks": np.zeros((3, 67), np.int32)}, r"hold landmarks of shape \[\*, 68\]"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, change, message):
    arrays = {key: value for key, value in {**model_arrays(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        write_model(tmp_path / "m", arrays, METADATA)
    assert not list(tmp_path.iterdir())
    safetensors.numpy.save_file(arrays, tmp_path / "m", {**METADATA, "format": "focus-face-model", "version": "1"})
    with pytest.raises(ValueError, match=message):
        FaceModel.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "say format 'focus-face-model' in its metadata, got 'other'"),
        ({"version": "2"}, "have format version '1', got '2'"),
        ({"subdivision": "butterfly"}, "subdivision 'none' or 'loop', got 'butterfly'"),
        ({"subdivision": "none"}, "hold one albedo for each of its 81 vertices"),
        ({"albedo_level": "7"}, "albedo_level in .* to be '0', '1' or '2', got '7'"),
        ({"albedo_level": "0"}, "hold 81 albedos, one for each vertex of level 0, got 289"),
    ],
)
def test_wrong_metadata_is_named(tmp_path, change, message):
    path = tmp_path / "m.safetensors"
    metadata = {**METADATA, "format": "focus-face-model", "version": "1", **change}
    safetensors.numpy.save_file(model_arrays(), path, metadata)
    with pytest.raises(ValueError, match=message):
        FaceModel.load(path)


def test_values_that_are_not_finite_are_refused(tmp_path):
    arrays = model_arrays()
    arrays["expression_basis"][1, 2, 0] = np.inf
    write_model(tmp_path / "m", arrays, METADATA)
    with pytest.raises(ValueError, match="expected shape_basis of made here to be finite"):
        FaceModel.load(tmp_path / "m")
