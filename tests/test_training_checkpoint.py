"""Checkpoint files: what is written is read, and whatever happens to one, an older one is there."""

import errno
import os

import pytest
import torch

from focus.training import Checkpoints

TENSORS = {
    "weights": torch.arange(6.0).view(2, 3),
    "wide": torch.full((3,), 1 / 3, dtype=torch.float64),
    "step": torch.tensor(7.0),
    "count": torch.tensor(2**40),
    "state": torch.arange(256, dtype=torch.uint8),
    "empty": torch.zeros(0, 4),
}
STATE = {"stage": "em", "skipped": 3, "settings": {"size": 32, "text": "ä"}}


def save(checkpoints, *iterations, **keywords):
    return [checkpoints.save(iteration, TENSORS, STATE, **keywords) for iteration in iterations]


def test_what_is_written_is_read(tmp_path):
    (path,) = save(Checkpoints(tmp_path / "new"), 12)
    found = Checkpoints.read(path)
    assert (found.iteration, found.state, found.path) == (12, STATE, path)
    assert found.tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert found.tensors[name].dtype == value.dtype and found.tensors[name].shape == value.shape
        assert torch.equal(found.tensors[name], value)
    found.tensors["weights"].add_(1)  # memory of its own, that may be written


def test_the_newest_and_the_permanent_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, 1, 2)
    save(checkpoints, 3, permanent=True)
    save(checkpoints, 4, 5, 100)
    assert [int(path.stem.split("-")[1]) for path in checkpoints.paths()] == [100, 5, 3]
    assert checkpoints.latest().iteration == 100


def test_none(tmp_path):
    assert Checkpoints(tmp_path / "none").latest() is None and Checkpoints(tmp_path / "none").paths() == []


def damages(data):
    middle = len(data) // 2
    yield "empty", b""
    for share in (0.02, 0.5, 0.999):
        yield f"cut at {share}", data[: int(share * len(data))]
    yield "flipped bit", data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    yield "zeros at the end", data[:-20] + bytes(20)
    yield "text", b"no such thing"


@pytest.mark.parametrize("number", range(7))
def test_a_damaged_newest_is_passed_over(tmp_path, number):
    old, new = save(Checkpoints(tmp_path), 1, 2)
    _, data = list(damages(new.read_bytes()))[number]
    new.write_bytes(data)
    told = []
    assert Checkpoints(tmp_path).latest(told.append).path == old
    assert len(told) == 1 and new.name in told[0]
    with pytest.raises(ValueError, match=new.name):
        Checkpoints.read(new)


def test_all_damaged(tmp_path):
    for path in save(Checkpoints(tmp_path), 1, 2):
        path.write_bytes(path.read_bytes()[:-1])
    told = []
    assert Checkpoints(tmp_path).latest(told.append) is None and len(told) == 2


def test_another_safetensors_file(tmp_path):
    from focus.tensor_file import write_tensors

    path = tmp_path / "iteration-00000001.safetensors"
    write_tensors(path, {}, {"format": "other"})
    with pytest.raises(ValueError, match=r"expected .* to be a focus-training-checkpoint of version 1"):
        Checkpoints.read(path)


def test_full_disk(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1)
    (old,) = save(checkpoints, 1)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            save(checkpoints, 2)
    assert [path.name for path in tmp_path.iterdir()] == [old.name]
    assert checkpoints.latest().iteration == 1


def test_leftovers(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    (path,) = save(checkpoints, 1)
    (tmp_path / ".iteration-00000002.safetensors.123.tmp").write_bytes(b"half")
    assert checkpoints.paths() == [path]
    checkpoints.clean()
    assert list(tmp_path.iterdir()) == [path]


def test_keep_none():
    with pytest.raises(ValueError, match="expected keep to be >= 1, got 0"):
        Checkpoints("x", keep=0)
