"""Steps: which loss of which images each step is, and what its gradient reaches."""

import pytest
import torch

from focus import losses
from focus.autoencoder import FaceAutoencoder
from focus.data.batch import Batch
from focus.decoder import ThetaLayout
from focus.face_model import FaceModel
from focus.networks import SegmentationNetwork, SmallEncoder
from focus.training.settings import TrainSettings
from focus.training.skin import skin_probability
from focus.training.steps import Steps

SIZE = 32


class Maps(torch.nn.Module):
    """Features that are simple functions of the images."""

    def forward(self, images, landmarks, depth):
        return images[:, :, ::4, ::4] + 0.1 if depth == "shallow" else images.mean((2, 3))


class Bright(torch.nn.Module):
    """A segmentation network that looks for a bright render."""

    def forward(self, render, photo):
        return torch.sigmoid(5 * render.mean(1, keepdim=True) - 2)


def settings(base="paper", **changes):
    return TrainSettings.named(base).replace(size=SIZE, level=0, encoder="small", segmentation_width=2, **changes)


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


@pytest.fixture
def autoencoder(model):
    torch.manual_seed(0)
    encoder = SmallEncoder(ThetaLayout.of(model).total)
    torch.nn.init.normal_(encoder.head.weight, std=0.02)
    return FaceAutoencoder(encoder, SegmentationNetwork(2), model, settings().preset, SIZE).eval()


@pytest.fixture(scope="module")
def batch(model):
    generator = torch.Generator().manual_seed(1)
    image = 0.3 + 0.4 * torch.rand(2, 3, SIZE, SIZE, generator=generator)
    visible = (torch.rand(2, 1, SIZE, SIZE, generator=generator) > 0.5).float()
    return Batch(image, SIZE * torch.rand(2, 68, 2, generator=generator), visible)


def reached(network):
    return any(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


@pytest.mark.parametrize(
    "step, encoder, segmenter",
    [
        ("initialisation", True, False),
        ("pretraining", False, True),
        ("segmentation", False, True),
        ("reconstruction", True, False),
    ],
)
def test_what_the_gradient_reaches(autoencoder, batch, step, encoder, segmenter):
    made = getattr(Steps(autoencoder, Maps(), settings()), step)(batch)
    made.loss.backward()
    assert (reached(autoencoder.encoder), reached(autoencoder.segmenter)) == (encoder, segmenter)
    assert not any(x.requires_grad for x in (*made.terms.values(), made.render, made.mask, made.theta))


def test_the_authors_reach_the_encoder_through_the_mask(autoencoder, batch):
    autoencoder.segmenter = Bright()
    gradients = []
    for detach in (True, False):
        chosen = settings("authors", preset={"detach_mask": detach})
        autoencoder.zero_grad()
        Steps(autoencoder, Maps(), chosen).reconstruction(batch).loss.backward()
        gradients.append(autoencoder.encoder.head.weight.grad.clone())
    assert not torch.allclose(*gradients, rtol=0.01)


def parts(autoencoder, batch):
    with torch.no_grad():
        made = autoencoder(batch.image)
    return made.face, made.mask


def landmark_weight(preset, factor):
    return preset.replace(reconstruction_weights={"landmark": preset.reconstruction_weights.landmark * factor})


@pytest.mark.parametrize("base, composite", [("paper", False), ("paper", True), ("authors", False)])
def test_segmentation_is_the_loss_of_the_autoencoders_images(autoencoder, batch, base, composite):
    chosen = settings(base, preset={"composite_input": composite})
    autoencoder.preset = chosen.preset
    made = Steps(autoencoder, Maps(), chosen).segmentation(batch)
    face, mask = parts(autoencoder, batch)
    expected, terms = losses.segmentation_loss(
        batch.image,
        face.over(batch.image) if composite else face.image,
        mask,
        face.mask,
        preset=chosen.preset,
        features=Maps(),
        target_landmarks=batch.landmarks,
        rendered_landmarks=face.landmarks,
    )
    torch.testing.assert_close(made.loss, expected)
    assert made.terms.keys() == terms.keys() and torch.equal(made.mask, mask)


@pytest.mark.parametrize("kind", ["segmentation", "raster", "ground_truth", "skin"])
def test_masks_of_the_reconstruction(autoencoder, batch, kind):
    chosen = settings(mask=kind)
    made = Steps(autoencoder, Maps(), chosen).reconstruction(batch)
    face, mask = parts(autoencoder, batch)
    others = {"raster": 1, "ground_truth": batch.visible, "skin": skin_probability(batch.image)}
    mask = mask if kind == "segmentation" else face.mask * others[kind]
    expected, _ = losses.reconstruction_loss(
        batch.image,
        face.image,
        mask,
        face.mask,
        face.parameters,
        preset=landmark_weight(chosen.preset, (224 / SIZE) ** 2),
        target_landmarks=batch.landmarks,
        rendered_landmarks=face.landmarks,
        features=Maps(),
    )
    torch.testing.assert_close(made.loss, expected)
    assert torch.equal(made.mask, mask)


def test_weight_of_unsquared_landmarks(autoencoder, batch):
    chosen = settings(preset={"landmark": {"weighting": "norm"}})
    assert Steps(autoencoder, Maps(), chosen).preset == landmark_weight(chosen.preset, 224 / SIZE)


def test_pretraining_teaches_the_preliminary_mask(autoencoder, batch):
    made = Steps(autoencoder, None, settings()).pretraining(batch)
    with torch.no_grad():
        face, _ = parts(autoencoder, batch)
        close = ((batch.image - face.image).square().sum(1, keepdim=True) < settings().preset.inlier_threshold).float()
        said = autoencoder.segmenter(face.image, batch.image)
    expected = torch.nn.functional.binary_cross_entropy(said, close * face.mask)
    torch.testing.assert_close(made.loss, expected)


def test_initialisation_of_the_baselines(autoencoder, batch):
    chosen = settings(mask="raster", preliminary=False)
    steps = Steps(autoencoder, Maps(), chosen)
    first, later = steps.initialisation(batch), steps.reconstruction(batch)
    assert torch.equal(first.loss, later.loss)
    masked = Steps(autoencoder, Maps(), settings(mask="raster")).initialisation(batch)
    assert not torch.equal(first.mask, masked.mask)


def test_bfloat16_is_of_the_networks_alone(autoencoder, batch):
    narrow = Steps(autoencoder, Maps(), settings(precision="bfloat16"))
    for step in ("initialisation", "pretraining", "segmentation", "reconstruction"):
        exact = getattr(Steps(autoencoder, Maps(), settings()), step)(batch)
        made = getattr(narrow, step)(batch)
        assert {x.dtype for x in (made.loss, made.render, made.mask, made.theta)} == {torch.float32}
        torch.testing.assert_close(made.loss, exact.loss, rtol=0.05, atol=0.01)
        assert not torch.equal(made.theta, exact.theta)


def test_what_is_missing_is_named(autoencoder, batch):
    with pytest.raises(ValueError, match="a segmentation network for mask 'segmentation', got None"):
        Steps(
            FaceAutoencoder(autoencoder.encoder, None, autoencoder.face_model, settings().preset, SIZE),
            None,
            settings(),
        )
    with pytest.raises(ValueError, match="expected features, since terms with F have weight, got None"):
        Steps(autoencoder, None, settings()).segmentation(batch)
    with pytest.raises(ValueError, match="visible masks for mask 'ground_truth', got None"):
        Steps(autoencoder, Maps(), settings(mask="ground_truth")).reconstruction(batch._replace(visible=None))
