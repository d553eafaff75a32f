"""Evaluation of an autoencoder: every number against the measures alone, subsets, files, tables, the command."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from focus import FaceModel
from focus.autoencoder import FaceAutoencoder
from focus.cli import app
from focus.decoder import ThetaLayout
from focus.evaluation import (
    Evaluation,
    Statistic,
    all_tables,
    evaluate,
    evaluate_synthetic,
    image_rmse,
    landmark_errors,
    make_validator,
    mask_scores,
    mask_table,
    merged,
    now_table,
    read_statistics,
    rmse_table,
    shape_table,
    synthetic_batches,
    vertex_error,
)
from focus.evaluation.photos import read_occlusions, subsets_of
from focus.networks import SegmentationNetwork, SmallEncoder
from focus.presets import Preset
from focus.prior import MisfitPrior
from focus.synth import SyntheticFaces

SIZE = 48
RUNNER = CliRunner()


class Encoder(nn.Module):
    """Theta from a photo's colours: small numbers, other ones for other photos."""

    def __init__(self, outputs):
        super().__init__()
        self.matrix = nn.Parameter(0.3 * torch.randn(12, outputs, generator=torch.Generator().manual_seed(1)))
        self.dropout = nn.Dropout(0.5)
        self.spoil = False

    def forward(self, images):
        theta = self.dropout(nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)) @ self.matrix
        theta[:, -6:] = 0
        if self.spoil:
            theta[0, 3] = torch.nan
        return theta


class Segmenter(nn.Module):
    """A mask from both images."""

    def forward(self, rendered, photos):
        return torch.sigmoid(3 - 20 * (rendered - photos).abs().mean(1, keepdim=True))


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


@pytest.fixture
def autoencoder(model):
    torch.manual_seed(0)
    return FaceAutoencoder(Encoder(ThetaLayout.of(model).total), Segmenter(), model, Preset(), size=SIZE)


@pytest.fixture(scope="module")
def faces(model):
    return SyntheticFaces(6, SIZE, seed=5, model=model, none_probability=0.5, person_probability=0.0)


def test_every_number_is_that_of_its_measure(autoencoder, faces, model):
    prior = MisfitPrior(torch.full((model.num_vertices, 3), 0.7), model.name)
    found = evaluate(autoencoder, synthetic_batches(faces, 4), prior=prior, method="ours", recipe={"data": "x"})
    assert found.images == tuple(f"{index:06d}" for index in range(6)) and not found.failures
    sample = faces.batch(range(6))
    with torch.no_grad():
        made = autoencoder.eval()(sample.image)
    face, mean = made.face, model.mean_shape.expand(6, -1, 3)
    soft = mask_scores(made.mask, sample.visible, face.mask)
    rounded = mask_scores(made.mask, sample.visible, face.mask, rounded=True)
    expected = {
        **soft._asdict(),
        **{f"{name}_rounded": value for name, value in rounded._asdict().items()},
        "rmse": image_rmse(sample.image, face.image, sample.visible * face.mask),
        "rmse_render": image_rmse(sample.image, face.image, face.mask),
        "rmse_mask": image_rmse(sample.image, face.image, made.mask),
        "vertex_error": vertex_error(face.vertices, sample.vertices),
        "vertex_error_aligned": vertex_error(face.vertices, sample.vertices, align=True),
        "vertex_error_prior": vertex_error(face.vertices - 0.7, sample.vertices),
        "vertex_error_aligned_prior": vertex_error(face.vertices - 0.7, sample.vertices, align=True),
        "mean_face_error": vertex_error(mean, sample.vertices),
        "mean_face_error_aligned": vertex_error(mean, sample.vertices, align=True),
        "landmark_error": landmark_errors(face.landmarks, sample.landmarks).pixels,
        "landmark_error_interocular": 100 * landmark_errors(face.landmarks, sample.landmarks).interocular,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found.values[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert {*found.values} == {*expected, "occluded_fraction", "true_occluded_fraction"}
    fraction = 1 - made.mask.sum((1, 2, 3)) / face.mask.sum((1, 2, 3))
    np.testing.assert_allclose(found.values["occluded_fraction"], fraction, rtol=1e-4, atol=1e-5)
    occluded = [bool(kinds) for kinds in sample.occluders]
    assert 0 < sum(occluded) < 6
    np.testing.assert_array_equal(found.subsets["occluded"], occluded)
    np.testing.assert_array_equal(found.subsets["unoccluded"], np.logical_not(occluded))
    kind = next(kinds[0] for kinds in sample.occluders if kinds)
    np.testing.assert_array_equal(found.subsets[f"with {kind}"], [kind in kinds for kinds in sample.occluders])


def test_modes_are_as_before_and_the_validator_says_the_means(autoencoder, faces):
    autoencoder.train()
    autoencoder.segmenter.eval()
    validate = make_validator(synthetic_batches(faces, 3))
    first = validate(autoencoder)
    assert autoencoder.training and autoencoder.encoder.dropout.training and not autoencoder.segmenter.training
    found = evaluate(autoencoder, synthetic_batches(faces, 6))
    assert first["f1"] == pytest.approx(float(np.mean(found.values["f1"])), rel=1e-5)
    assert set(first) == set(found.values)


def test_what_is_not_finite_is_a_failure_and_no_number(autoencoder, faces):
    autoencoder.encoder.spoil = True
    seen = []
    found = evaluate(
        autoencoder, synthetic_batches(faces, 3), total=6, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(3, 6), (6, 6)]
    assert list(found.failures) == ["000000", "000003"] and "not finite" in found.failures["000003"]
    assert np.isnan(found.values["f1"]).tolist() == [True, False, False, True, False, False]
    assert found.statistic("f1").images == 4 and math.isfinite(found.statistic("f1").mean)


def test_a_prior_of_another_model_is_refused(autoencoder, faces):
    prior = MisfitPrior(torch.zeros(9, 3), "another")
    with pytest.raises(ValueError, match="expected the face model another with 9 vertices"):
        evaluate(autoencoder, synthetic_batches(faces, 3), prior=prior)
    with pytest.raises(ValueError, match=r"evaluate_synthetic\(\): expected count, batch_size >= 1"):
        evaluate_synthetic(autoencoder, 0)


@pytest.fixture
def evaluation():
    values = {
        "f1": np.array([0.5, 0.7, np.nan, 0.9]),
        "rmse": np.array([8.0, 10, 12, np.nan]),
        "empty": np.full(4, np.nan),
    }
    subsets = {"occluded": np.array([True, True, False, False]), "unoccluded": np.array([False, False, True, False])}
    return Evaluation("a|b", ("w", "x", "y", "z"), values, subsets, {"seed": 1}, {"v": "no face"})


def test_statistics_leave_out_what_is_unknown(evaluation):
    assert evaluation.statistic("f1") == Statistic(pytest.approx(0.7), pytest.approx(math.sqrt(0.08 / 3)), 3)
    assert evaluation.statistic("rmse", "occluded") == Statistic(9, 1, 2)
    assert set(evaluation.summary()["unoccluded"]) == {"rmse"}
    assert evaluation.means("occluded") == {"f1": pytest.approx(0.6), "rmse": 9}
    assert list(evaluation.subsets) == ["occluded", "unoccluded", "overall"]
    with pytest.raises(ValueError, match=r"expected f1 to be shape \[2\], got \[3\]"):
        Evaluation("a", ("x", "y"), {"f1": np.zeros(3)})


def test_files(evaluation, tmp_path):
    evaluation.write(tmp_path / "out", "tables\n")
    content = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert content["images"] == 4 and content["failures"] == {"v": "no face"} and content["recipe"] == {"seed": 1}
    assert content["subsets"]["occluded"] == {
        "images": 2,
        "f1": {"mean": pytest.approx(0.6), "std": pytest.approx(0.1), "images": 2},
        "rmse": {"mean": 9, "std": 1, "images": 2},
    }
    rows = list(csv.DictReader((tmp_path / "out/images.csv").open()))
    assert [row["f1"] for row in rows] == ["0.5", "0.7", "", "0.9"] and rows[2]["subsets"] == "unoccluded"
    assert read_statistics(tmp_path / "out/evaluation.json") == evaluation.summary()
    (tmp_path / "x.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="to be an evaluation"):
        read_statistics(tmp_path / "x.json")


def test_parts_are_merged(evaluation):
    other = Evaluation("a", ("q",), {"f1": np.array([0.1]), "new": np.array([3.0])}, {"night": np.array([True])})
    both = merged([evaluation, other])
    assert both.images == ("w", "x", "y", "z", "q")
    np.testing.assert_array_equal(both.values["new"], [np.nan] * 4 + [3])
    np.testing.assert_array_equal(both.subsets["night"], [False] * 4 + [True])
    np.testing.assert_array_equal(both.subsets["occluded"], [True, True, False, False, False])
    assert both.statistic("f1").images == 4 and both.failures == {"v": "no face"}


def row(**means):
    return {name: Statistic(value, 0.04, 5) for name, value in means.items()}


def test_tables_have_the_paper_s_form():
    masks = {"ACC": "acc", "PPV": "ppv", "TPR": "tpr", "F1": "f1"}
    ours = row(acc=0.88, ppv=0.964, tpr=0.91, f1=0.93, rmse=8.55, vertex_error=1.5, vertex_error_prior=1.25)
    results = {"Deep3D": {"glasses": row(f1=0.92), "overall": row(f1=0.9)}, "FOCUS": {"glasses": ours, "overall": ours}}
    table = mask_table(results).splitlines()
    assert table[0] == "| Method | " + " | ".join(f"{s}: {m}" for s in ("glasses", "overall") for m in masks) + " |"
    assert table[1] == "| :--- |" + " ---: |" * 8
    assert table[2] == "| Deep3D | - | - | - | 0.92 ± 0.04 | - | - | - | 0.90 ± 0.04 |"
    assert table[3].startswith("| FOCUS | 0.88 | 0.96 | 0.91 | 0.93 ± 0.04 | 0.88")
    assert mask_table(results, rounded=True).count("| - ") == 16
    assert rmse_table(results, subsets=["overall"]).splitlines()[::2] == [
        "| Testset | Deep3D | FOCUS |",
        "| overall | - | 8.55 ± 0.04 |",
    ]
    shapes = shape_table(results, subsets=["glasses"]).splitlines()
    assert shapes[2:] == ["| FOCUS | 1.50 ± 0.04 | - | - | - |", "| FOCUS-MP | 1.25 ± 0.04 | - | - | - |"]
    now = {"FOCUS": {"overall": row(median=1.04, mean=1.3, std=1.1)}, "MoFA": {}}
    assert now_table(now).splitlines()[2:] == ["| FOCUS | 1.04 | 1.30 | 1.10 |", "| MoFA | - | - | - |"]
    assert "a\\|b" in mask_table({"a|b": results["FOCUS"]})
    text = all_tables(results)
    assert text.count("\n## ") + text.startswith("## ") == 4 and "nan" not in text


def test_tables_of_one_method_have_a_row_per_subset():
    glasses = row(acc=0.88, ppv=0.964, tpr=0.91, f1=0.93, vertex_error=1.5, vertex_error_prior=1.25)
    results = {"FOCUS": {"glasses": glasses, "overall": row(f1=0.9)}}
    assert mask_table(results).splitlines() == [
        "| Method: subset | ACC | PPV | TPR | F1 |",
        "| :--- | ---: | ---: | ---: | ---: |",
        "| FOCUS: glasses | 0.88 | 0.96 | 0.91 | 0.93 ± 0.04 |",
        "| FOCUS: overall | - | - | - | 0.90 ± 0.04 |",
    ]
    assert [line.split(" | ")[:2] for line in shape_table(results).splitlines()[2:]] == [
        ["| FOCUS: glasses", "1.50 ± 0.04"],
        ["| FOCUS: overall", "-"],
        ["| FOCUS-MP: glasses", "1.25 ± 0.04"],
        ["| FOCUS-MP: overall", "-"],
    ]
    assert now_table({"FOCUS": {"overall": row(median=1.04, mean=1.3, std=1.1)}}).splitlines()[2:] == [
        "| FOCUS: overall | 1.04 | 1.30 | 1.10 |"
    ]


def test_occlusions_of_a_table(tmp_path):
    header = "image,occlusion," + ",".join(f"x{i},y{i}" for i in range(68))
    lines = [
        f"{name},{what}{',1' * 136}" for name, what in (("a.jpg", ""), ("b.jpg", "glasses"), ("c.jpg", '"x, hand"'))
    ]
    (tmp_path / "t.csv").write_text("\n".join([header, *lines]))
    found = read_occlusions(tmp_path / "t.csv")
    assert [subsets_of(found[name]) for name in ("a.jpg", "b.jpg", "c.jpg")] == [
        ("unoccluded",),
        ("occluded", "with glasses"),
        ("occluded", "with x", "with hand"),
    ]
    assert subsets_of(None) == ()
    (tmp_path / "u.csv").write_text("image," + ",".join(f"x{i},y{i}" for i in range(68)))
    assert read_occlusions(tmp_path / "u.csv") == {}


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    """Untrained networks in a file: the mean face for every photo."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    networks = SmallEncoder(ThetaLayout.of(model).total), SegmentationNetwork(4)
    FaceAutoencoder(*networks, model, Preset(), size=SIZE).save(path)
    return path


def run(*arguments):
    return RUNNER.invoke(app, ["evaluate", *map(str, arguments)])


def test_command_on_synthetic_faces(checkpoint, tmp_path):
    out = tmp_path / "out"
    options = ("--checkpoint", checkpoint, "--level", 0, "--method", "mean", "--batch", 2)
    result = run("--synthetic", 3, "--kinds", "hand,mask", "--seed", 4, *options, "--out", out)
    assert result.exit_code == 0, result.output
    content = json.loads((out / "evaluation.json").read_text())
    assert content["images"] == 3 and content["recipe"]["kinds"] == ["hand", "mask"] and content["recipe"]["seed"] == 4
    overall = content["subsets"]["overall"]
    assert overall["vertex_error"]["mean"] == pytest.approx(overall["mean_face_error"]["mean"], rel=1e-6)
    assert "| mean |" in result.output and (out / "evaluation.md").read_text() in result.output


def test_command_on_photos(checkpoint, tmp_path, model):
    """Synthetic faces as photos: landmarks and masks are read, a broken photo is told."""
    sample = SyntheticFaces(3, 96, seed=1, model=model, person_probability=0.0).batch(range(3))
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir(), masks.mkdir()
    lines = ["image,occlusion," + ",".join(f"x{i},y{i}" for i in range(68))]
    for k in range(3):
        pixels = (sample.image[k] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(photos / f"{k}.png")
        Image.fromarray((sample.visible[k, 0] * 255).round().byte().numpy()).save(masks / f"{k}.png")
        points = ",".join(f"{value - 0.5:.4f}" for value in sample.landmarks[k].reshape(-1).tolist())
        lines.append(f"{k}.png,{'+'.join(sample.occluders[k])},{points}")
    (photos / "landmarks.csv").write_text("\n".join(lines))
    (photos / "1.png").write_bytes(b"no picture")
    options = ("--checkpoint", checkpoint, "--level", 0, "--out", tmp_path / "out")
    result = run("--data", photos, "--masks", masks, *options)
    assert result.exit_code == 1 and "1.png" in result.output, result.output
    content = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert content["images"] == 2 and set(content["failures"]) == {"1.png"}
    assert {"f1", "rmse", "landmark_error"} <= set(content["subsets"]["overall"])
    assert "vertex_error" not in content["subsets"]["overall"]


def test_wrong_usage_is_told(checkpoint, tmp_path):
    result = run("--out", tmp_path)
    assert result.exit_code == 2 and "one of --synthetic, --data and --now, got none" in result.output
    result = run("--out", tmp_path, "--synthetic", 2, "--data", tmp_path)
    assert result.exit_code == 2 and "got --synthetic and --data" in result.output
    result = run("--out", tmp_path, "--now", tmp_path)
    assert result.exit_code == 2 and "focus reconstruct --now" in result.output
    result = run("--out", tmp_path, "--synthetic", 2, "--kinds", "cat", "--checkpoint", checkpoint, "--level", 0)
    assert result.exit_code == 2 and "expected kinds to be among" in result.output
