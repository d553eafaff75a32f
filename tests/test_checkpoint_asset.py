"""The networks in the box: what their file says of itself, and what they see on faces that they have not seen."""

import json

import pytest
import torch

import focus
from focus.autoencoder import ASSET, FaceAutoencoder
from focus.demo import demo_photo
from focus.evaluation import evaluate_synthetic
from focus.tensor_file import read_tensors


@pytest.fixture(scope="module")
def shipped():
    return FaceAutoencoder.load(level=0)


def test_file(shipped):
    assert ASSET.stat().st_size <= 25e6
    assert shipped.metadata["license"] == "Apache-2.0" and shipped.metadata["seed"] == "0"
    assert shipped.metadata["command"].startswith("focus train --preset tiny --synthetic ")
    settings = json.loads(shipped.metadata["settings"])
    assert settings["preset"] == json.loads(shipped.preset.to_json()) and settings["size"] == shipped.size == 112
    assert json.loads(shipped.metadata["data"])["data"] is None  # no photograph
    arrays, _ = read_tensors(ASSET, "test")
    assert {str(array.dtype) for array in arrays.values() if array.ndim > 1} == {"float16"}


def test_metrics_are_those_of_the_file(shipped):
    """Within four standard errors on the first of the faces that the metadata's numbers were measured on."""
    said = json.loads(shipped.metadata["metrics"])
    few_faces = 64
    few = evaluate_synthetic(shipped, few_faces, seed=said["recipe"]["seed"])
    for measure in ("f1_rounded", "rmse", "vertex_error_aligned", "landmark_error"):
        found = few.statistic(measure)
        assert said["overall"][measure] == pytest.approx(found.mean, abs=4 * found.std / few_faces**0.5)


def test_what_it_sees(shipped):
    """Covered faces: its mask is right more often than the whole render, its shape nearer than the mean face."""
    found = evaluate_synthetic(shipped, 48, seed=5, none_probability=0.0).means()
    assert found["f1_rounded"] > 0.8 and found["ppv_rounded"] > 1 - found["true_occluded_fraction"] + 0.1
    free = evaluate_synthetic(shipped, 48, seed=5, none_probability=1.0).means()
    assert free["f1_rounded"] > 0.9
    assert free["vertex_error_aligned"] < 0.9 * free["mean_face_error_aligned"]


def test_it_reconstructs_a_photograph_offline():
    photo, landmarks = demo_photo()
    (clear,) = focus.Reconstructor()(photo, landmarks)
    assert clear.landmark_error_px < 4 and clear.occluded_fraction < 0.4
    covered = photo.copy()
    x, y = landmarks[48:].mean(0).astype(int)
    reach = int(landmarks[48:, 0].max() - landmarks[48:, 0].min())
    covered[y - reach // 2 : y + reach, x - reach : x + reach] = (40, 90, 200)
    (result,) = focus.Reconstructor()(covered, landmarks)
    assert result.occluded_fraction > clear.occluded_fraction + 0.1
    assert torch.isfinite(torch.as_tensor(result.vertices)).all()
