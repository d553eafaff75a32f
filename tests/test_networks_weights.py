"""Files of networks: round trips, the same bytes, and what is said about files that are damaged or foreign."""

import json
import os

import numpy as np
import pytest
import torch
from networks import pattern, picture
from torch import nn

from focus.face_model.load import DEFAULT_ASSET
from focus.networks import (
    FaceRecognizer,
    ReconstructionNetwork,
    SegmentationNetwork,
    SmallEncoder,
    load_network,
    save_network,
)
from focus.networks.weights import fill, read_metadata, read_state_dict
from focus.tensor_file import read_tensors, write_tensors

NETWORKS = {
    "ReconstructionNetwork": lambda: ReconstructionNetwork(3),
    "SmallEncoder": lambda: SmallEncoder(257),
    "SegmentationNetwork": lambda: SegmentationNetwork(4, dropout=0.25),
    "FaceRecognizer": FaceRecognizer,
}


@pytest.fixture
def unet():
    network = SegmentationNetwork(2).eval()
    network.load_state_dict(pattern(network.state_dict()))
    return network


@pytest.fixture
def path(unet, tmp_path):
    path = tmp_path / "unet.safetensors"
    save_network(path, unet)
    return path


def rewrite(path, change):
    """Writes the file again, with a right checksum, after `change(arrays, metadata)`."""
    arrays, metadata = read_tensors(path, "test")
    change(arrays, metadata)
    write_tensors(path, arrays, metadata)


@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip(name, tmp_path):
    network = NETWORKS[name]()
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.randn_like(value))
    save_network(tmp_path / "w.safetensors", network)
    again = load_network(tmp_path / "w.safetensors", nn.Module)
    assert type(again) is type(network) and not again.training
    state = again.state_dict()
    assert list(state) == list(network.state_dict())
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_answers_are_the_same(unet, path):
    x = picture(1, 3, 32, 32)
    assert torch.equal(load_network(path, SegmentationNetwork)(x, x), unet(x, x))


def test_metadata(unet, tmp_path):
    save_network(tmp_path / "w", unet, metadata={"license": "CC0-1.0"})
    metadata = read_metadata(tmp_path / "w")
    assert (metadata["format"], metadata["version"], metadata["license"]) == ("focus-network", "1", "CC0-1.0")
    assert json.loads(metadata["network"]) == {"class": "SegmentationNetwork", "width": 2, "dropout": 0.5}
    save_network(tmp_path / "r", SmallEncoder(7))
    assert json.loads(read_metadata(tmp_path / "r")["network"]) == {"class": "SmallEncoder", "outputs": 7}


def test_same_bytes(unet, path, tmp_path):
    save_network(tmp_path / "second", load_network(path, SegmentationNetwork))
    assert (tmp_path / "second").read_bytes() == path.read_bytes()


def test_half(unet, path, tmp_path):
    save_network(tmp_path / "half", unet, half=True)
    assert (tmp_path / "half").stat().st_size < 0.65 * path.stat().st_size
    for key, value in load_network(tmp_path / "half", SegmentationNetwork).state_dict().items():
        assert value.dtype == unet.state_dict()[key].dtype
        torch.testing.assert_close(value, unet.state_dict()[key], rtol=2**-11, atol=2**-24)
    with torch.no_grad():
        unet.out.bias.fill_(1e5)  # no matrix
    save_network(tmp_path / "half", unet, half=True)
    assert load_network(tmp_path / "half", SegmentationNetwork).out.bias.item() == 1e5
    with torch.no_grad():
        unet.out.weight[0, 1] = 1e5
    with pytest.raises(ValueError, match=r"expected out\.weight to be within float16's range"):
        save_network(tmp_path / "half", unet, half=True)


def test_loading_draws_no_random_numbers(path):
    before = torch.get_rng_state()
    load_network(path, SegmentationNetwork)
    SmallEncoder.pretrained(4)
    assert torch.equal(torch.get_rng_state(), before)


def test_other_dtypes_are_stored_as_float32(unet, tmp_path):
    save_network(tmp_path / "w", unet.bfloat16())
    loaded = load_network(tmp_path / "w", SegmentationNetwork)
    assert torch.equal(loaded.out.weight, unet.out.weight.float()) and loaded.out.weight.dtype == torch.float32


def test_failed_write_leaves_the_old_file(unet, path, monkeypatch):
    before = path.read_bytes()

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with torch.no_grad():
        unet.out.bias.add_(1)
    with pytest.raises(OSError, match="No space left"):
        save_network(path, unet)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_saved(unet, tmp_path):
    with pytest.raises(TypeError, match=r"save_network\(\): expected network to be one of .*, got DataParallel"):
        save_network(tmp_path / "w", nn.DataParallel(unet))
    with pytest.raises(ValueError, match="without the key 'version'"):
        save_network(tmp_path / "w", unet, metadata={"version": "2"})
    with pytest.raises(FileNotFoundError):
        save_network(tmp_path / "no" / "folder", unet)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 5, 100, -1, -4000])
def test_truncated(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"load_network\(\): expected .*unet.safetensors to be a complete safetensors"):
        load_network(path, SegmentationNetwork)


def test_one_wrong_bit(path):
    data = bytearray(path.read_bytes())
    data[-100] ^= 4
    path.write_bytes(data)
    with pytest.raises(ValueError, match="the file is damaged"):
        load_network(path, SegmentationNetwork)


def test_foreign_files(path, tmp_path):
    with pytest.raises(ValueError, match="to say format 'focus-network' in its metadata, got 'focus-face-model'"):
        load_network(DEFAULT_ASSET, nn.Module)
    write_tensors(path, {"x": np.zeros(3, np.float32)}, {})
    with pytest.raises(ValueError, match="to say format 'focus-network' in its metadata, got None"):
        load_network(path, nn.Module)
    path.write_bytes(b"PK\x03\x04 not ours")
    with pytest.raises(ValueError, match="complete safetensors file"):
        load_network(path, nn.Module)
    with pytest.raises(FileNotFoundError):
        load_network(tmp_path / "none", nn.Module)


def test_another_class(path):
    with pytest.raises(ValueError, match="to hold a SmallEncoder, got a SegmentationNetwork"):
        load_network(path, SmallEncoder)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"version": "2"}, "to have format version '1', got '2'"),
        ({"network": ""}, "to name one of ReconstructionNetwork, .*, got ''"),
        ({"network": "[]"}, "to name one of"),
        ({"network": "[" * 100_000}, "to name one of"),
        ({"network": '{"class": "Popen", "width": 2}'}, "to name one of"),
        ({"network": '{"class": ["SmallEncoder"], "outputs": 2}'}, "to name one of"),
        ({"network": '{"class": "SegmentationNetwork", "width": 2}'}, "to say width, dropout of its Seg.*, got width"),
        ({"network": '{"class": "FaceRecognizer", "width": 2}'}, "to say nothing of its FaceRecognizer, got width"),
        ({"network": '{"class": "SegmentationNetwork", "width": "2", "dropout": 0.5}'}, "width to be an int, got str"),
        (
            {"network": '{"class": "SegmentationNetwork", "width": 2, "dropout": "x"}'},
            "to describe a SegmentationNetwork",
        ),
        ({"network": '{"class": "SegmentationNetwork", "width": 3, "dropout": 0.5}'}, r"is \[2, 6, 3, 3\] instead of"),
        ({"network": '{"class": "SmallEncoder", "outputs": 100000000000000}'}, "to describe a SmallEncoder"),
        ({"network": '{"class": "SmallEncoder", "outputs": 2}'}, "missing: trunk.stem.weight, .*unexpected: down"),
    ],
)
def test_wrong_metadata(path, metadata, message):
    rewrite(path, lambda _, old: old.update(metadata))
    with pytest.raises(ValueError, match=rf"load_network\(\): .*{message}"):
        load_network(path, nn.Module)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("out.bias"), "1 missing: out.bias"),
        (lambda arrays: arrays.update(extra=arrays["out.bias"]), "1 unexpected: extra"),
        (lambda arrays: arrays.update({"out.bias": np.zeros((1, 1), np.float32)}), r"out\.bias is \[1, 1\] instead"),
        (lambda arrays: arrays.update({"out.bias": np.zeros(1, np.int64)}), r"out\.bias is torch\.int64 instead"),
        (
            lambda arrays: [arrays.pop(key) for key in list(arrays) if key.startswith("up")],
            r"28 missing: up\.0\.0\.weight",
        ),
    ],
)
def test_wrong_weights(path, change, message):
    rewrite(path, lambda arrays, _: change(arrays))
    with pytest.raises(ValueError, match=rf"expected the weights of SegmentationNetwork, got {message}"):
        load_network(path, SegmentationNetwork)


def test_fill_changes_nothing_when_it_fails(unet):
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    state = {key: value + 1 for key, value in before.items()}
    with pytest.raises(ValueError, match=r"test: expected the weights of SegmentationNetwork, got 1 unexpected: more"):
        fill(unet, {**state, "more": torch.zeros(1)}, "test")
    assert all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())
    fill(unet, state, "test")
    assert all(torch.equal(value, state[key]) for key, value in unet.state_dict().items())


def test_state_dicts_in_bfloat16(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.arange(3).bfloat16()}, tmp_path / "w")
    assert torch.equal(read_state_dict(tmp_path / "w", "test")["x"], torch.arange(3).bfloat16())
