"""The misfit prior: Eq. 11 against loops over vertices, its file, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from focus import FaceModel
from focus.autoencoder import FaceAutoencoder
from focus.cli import app
from focus.decoder import ThetaLayout
from focus.networks import SmallEncoder
from focus.presets import Preset
from focus.prior import (
    UNSEEN,
    MisfitPrior,
    estimate_prior,
    magnitude,
    measure_prior,
    prior_settings,
    train_prior,
)
from focus.synth import SyntheticFaces
from focus.training.settings import TrainSettings


class Linear(nn.Module):
    """A network that makes of every photo a theta of its pixels: as good as any other here."""

    def __init__(self, outputs):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.matrix = nn.Parameter(torch.randn(12, outputs, generator=generator))

    def forward(self, images):
        pooled = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
        return pooled @ self.matrix


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


def make_prior(offsets, **changes):
    return MisfitPrior(offsets, **{"face_model": "sheet", "recipe": {"images": 3}, **changes})


def test_the_estimate_is_equation_11(model):
    """By loops over images and vertices, of the expression-free meshes themselves."""
    network = Linear(ThetaLayout.of(model).total)
    generator = torch.Generator().manual_seed(0)
    photos, truth = torch.rand(5, 3, 32, 32, generator=generator), torch.randn(5, 80, generator=generator)
    truth = truth[:, : model.num_identity]
    batches = [(photos[:2], truth[:2]), (photos[2:], truth[2:])]
    prior = estimate_prior(network, model, batches, recipe={"seed": 4})
    identities = network(photos)[:, : model.num_identity].detach()
    for vertex in (0, 17, model.num_vertices - 1):
        expected = np.zeros(3)
        for image in range(5):
            predicted = model.shape(identities[image : image + 1])[0, vertex]
            expected += (predicted - model.shape(truth[image : image + 1])[0, vertex]).double().numpy() / 5
        np.testing.assert_allclose(prior.offsets[vertex], expected, atol=2e-5)
    assert prior.recipe == {"seed": 4, "images": 5} and prior.face_model == model.name
    # On the images that it was learned from, the mean error that is left is none.
    left = (prior.subtract(model.shape(identities)) - model.shape(truth)).mean(0)
    assert float(left.abs().max()) < 5e-5 < float(prior.offsets.abs().max())


def test_a_perfect_network_has_no_prior(model):
    truth = torch.randn(4, model.num_identity, generator=torch.Generator().manual_seed(2))
    theta = torch.zeros(4, ThetaLayout.of(model).total)
    theta[:, : model.num_identity] = truth
    prior = estimate_prior(lambda_network(theta), model, [(torch.zeros(4, 3, 32, 32), truth)])
    assert float(prior.offsets.abs().max()) == 0 and magnitude(prior) == {"mean": 0, "median": 0, "largest": 0}


def lambda_network(theta):
    network = nn.Module()
    network.forward = lambda photos: theta
    return network


def test_the_full_mesh_of_a_cropped_model(model):
    """A crop's network gives the prior of the full mesh: its coefficients mean the same there."""
    rows = torch.arange(0, model.num_vertices, 2)
    full = dataclasses.replace(model, name="full")
    theta = torch.ones(2, ThetaLayout.of(model).total)
    batch = [(torch.zeros(2, 3, 32, 32), torch.zeros(2, model.num_identity))]
    crop = estimate_prior(lambda_network(theta), model, batch)
    prior = estimate_prior(lambda_network(theta), model, batch, full_model=full)
    assert prior.face_model == "full"
    torch.testing.assert_close(prior.offsets[rows], crop.offsets[rows])
    few = dataclasses.replace(model, num_identity=3)
    with pytest.raises(ValueError, match=f"full_model to have {model.num_identity} identity coefficients, got 3"):
        estimate_prior(lambda_network(theta), model, batch, full_model=few)


def test_measured_on_synthetic_faces_of_any_batch_size(model):
    autoencoder = FaceAutoencoder(Linear(ThetaLayout.of(model).total), None, model, Preset(), size=32)
    faces = SyntheticFaces(5, 32, seed=3, model=model, kinds=(), person_probability=0.0)
    one = measure_prior(autoencoder, faces, batch_size=2, recipe={"checkpoint": "x"})
    other = measure_prior(autoencoder, faces, batch_size=5)
    torch.testing.assert_close(one.offsets, other.offsets, rtol=1e-4, atol=1e-4)
    assert one.recipe["images"] == 5 and one.recipe["faces"]["seed"] == 3 and one.recipe["checkpoint"] == "x"
    assert autoencoder.encoder.training
    with pytest.raises(ValueError, match=r"measure_prior\(\): expected faces of .* 32 px, got .* 48 px"):
        measure_prior(autoencoder, SyntheticFaces(1, 48, model=model))


def test_subtract_is_vertex_by_vertex_and_differentiable():
    offsets = torch.arange(12.0).view(4, 3)
    vertices = torch.ones(2, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    result = make_prior(offsets).subtract(vertices)
    assert result.dtype == torch.float64 and torch.equal(result[1, 3, 2], 1 - offsets[2].double())
    result.sum().backward()
    assert torch.equal(vertices.grad, torch.ones_like(vertices))


def test_the_file_keeps_everything(tmp_path):
    prior = make_prior(torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), recipe={"a": [1, 2.5], "b": None})
    path = tmp_path / "prior.safetensors"
    prior.save(path)
    first = path.read_bytes()
    loaded = MisfitPrior.load(path)
    assert torch.equal(loaded.offsets, prior.offsets)
    assert (loaded.face_model, loaded.recipe) == ("sheet", {"a": [1, 2.5], "b": None})
    loaded.save(path)
    assert path.read_bytes() == first
    path.write_bytes(first[:-4] + bytes(4))
    with pytest.raises(ValueError, match=r"MisfitPrior.load\(\): .*damaged"):
        MisfitPrior.load(path)
    path.write_bytes(first[:-9])
    with pytest.raises(ValueError, match="complete safetensors file"):
        MisfitPrior.load(path)


def test_another_format_is_named(tmp_path, model):
    path = tmp_path / "model.safetensors"
    model.save(path)
    with pytest.raises(ValueError, match=r"expected .* to have format 'focus-misfit-prior'"):
        MisfitPrior.load(path)


def test_another_face_model_is_refused(model):
    prior = make_prior(torch.zeros(model.num_vertices, 3))
    with pytest.raises(ValueError, match="expected the face model sheet with"):
        prior.check(model)
    make_prior(torch.zeros(model.num_vertices, 3), face_model=model.name).check(model)
    with pytest.raises(ValueError, match="with 5 vertices"):
        make_prior(torch.zeros(5, 3), face_model=model.name).check(model)
    with pytest.raises(ValueError, match=r"expected vertices to be shape \[\*, 5, 3\], got \[2, 4, 3\]"):
        make_prior(torch.zeros(5, 3)).subtract(torch.zeros(2, 4, 3))


def test_wrong_offsets_are_refused():
    with pytest.raises(TypeError, match=r"torch\.float32 tensor, got torch\.float64"):
        make_prior(torch.zeros(3, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"shape \[V, 3\], got \[3, 2\]"):
        make_prior(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="finite"):
        make_prior(torch.full((3, 3), torch.nan))


def test_networks_that_fail_make_no_prior(model):
    theta = torch.full((2, ThetaLayout.of(model).total), torch.nan)
    with pytest.raises(ValueError, match="expected theta to be finite"):
        estimate_prior(lambda_network(theta), model, [(torch.zeros(2, 3, 32, 32), torch.zeros(2, model.num_identity))])
    with pytest.raises(ValueError, match="at least one image, got none"):
        estimate_prior(lambda_network(theta), model, [])


def test_a_prior_is_trained_measured_and_written(tmp_path, model):
    """Two steps of R_syn; E_MP is that of its file on faces that it has not seen."""
    stages = {"batch_size": 2, "initialisation": {"iterations": 1}, "em": {"iterations": 1}}
    settings = TrainSettings.named("tiny").replace(size=32, seed=2, workers=0, preset=stages)
    prior = train_prior(settings, tmp_path, images=3, face_model=model)
    assert torch.equal(MisfitPrior.load(tmp_path / "prior.safetensors").offsets, prior.offsets)
    assert prior.recipe["settings"]["mask"] == "raster" and prior.recipe["iterations"] == 2
    assert prior.recipe["training"]["kinds"] == [] and prior.recipe["faces"]["seed"] == 2 + UNSEEN
    trained = FaceAutoencoder.load(tmp_path / "network/model.safetensors", face_model=model)
    assert trained.segmenter is None
    faces = SyntheticFaces(3, 32, 2 + UNSEEN, model=model, kinds=())
    torch.testing.assert_close(measure_prior(trained, faces).offsets, prior.offsets)
    with pytest.raises(ValueError, match="hold no run"):  # training never overwrites one
        train_prior(settings, tmp_path, images=3, face_model=model)


def test_command_measures_a_trained_network(tmp_path, model):
    network = FaceAutoencoder(SmallEncoder(ThetaLayout.of(model).total), None, model, Preset(), size=48)
    network.encoder.head.bias.data[:2] = torch.tensor([10.0, -5.0])  # times 0.1; otherwise it says the mean face
    network.save(tmp_path / "model.safetensors")
    options = ["--checkpoint", str(tmp_path / "model.safetensors"), "--images", "2", "--level", "0"]
    result = CliRunner().invoke(app, ["prior", *options, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    prior = MisfitPrior.load(tmp_path / "out/prior.safetensors")
    truth = SyntheticFaces(2, 48, 0, model=model, kinds=()).batch(range(2)).parameters.identity
    theta = torch.zeros(2, model.num_identity)
    theta[:, :2] = torch.tensor([1.0, -0.5])
    expected = (model.shape(theta) - model.shape(truth)).mean(0)
    torch.testing.assert_close(prior.offsets, expected, rtol=0, atol=1e-3)
    assert f"{model.num_vertices} vertices" in result.output
    wrong = CliRunner().invoke(app, ["prior", "--preset", "nice", "--out", str(tmp_path / "other")])
    assert wrong.exit_code == 2 and "expected name to be one of" in wrong.output


def test_the_training_has_no_mask_at_any_time():
    settings = prior_settings(TrainSettings.named("tiny"))
    assert (settings.mask, settings.preliminary, settings.name) == ("raster", False, "tiny-prior")
    assert settings.preset == TrainSettings.named("tiny").preset
