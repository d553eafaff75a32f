"""ArcFace: names of weights, the answers of InsightFace's module, features, and files of weights."""

import pytest
import torch
from networks import parameter_count, pattern, picture

from focus.networks import ArcFace, arcface_chips

# What InsightFace's iresnet50 answers with the weights of `pattern` to 2 x - 1 of `picture(2, 3, 112, 112)`, normalised
# to length 1: the first four numbers.
INSIGHTFACE = [
    [0.019931480, 0.022201549, -0.017678566, 0.099535771],
    [-0.097553007, -0.006792524, -0.055150714, -0.024272503],
]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("arcface") / "backbone.pth"
    torch.save(pattern(ArcFace().state_dict()), path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def arcface(file):
    return ArcFace.load(file)


def test_names_of_weights(arcface):
    keys = list(arcface.state_dict())
    assert parameter_count(arcface) == 43_590_848
    assert keys[:2] == ["conv1.weight", "bn1.weight"] and "prelu.weight" in keys
    assert len([key for key in keys if key.endswith(".prelu.weight")]) == 3 + 4 + 14 + 3
    assert {"layer1.0.downsample.1.running_var", "layer3.13.bn3.bias", "fc.weight", "features.running_mean"} <= set(
        keys
    )
    assert arcface.fc.weight.shape == (512, 25088)


def test_insightface_numbers(arcface):
    embedding = arcface(picture(2, 3, 112, 112))
    assert embedding.shape == (2, 512)
    torch.testing.assert_close(embedding[:, :4], torch.tensor(INSIGHTFACE), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


def test_feature_maps(arcface):
    chips = picture(1, 3, 112, 112)
    maps = arcface.feature_maps(chips)
    assert [tuple(x.shape) for x in maps] == [(1, 64, 56, 56), (1, 128, 28, 28), (1, 256, 14, 14), (1, 512, 7, 7)]
    (first,) = arcface.feature_maps(chips, 1)
    assert torch.equal(first, maps[0])
    assert torch.equal(arcface.embedding(maps), arcface(chips))


def test_frozen_in_evaluation_mode(arcface):
    assert not any(value.requires_grad for value in arcface.parameters())
    before = arcface.bn1.running_mean.clone()
    assert arcface.train() is arcface and not arcface.training and not arcface.layer1[0].bn1.training
    chips = picture(1, 3, 112, 112).requires_grad_()
    arcface(chips)[0, :5].sum().backward()
    assert torch.equal(arcface.bn1.running_mean, before)
    assert chips.grad.isfinite().all() and chips.grad.abs().max() > 0


def test_similarity(arcface):
    first, second = torch.eye(512)[:3], torch.eye(512)[[0, 2, 2]]
    assert arcface.similarity(first, second).tolist() == [1, 0, 1]


def test_chips(arcface):
    images, landmarks = torch.rand(1, 3, 200, 200), 200 * torch.rand(1, 68, 2)
    assert torch.equal(arcface.chips(images, landmarks), arcface_chips(images, landmarks))
    assert arcface.chips(images, landmarks.requires_grad_(), landmark_gradient=True).requires_grad


def test_files_that_do_not_fit(tmp_path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 3, 3), "layer5.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=r"ArcFace\.load\(\): .*w\.pth: expected the weights of ArcFace, got \d+ missing: bn1"
    ):
        ArcFace.load(tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError):
        ArcFace.load(tmp_path / "none.pth")


def test_wrong_chips(arcface):
    with pytest.raises(
        ValueError, match=r"ArcFace\(\): expected chips to be shape \[B, 3, 112, 112\], got \[1, 3, 150, 150\]"
    ):
        arcface(torch.zeros(1, 3, 150, 150))
