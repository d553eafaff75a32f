"""The networks of FOCUS: sizes, names of weights, torchvision's answers and files; test_networks_unet.py has S."""

import inspect
import pickle
import subprocess
import sys

import pytest
import torch
from networks import parameter_count, pattern, picture
from safetensors.torch import save_file

import focus.networks
from focus.networks import FaceRecognizer, ReconstructionNetwork, SegmentationNetwork, SmallEncoder

# What torchvision 0.29's resnet50 answers with the weights of `pattern` to `picture(2, 3, 64, 64)`, outputs 0, 1, 500
# and 999.
TORCHVISION = [[-46.502750, 45.164818, 21.145269, -5.807647], [-46.620922, 44.247952, 20.340509, -6.445950]]


@pytest.fixture(scope="module")
def resnet():
    return ReconstructionNetwork(257)


def test_package_is_light():
    code = "import sys, focus.networks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", focus.networks.__all__)
def test_public_names_are_documented(name):
    assert name in dir(focus.networks)
    assert len(inspect.getdoc(getattr(focus.networks, name)) or "") > 100


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'Transformer'"):
        _ = focus.networks.Transformer


def test_parameter_counts(resnet):
    assert parameter_count(resnet) - 2049 * 257 + 2049 * 1000 == 25_557_032
    assert parameter_count(SegmentationNetwork()) == 34_528_769
    assert parameter_count(SegmentationNetwork(16)) < 34_528_769 / 15
    assert parameter_count(SmallEncoder(300)) <= 6_000_000


class TestReconstructionNetwork:
    def test_starts_at_the_mean_face(self, resnet):
        theta = resnet.train()(torch.rand(2, 3, 64, 64))
        assert torch.equal(theta, torch.zeros(2, 257))
        theta.backward(torch.ones_like(theta))
        assert resnet.fc.weight.grad.abs().max() > 0 and resnet.fc.bias.grad.eq(2).all()
        resnet.zero_grad()

    def test_torchvision_numbers(self):
        network = ReconstructionNetwork(1000).eval()
        network.load_state_dict(pattern(network.state_dict()))
        with torch.no_grad():
            answer = network(picture(2, 3, 64, 64))
        torch.testing.assert_close(answer[:, [0, 1, 500, 999]], torch.tensor(TORCHVISION), rtol=1e-3, atol=1e-2)

    def test_torchvision_itself(self):
        try:
            models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
        except RuntimeError as error:
            pytest.skip(f"torchvision does not fit this torch: {error}")
        theirs, ours = models.resnet50(), ReconstructionNetwork(1000)
        assert list(theirs.state_dict()) == list(ours.state_dict())
        ours.load_state_dict(theirs.state_dict())
        images = torch.rand(2, 3, 96, 64)
        torch.testing.assert_close(ours.train()(images), theirs.train()(images))
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))

    def test_keys(self, resnet):
        keys = list(resnet.state_dict())
        assert len(keys) == 320
        assert keys[:6] == [
            "conv1.weight",
            *(f"bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        ]
        assert {"layer1.0.downsample.0.weight", "layer3.5.bn3.bias", "layer4.2.conv3.weight", "fc.bias"} <= set(keys)
        assert not any(key.startswith("layer1.1.downsample") for key in keys)
        blocks = {key.split(".conv1")[0] for key in keys if ".conv1" in key}
        assert len(blocks) == 3 + 4 + 6 + 3

    @pytest.mark.parametrize("kind", ["pth", "old", "nested", "safetensors"])
    def test_load_torchvision(self, resnet, tmp_path, kind):
        state = pattern(ReconstructionNetwork(1).state_dict())
        state |= {"fc.weight": torch.ones(1000, 2048), "fc.bias": torch.ones(1000)}
        path = tmp_path / "weights"
        if kind == "safetensors":
            save_file(state, path)
        elif kind == "nested":
            torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
        else:
            if kind == "old":
                state = {key: value for key, value in state.items() if "num_batches" not in key}
            torch.save(state, path)
        resnet.load_torchvision(path)
        for key, value in resnet.state_dict().items():
            if not key.startswith("fc.") and key in state:
                assert torch.equal(value, state[key]), key
        assert not resnet.fc.weight.any() and not resnet.fc.bias.any()

    def test_load_torchvision_names_what_does_not_fit(self, resnet, tmp_path):
        state = dict(resnet.state_dict())
        before = {key: value.clone() for key, value in state.items()}
        state = {key: value + 1 for key, value in state.items()}
        del state["layer2.0.bn1.running_var"]
        state["layer5.0.conv1.weight"] = torch.zeros(1)
        state["conv1.weight"] = torch.zeros(64, 4, 7, 7)
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(ValueError) as error:
            resnet.load_torchvision(tmp_path / "w.pth")
        for part in (
            "load_torchvision()",
            "1 missing: layer2.0.bn1.running_var",
            "1 unexpected: layer5.0.conv1.weight",
            "conv1.weight is [64, 4, 7, 7] instead of [64, 3, 7, 7]",
        ):
            assert part in str(error.value)
        assert all(torch.equal(value, before[key]) for key, value in resnet.state_dict().items())

    def test_load_torchvision_runs_nothing(self, resnet, tmp_path):
        class Program:
            def __reduce__(self):
                return (tmp_path.joinpath("ran").touch, ())

        (tmp_path / "w.pth").write_bytes(pickle.dumps(Program(), protocol=2))
        torch.save({"conv1.weight": Program()}, tmp_path / "zip.pth")
        for name in ("w.pth", "zip.pth"):
            with pytest.raises(
                ValueError, match=r"load_torchvision\(\): expected .* to be a complete file of plain tensors"
            ):
                resnet.load_torchvision(tmp_path / name)
        assert not (tmp_path / "ran").exists()

    def test_load_torchvision_of_other_things(self, resnet, tmp_path):
        path = tmp_path / "w.pth"
        torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ValueError, match="complete file of plain tensors"):
            resnet.load_torchvision(path)
        path.write_bytes(b"")
        with pytest.raises(ValueError, match="complete file of plain tensors"):
            resnet.load_torchvision(path)
        torch.save([torch.zeros(3)], path)
        with pytest.raises(ValueError, match="state dict, names and tensors, got a list"):
            resnet.load_torchvision(path)
        save_file({"x": torch.zeros(100)}, path)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ValueError, match="complete safetensors file"):
            resnet.load_torchvision(path)
        with pytest.raises(FileNotFoundError):
            resnet.load_torchvision(tmp_path / "none.pth")


class TestSmallEncoder:
    def test_trunk_is_the_recognizers(self):
        encoder, recognizer = SmallEncoder.pretrained(257), FaceRecognizer.load()
        weights = dict(recognizer.trunk.named_parameters())
        names = [name for name, _ in encoder.trunk.named_parameters()]
        assert len(names) == 2 + 4 * 13
        assert all(torch.equal(value, weights[name]) for name, value in encoder.trunk.named_parameters())
        assert all(value.requires_grad for value in encoder.parameters())
        chips = picture(1, 3, 150, 150)
        assert torch.equal(encoder.trunk(chips)[-1], recognizer.feature_maps(chips, 4)[-1])

    def test_sizes(self):
        encoder = SmallEncoder(9)
        for size in ((224, 224), (112, 112), (150, 150), (97, 131)):
            assert encoder(torch.rand(2, 3, *size)).shape == (2, 9)

    def test_same_face_at_two_sizes(self):
        encoder = SmallEncoder.pretrained(33).eval()
        torch.nn.init.normal_(encoder.head.weight, generator=torch.Generator().manual_seed(0))
        smooth = torch.nn.functional.interpolate(picture(2, 3, 14, 14), (448, 448), mode="bicubic").clamp(0, 1)
        photos = torch.nn.functional.avg_pool2d(smooth, 2)
        halves = torch.nn.functional.avg_pool2d(smooth, 4)
        with torch.no_grad():
            first, second = encoder(photos), encoder(halves)
        assert (first - second).norm() < 0.15 * (first - first.mean(dim=0)).norm()

    def test_learns_from_the_mean_face_on(self):
        encoder = SmallEncoder.pretrained(6)
        photos = picture(2, 3, 112, 112)
        target = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
        assert torch.equal(encoder(photos), torch.zeros(2, 6))
        optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
        losses = []
        for _ in range(8):
            loss = (encoder(photos) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.1 * losses[0]
        assert encoder.trunk.stem.weight.grad.abs().max() > 0


@pytest.fixture(scope="module", params=["small", "unet", "resnet"])
def forward(request, resnet):
    """A function of images alone."""
    if request.param == "resnet":
        return resnet
    if request.param == "small":
        return SmallEncoder(5)
    network = SegmentationNetwork(2)
    return lambda x: network(x, x)


def test_autocast_answers_in_the_dtype_of_the_images(forward):
    with torch.autocast("cpu", torch.bfloat16):
        assert forward(torch.rand(1, 3, 64, 64)).dtype == torch.float32


@pytest.mark.parametrize("network", [SmallEncoder(5), SegmentationNetwork(2, dropout=0.0)], ids=["small", "unet"])
def test_compiles_as_one_graph(network):
    inputs = [picture(1, 3, 64, 64)] * (2 if isinstance(network, SegmentationNetwork) else 1)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), network(*inputs))


def test_wrong_images(forward):
    with pytest.raises(TypeError, match=r"expected images to be a floating type in \[0, 1\], got torch.uint8"):
        forward(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    for shape in ((3, 64, 64), (1, 1, 64, 64), (1, 3, 0, 64)):
        with pytest.raises(ValueError, match=r"expected images to be shape \[B, 3, H, W\]"):
            forward(torch.zeros(shape))


def test_wrong_options():
    for cls in (ReconstructionNetwork, SmallEncoder):
        with pytest.raises(ValueError, match=rf"{cls.__name__}\(\): expected outputs to be at least 1, got 0"):
            cls(0)
        with pytest.raises(TypeError, match="expected outputs to be an int, got float"):
            cls(2.0)
    with pytest.raises(ValueError, match="expected width to be at least 1"):
        SegmentationNetwork(0)
    with pytest.raises(TypeError, match="expected width to be an int, got str"):
        SegmentationNetwork("64")
    with pytest.raises(ValueError, match=r"expected dropout to be in \[0, 1\), got 1"):
        SegmentationNetwork(2, dropout=1)
    with pytest.raises(
        ValueError, match=r"expected render to be shape \[1, 3, 32, 32\] as photo, got \[2, 3, 32, 32\]"
    ):
        SegmentationNetwork(2)(torch.zeros(2, 3, 32, 32), torch.zeros(1, 3, 32, 32))
