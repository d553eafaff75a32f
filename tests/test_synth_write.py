"""Folders of synthetic faces: complete, readable by the rest of the package, and resumable."""

import json

import numpy as np
import pytest
import torch

from focus import FaceModel, read_landmarks_csv
from focus.images import read_image
from focus.inputs import find_photos, match_landmarks
from focus.synth import SyntheticFaces, read_parameters, write_samples
from focus.synth import write as write_module


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


def dataset(model, count=5, **options):
    return SyntheticFaces(count, **({"size": 48, "model": model, "seed": 9} | options))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_hold_the_samples(model, tmp_path):
    data = dataset(model)
    seen = []
    assert write_samples(data, tmp_path / "faces", batch=2, progress=lambda *args: seen.append(args)) == 5
    assert seen == [(2, 5), (4, 5), (5, 5)]
    folder = tmp_path / "faces"
    for index in range(5):
        sample, name = data[index], f"{index:06d}"
        assert np.array_equal(
            read_image(folder / f"images/{name}.png"), (sample.image * 255).round().byte().permute(1, 2, 0).numpy()
        )
        for kind, plane in (("masks", sample.visible), ("faces", sample.face)):
            grey = read_image(folder / kind / f"{name}.png")[:, :, 0]
            assert np.array_equal(grey, (plane[0] * 255).round().byte().numpy())
        stored = read_parameters(folder / f"parameters/{name}.safetensors")
        assert all(torch.equal(a, b) for a, b in zip(stored.parameters, sample.parameters, strict=True))
        assert torch.equal(stored.landmarks, sample.landmarks)
        assert stored.occluders == sample.occluders
    assert not [name for name in contents(tmp_path) if name.endswith(".tmp")]


def test_the_landmarks_belong_to_the_images(model, tmp_path):
    data = dataset(model)
    write_samples(data, tmp_path)
    table = read_landmarks_csv(tmp_path / "landmarks.csv")
    photos = find_photos([tmp_path / "images"])
    assert len(photos) == len(table) == 5
    for index, points in enumerate(match_landmarks(photos, table)):
        assert np.allclose(points, data[index].landmarks.numpy(), atol=6e-5)


def test_a_stopped_run_goes_on(model, tmp_path, monkeypatch):
    data = dataset(model)
    write_samples(data, tmp_path / "whole")
    original, written = write_module._write_sample, []

    def failing(folder, index, sample):
        if index == 3:
            raise OSError(28, "No space left on device")
        written.append(index)
        original(folder, index, sample)

    monkeypatch.setattr(write_module, "_write_sample", failing)
    with pytest.raises(OSError, match="No space left"):
        write_samples(data, tmp_path / "part", batch=2)
    assert written == [0, 1, 2]
    assert not (tmp_path / "part/landmarks.csv").exists()
    monkeypatch.setattr(write_module, "_write_sample", original)
    before = (tmp_path / "part/images/000001.png").stat().st_mtime_ns
    assert write_samples(data, tmp_path / "part", batch=4) == 2
    assert (tmp_path / "part/images/000001.png").stat().st_mtime_ns == before
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")


def test_an_item_without_its_image_is_made_again(model, tmp_path):
    data = dataset(model)
    write_samples(data, tmp_path)
    before = contents(tmp_path)
    (tmp_path / "images/000002.png").unlink()
    (tmp_path / "masks/000002.png").write_bytes(b"half")
    assert write_samples(data, tmp_path) == 1
    assert contents(tmp_path) == before
    assert write_samples(data, tmp_path) == 0


def test_a_larger_count_adds_items(model, tmp_path):
    write_samples(dataset(model, 3), tmp_path / "grown")
    assert write_samples(dataset(model, 5), tmp_path / "grown") == 2
    write_samples(dataset(model, 5), tmp_path / "once")
    assert contents(tmp_path / "grown") == contents(tmp_path / "once")


def test_another_recipe_is_refused(model, tmp_path):
    write_samples(dataset(model, 1), tmp_path)
    before = contents(tmp_path)
    for options, difference in (
        ({"seed": 8}, "seed 8, got seed 9"),
        ({"kinds": ("hair",)}, r"kinds \['hair'\], got kinds \["),
        ({"size": 64}, "size 64, got size 48"),
    ):
        with pytest.raises(ValueError, match=difference):
            write_samples(dataset(model, 1, **options), tmp_path)
    assert contents(tmp_path) == before
    (tmp_path / "recipe.json").write_text("[1")
    with pytest.raises(ValueError, match=r"recipe\.json to be a recipe in JSON"):
        write_samples(dataset(model, 1), tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="a recipe in JSON, got list"):
        write_samples(dataset(model, 1), tmp_path)


def test_bad_arguments_and_files_are_named(model, tmp_path):
    with pytest.raises(ValueError, match="expected batch to be >= 1, got 0"):
        write_samples(dataset(model), tmp_path, batch=0)
    (tmp_path / "x.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="to be a file of write_samples"):
        read_parameters(tmp_path / "x.safetensors")
    with pytest.raises(OSError):
        read_parameters(tmp_path / "none.safetensors")


def test_processes_write_what_one_writes(model, tmp_path):
    for workers in (1, 2):
        assert write_samples(dataset(model), tmp_path / str(workers), batch=2, workers=workers) == 5
    assert contents(tmp_path / "2") == contents(tmp_path / "1")
