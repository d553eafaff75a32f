"""FaceAutoencoder: what it computes, and its files."""

import numpy as np
import pytest
import torch

from focus.autoencoder import FaceAutoencoder
from focus.decoder import ThetaLayout, decode
from focus.face_model import FaceModel
from focus.networks import SegmentationNetwork, SmallEncoder
from focus.presets import Preset
from focus.tensor_file import read_tensors, write_tensors
from focus.training.features import PerceptualFeatures
from focus.training.skin import OTHER, SKIN, skin_probability, to_ycbcr

SIZE = 48


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


def build(model, *, segmenter=True, preset=None):
    torch.manual_seed(0)
    encoder = SmallEncoder(ThetaLayout.of(model).total)
    torch.nn.init.normal_(encoder.head.weight, std=0.02)
    network = SegmentationNetwork(2) if segmenter else None
    return FaceAutoencoder(encoder, network, model, preset or Preset(), SIZE).eval()


@pytest.fixture(scope="module")
def photos():
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("composite", [False, True])
def test_is_the_networks_around_the_decoder(model, photos, composite):
    network = build(model, preset=Preset().replace(composite_input=composite))
    made = network(photos)
    theta = network.encoder(photos)
    face = decode(model, theta, size=SIZE)
    seen = torch.where(face.mask > 0, face.image, photos) if composite else face.image
    assert torch.equal(made.theta, theta) and torch.equal(made.face.image, face.image)
    assert torch.equal(made.mask, face.mask * network.segmenter(seen, photos))
    assert 0 < float(face.mask.mean()) < 1 and float(made.mask.max()) > 0


@torch.no_grad()
def test_without_a_segmenter_the_mask_is_the_rasters(model, photos):
    made = build(model, segmenter=False)(photos)
    assert torch.equal(made.mask, made.face.mask)


@torch.no_grad()
@pytest.mark.parametrize("segmenter", [True, False])
def test_file(model, photos, tmp_path, segmenter):
    network = build(model, segmenter=segmenter, preset=Preset.named("authors"))
    path = tmp_path / "a.safetensors"
    network.save(path, metadata={"licence": "CC0-1.0"})
    again = FaceAutoencoder.load(path, face_model=model)
    assert again.preset == network.preset and again.size == SIZE and again.metadata == {"licence": "CC0-1.0"}
    assert not again.training and (again.segmenter is None) == (not segmenter)
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    assert torch.equal(again(photos).mask, network(photos).mask)
    network.save(tmp_path / "b.safetensors", half=True)
    half = FaceAutoencoder.load(tmp_path / "b.safetensors", face_model=model)
    assert (tmp_path / "b.safetensors").stat().st_size < 0.6 * path.stat().st_size
    torch.testing.assert_close(half(photos).theta, network(photos).theta, rtol=0, atol=5e-3)
    assert not torch.equal(half(photos).theta, network(photos).theta)


def test_loading_changes_no_random_numbers(model, tmp_path):
    build(model).save(tmp_path / "a.safetensors")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    FaceAutoencoder.load(tmp_path / "a.safetensors", face_model=model)
    assert torch.equal(torch.rand(4), expected)


def test_free_model_is_loaded_at_any_level(model, tmp_path):
    build(model).save(tmp_path / "a.safetensors")
    assert FaceAutoencoder.load(tmp_path / "a.safetensors", level=1).face_model.num_vertices > model.num_vertices


def test_bad_files(model, tmp_path):
    path = tmp_path / "a.safetensors"
    build(model, segmenter=False).save(path)
    arrays, metadata = read_tensors(path, "test")
    with pytest.raises(ValueError, match=r"got focus face model with \[4, 64, 80\]; give it"):
        FaceAutoencoder.load(path, face_model=FaceModel.load(level=0, components=(4, 64, 80)))
    for change, message in (
        ({"format": "other"}, "to have format 'focus-autoencoder', got 'other'"),
        ({"config": "{"}, "to describe networks, size and face model"),
        ({"config": metadata["config"].replace('"size": 48', '"size": "x"')}, "to describe networks, size"),
        ({"config": metadata["config"].replace('"size": 48', '"size": 3')}, "expected size to be >= 32, got 3"),
        ({"config": metadata["config"].replace("SmallEncoder", "Popen")}, "name one of ReconstructionNetwork"),
        ({"preset": "{}"}, "expected neighbor|expected name"),
    ):
        write_tensors(tmp_path / "b.safetensors", arrays, metadata | change)
        with pytest.raises(ValueError, match=message):
            FaceAutoencoder.load(tmp_path / "b.safetensors", face_model=model)
    arrays["encoder.head.bias"] = np.zeros(3, np.float32)
    write_tensors(tmp_path / "b.safetensors", arrays, metadata)
    with pytest.raises(ValueError, match=r"head.bias is \[3\] instead of"):
        FaceAutoencoder.load(tmp_path / "b.safetensors", face_model=model)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="complete safetensors file"):
        FaceAutoencoder.load(path, face_model=model)
    with pytest.raises(FileNotFoundError):
        FaceAutoencoder.load(tmp_path / "none.safetensors", face_model=model)


def test_bad_arguments(model, photos, tmp_path):
    with pytest.raises(ValueError, match="expected an encoder with 257 outputs"):
        FaceAutoencoder(SmallEncoder(9), None, model, Preset(), SIZE)
    with pytest.raises(TypeError, match="expected size to be an int, got float"):
        FaceAutoencoder(SmallEncoder(257), None, model, Preset(), 48.0)
    network = build(model, segmenter=False)
    with pytest.raises(ValueError, match=r"expected photos to be shape \[B, 3, 48, 48\], got \[2, 3, 48, 47\]"):
        network(photos[..., 1:])
    with pytest.raises(ValueError, match="without the key 'preset'"):
        network.save(tmp_path / "a.safetensors", metadata={"preset": "x"})
    network.encoder = torch.nn.Identity()
    with pytest.raises(TypeError, match=r"FaceAutoencoder\.save.*got Identity"):
        network.save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


class FakeRecognizer(torch.nn.Module):
    """Chips are the images, maps their doubles, embeddings their means."""

    centre = torch.tensor([0.5, 0.0, 0.0])

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def chips(self, images, landmarks):
        assert not landmarks.requires_grad
        return images

    def forward(self, chips):
        return chips.mean((2, 3)) * self.weight

    def feature_maps(self, chips, count):
        return tuple(chips * (k + 2) for k in range(count))


def test_perceptual_features(photos):
    features = PerceptualFeatures(FakeRecognizer()).train()
    landmarks = torch.zeros(2, 68, 2, requires_grad=True)
    assert not features.network.training and not features.network.weight.requires_grad
    torch.testing.assert_close(features(photos, landmarks, "deep"), photos.mean((2, 3)) - FakeRecognizer.centre)
    assert torch.equal(features(photos, landmarks, "shallow"), photos * 2)
    with pytest.raises(ValueError, match="'deep' or 'shallow', got 'middle'"):
        features(photos, landmarks, "middle")


def test_skin_probability_is_bayes_rule():
    colours = torch.tensor([[0.9, 0.6, 0.5], [0.1, 0.2, 0.9], [0.5, 0.5, 0.5]]).T.reshape(1, 3, 1, 3)
    points = to_ycbcr(colours)[0, :, 0].T
    densities = [
        torch.distributions.MultivariateNormal(torch.tensor(g.mean), torch.tensor(g.covariance)).log_prob(points).exp()
        for g in (SKIN, OTHER)
    ]
    expected = densities[0] / (densities[0] + densities[1])
    torch.testing.assert_close(skin_probability(colours)[0, 0, 0], expected, rtol=1e-4, atol=1e-6)
    assert expected[0] > 0.75 and expected[1] < 0.05
    grey = to_ycbcr(torch.full((1, 3, 1, 1), 0.4)).flatten()
    torch.testing.assert_close(grey, torch.tensor([0.4, 0.0, 0.0]), rtol=0, atol=1e-6)
