import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_runs import TinySource, face_model, tiny_settings, use_tiny_networks
from typer.testing import CliRunner

from focus.cli import app
from focus.evaluation.results import Statistic
from focus.experiments import PastedSource, make_plan, methods_of, run_experiment
from focus.experiments.claims import FAILS, HOLDS, MOSTLY, UNKNOWN, check_claims
from focus.experiments.configurations import ETAS, reconstruction_steps
from focus.experiments.experiment import synthetic_data
from focus.experiments.faces import HELD_OUT, SUBSETS, TRAIN_KINDS, face_batches
from focus.experiments.figures import sweep_points, sweep_svg
from focus.experiments.masks import use_mask
from focus.experiments.plan import SHORT, shortened
from focus.experiments.results import Results
from focus.experiments.runs import InterruptedRunError, Job, Runner
from focus.training import TrainSettings
from focus.training import run as training_run

TINY = TrainSettings.named("tiny")


def summary(**values):
    return {name: {key: Statistic(value, 0.1, 5) for key, value in values.items()} for name in (*SUBSETS, "overall")}


def results(experiment, **methods):
    """Method -> measure -> one value per seed."""
    found = {}
    for method, measures in methods.items():
        for seed in range(len(next(iter(measures.values())))):
            found[method, seed] = summary(**{key: values[seed] for key, values in measures.items()})
    return Results(experiment, tuple(methods), (0, 1, 2), found)


def test_ablation_leaves_out_what_table_5_leaves_out():
    paper = TrainSettings.named("paper")
    weights = {
        item.name: None if item.settings is None else item.settings.preset.segmentation_weights
        for item in methods_of("ablation", paper)
    }
    assert list(weights) == ["Pretrained", "Pretrained S", "Baseline", "Neighbor", "Perceptual", "FOCUS"]
    assert weights["Pretrained"] is None and weights["FOCUS"] == paper.preset.segmentation_weights
    found = {name: (w.neighbor, w.distance, w.preserve, w.pixel) for name, w in weights.items() if w is not None}
    assert found == {
        "Baseline": (0, 0, 0, 15),
        "Neighbor": (15, 0, 0, 0),
        "Perceptual": (0, 3, 2.5, 0),
        "FOCUS": (15, 3, 2.5, 0),
    }
    assert all(w.area == 0.5 and w.binary == 10 for w in weights.values() if w is not None)


def test_baselines_have_their_masks_and_as_many_reconstruction_steps():
    paper = TrainSettings.named("paper")
    found = {item.name: item for item in methods_of("baselines", paper)}
    masks = {name: item.settings.mask for name, item in found.items()}
    assert masks == {
        "MoFA": "raster",
        "Deep3D (skin colour)": "skin",
        "Backbone": "raster",
        "Backbone-Supervised": "ground_truth",
        "Backbone-cutmix": "ground_truth",
        "Backbone-cutout": "ground_truth",
        "FOCUS": "segmentation",
    }
    assert found["MoFA"].settings.preset.reconstruction_weights.perceptual == 0
    assert found["Backbone"].settings.preset.reconstruction_weights.perceptual == 0.25
    assert {name: item.paste for name, item in found.items() if item.paste} == {
        "Backbone-cutmix": "cutmix",
        "Backbone-cutout": "cutout",
    }
    steps = 25_000 * 6 + 15_000  # of 200,000 iterations in rounds of 5,000 and 25,000
    assert reconstruction_steps(paper) == steps
    assert all(item.settings.preset.em.iterations == steps for name, item in found.items() if name != "FOCUS")


def test_the_sweep_changes_one_weight_at_a_time():
    items = methods_of("hyperparameters", TINY, (0.5, 1, 2))
    assert len(items) == 1 + 5 * 2
    standard = vars(TINY.preset.segmentation_weights)
    for item in items[1:]:
        changed = {key: v for key, v in vars(item.settings.preset.segmentation_weights).items() if v != standard[key]}
        assert changed == {item.eta: standard[item.eta] * item.factor}
    with pytest.raises(ValueError, match="factors to be finite and >= 0, got -1"):
        methods_of("hyperparameters", TINY, (-1.0,))
    with pytest.raises(ValueError, match="expected experiment to be one of ablation"):
        methods_of("other", TINY)


@pytest.mark.parametrize("experiment", ["ablation", "baselines"])
def test_the_default_plan_fits_its_time_and_fills_it(experiment):
    plan = make_plan(experiment, TINY, seeds=3, minutes=90)
    assert 85 * 60 < plan.seconds <= 90 * 60
    assert f"{plan.seconds / 60:.0f} min" in plan.describe()
    preset = plan.settings.preset
    ratio = preset.em.iterations / preset.initialisation.iterations
    whole = TINY.preset
    wanted = whole.em.iterations * SHORT["em"] / (whole.initialisation.iterations * SHORT["initialisation"])
    assert ratio == pytest.approx(wanted, rel=0.01)


def test_a_plan_counts_every_step():
    plan = make_plan("ablation", TINY, seeds=2, faces=10)
    iterations = plan.iterations
    assert iterations["initialisation"] == 2 * 8400 and iterations["pretraining"] == 2 * 120
    assert (iterations["segmentation"], iterations["reconstruction"]) == (2 * 4 * 600, 2 * 4 * 1200)
    assert iterations["without S"] == 2 * 1200  # the prior's
    assert make_plan("ablation", TINY, seeds=4, faces=10).seconds == pytest.approx(2 * plan.seconds)


def test_short_runs_decay_as_far_as_long_ones():
    short = shortened(TINY.preset, 1.0)
    assert short.initialisation.iterations == 1428 and short.em.iterations == 306  # 17 %
    assert short.em_reconstruction_rate == pytest.approx(TINY.preset.em_reconstruction_rate)


@pytest.mark.parametrize(
    ("settings", "keywords", "message"),
    [
        (TINY, {"minutes": 1}, "expected minutes to be at least"),
        (TINY, {"seeds": 0}, "expected seeds to be >= 1, got 0"),
        (TrainSettings.named("paper"), {"minutes": 90}, "known for the sizes of the preset tiny only"),
    ],
)
def test_plans_that_cannot_be(settings, keywords, message):
    with pytest.raises(ValueError, match=message):
        make_plan("ablation", settings, **keywords)


@pytest.mark.parametrize("kind", ["cutmix", "cutout"])
def test_pasting_covers_a_rectangle_and_nothing_else(kind):
    source = TinySource(count=8, size=64)
    indices = list(range(8))
    before, after = source.batch(indices, 3), PastedSource(source, kind, 5, probability=1).batch(indices, 3)
    for row in indices:
        gone = (after.visible[row, 0] == 0).numpy()
        rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        assert gone[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # one full rectangle
        assert 0.1 * 64 - 1 <= len(rows) <= 0.4 * 64 + 1 and 0.1 * 64 - 1 <= len(columns) <= 0.4 * 64 + 1
        keep = torch.from_numpy(~gone)
        assert torch.equal(after.image[row][:, keep], before.image[row][:, keep])
        assert torch.equal(after.visible[row][:, keep], before.visible[row][:, keep])
        covered = after.image[row][:, ~keep]
        assert (covered == 0).all() if kind == "cutout" else not torch.equal(covered, before.image[row][:, ~keep])
    assert torch.equal(after.landmarks, before.landmarks)


def test_pasting_depends_on_seed_epoch_and_index_alone():
    source = TinySource(count=40)
    pasted = PastedSource(source, "cutmix", 5)
    whole = pasted.batch(range(40), 1)
    assert torch.equal(pasted.batch([7, 3], 1).image, whole.image[[7, 3]])
    plain = source.batch(range(40), 1).visible
    changed = [bool((one != other).any()) for one, other in zip(whole.visible, plain, strict=True)]
    assert 2 <= sum(changed) <= 20  # a quarter of them
    assert not torch.equal(PastedSource(source, "cutmix", 6).batch(range(40), 1).visible, whole.visible)
    with pytest.raises(ValueError, match="expected kind to be 'cutmix' or 'cutout', got 'hand'"):
        PastedSource(source, "hand")


def test_pasting_wants_masks():
    source = SimpleNamespace(size=32, batch=lambda *_: TinySource().batch([0], 0)._replace(visible=None))
    with pytest.raises(ValueError, match="expected a source with visible masks"):
        PastedSource(source, "cutout").batch([0], 0)


def test_no_training_sees_the_held_out_kind():
    assert "cutout" not in TRAIN_KINDS and synthetic_data(10)["kinds"] == list(TRAIN_KINDS)
    found = [subset for part in face_batches(3, 32, face_model()) for subset in part.subsets]
    assert set(found) <= {(name,) for name in SUBSETS} and found[:3] == [("unoccluded",)] * 3
    assert (HELD_OUT,) in found[6:] and ("seen kinds",) in found[3:6]


def test_hashes_bind_runs_to_all_they_depend_on():
    data = synthetic_data(10)
    job = Job("a", TINY, data)
    assert Job("a", TINY.replace(name="other", workers=7, log_every=3), data).key == job.key
    others = [
        Job("a", TINY.replace(seed=1), data),
        Job("a", TINY.replace(preset={"neighbor": {"window": 5}}), data),
        Job("a", TINY, synthetic_data(11)),
        Job("a", TINY, {**data, "paste": "cutmix"}),
        Job("a", TINY, data, first_stage="em"),
        Job("a", TINY, data, start=(job, "pretraining")),
        Job("a", TINY, data, start=(job, "initialisation")),
        Job("a", TINY, data, files={"weights": "0"}),
    ]
    assert len({job.key, *(other.key for other in others)}) == len(others) + 1
    place = Job("a", TINY, {**data, "folder": "x"})
    assert place.key == Job("a", TINY, {**data, "folder": "y"}).key


def test_claims_follow_the_numbers():
    f1 = {"Pretrained": (0.5, 0.5, 0.5), "Baseline": (0.6, 0.6, 0.4), "Neighbor": (0.7, 0.7, 0.3), "FOCUS": (0.6,) * 3}
    methods = {name: {"f1": values} for name, values in f1.items()}
    methods["FOCUS"] |= {"rmse": (9, 9, 9), "vertex_error": (2.0,) * 3, "vertex_error_prior": (1.5, 1.5, 2.6)}
    methods["Pretrained"] |= {"rmse": (10, 10, 10)}
    claims = {claim.text: claim for claim in check_claims(results("ablation", **methods))}
    verdicts = {text: claim.verdict for text, claim in claims.items()}
    assert verdicts[f"F1 of Baseline above Pretrained's, {HELD_OUT}"] == MOSTLY
    assert verdicts[f"F1 of FOCUS above Neighbor's, {HELD_OUT}"] == MOSTLY
    assert verdicts[f"F1 of Neighbor above Baseline's, {HELD_OUT}"] == MOSTLY
    assert verdicts[f"RMSE of FOCUS below Pretrained's, {HELD_OUT}"] == HOLDS
    assert verdicts[f"vertex error of FOCUS below Pretrained's, {HELD_OUT}"] == UNKNOWN
    assert verdicts["the misfit prior lowers the vertex error, mean of all methods"] == MOSTLY
    assert "2 of 3 seeds" in claims[f"F1 of Baseline above Pretrained's, {HELD_OUT}"].numbers
    methods["FOCUS"]["f1"] = (0.1, 0.1, 0.1)
    verdicts = {claim.text: claim.verdict for claim in check_claims(results("ablation", **methods))}
    assert verdicts[f"F1 of FOCUS above Neighbor's, {HELD_OUT}"] == FAILS


def test_the_sweep_is_judged_and_drawn():
    fractions = {"eta1 neighbor": (0.2, 0.4), "eta3 area": (0.2, 0.4), "eta5 binary": (0.3, 0.3)}
    methods = {"FOCUS": {"f1": (0.8,), "acc": (0.7,), "occluded_fraction": (0.3,)}}
    for name, pair in fractions.items():
        for factor, fraction in zip((0.5, 2), pair, strict=True):
            methods[f"{name} x {factor:g}"] = {"f1": (0.8 + fraction / 50,), "occluded_fraction": (fraction,)}
    found = results("hyperparameters", **methods)
    verdicts = [claim.verdict for claim in check_claims(found)]
    assert verdicts == [HOLDS, FAILS, HOLDS]
    points = sweep_points(found, methods_of("hyperparameters", TINY, (0.5, 2)))
    assert list(points["neighbor"]) == [0.5, 1, 2] and points["neighbor"][2]["f1"] == pytest.approx(0.808)
    svg = sweep_svg(points)
    assert svg.count("#dd0000") == 2 * len(ETAS)  # F1 and ACC of the standard weights in every subplot


def test_statistics_are_over_seeds():
    found = results("ablation", FOCUS={"f1": (0.5, 0.7, 0.9)})
    assert found.over_seeds()["FOCUS"]["overall"]["f1"] == pytest.approx(Statistic(0.7, 0.2, 3))
    row = list(csv.reader(found.to_csv().splitlines()))[-1]
    assert row == ["FOCUS", "overall", "f1", "0.7", "0.2", "3", "0.5", "0.7", "0.9"]


@pytest.fixture
def tiny(monkeypatch):
    use_tiny_networks(monkeypatch.setattr)
    stages = {
        "initialisation": {"iterations": 2},
        "pretraining": {"iterations": 1},
        "em": {"iterations": 2, "segmentation_steps": 1, "reconstruction_steps": 1},
    }
    still = {"shift": 0.0, "scale": 0.0, "rotation": 0.0, "flip": 0.0}
    return tiny_settings(augmentation=still, image_every=1000, validate_every=1000, preset=stages)


def small_plan(settings, experiment="ablation", **numbers):
    numbers = {"seeds": 2, "faces": 1, "prior_faces": 1, "training_faces": 4} | numbers
    return make_plan(experiment, settings, **numbers)


def count_trainings(monkeypatch):
    """A list that gets the folder of every call of `train`."""
    calls, train = [], training_run.train

    def counted(settings, source, out, **keywords):
        calls.append(out.name)
        return train(settings, source, out, **keywords)

    monkeypatch.setattr(training_run, "train", counted)
    return calls


def test_an_experiment_goes_on_where_it_was_ended(tmp_path, tiny, monkeypatch):
    calls = count_trainings(monkeypatch)
    plan, messages = small_plan(tiny, seeds=1), []

    def run(out, tell=messages.append):
        return run_experiment(plan, out, synthetic_data(4), face_model=face_model(), shown=False, tell=tell)

    def die(text):
        if text.startswith("perceptual-seed0"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", die)
    before = len(calls)
    outcome = run(tmp_path / "a")
    assert len(calls) == len(set(calls)) and len(calls) - before == 1  # nothing is trained twice
    # Without F "Neighbor" is FOCUS, so it is one run: shared, prior, Baseline, Neighbor, Perceptual.
    assert len(calls) == 5 and any("FOCUS has the settings of Neighbor" in note for note in outcome.results.notes)
    again = run(tmp_path / "a")
    assert len(calls) == 5 and again.report == outcome.report
    assert "| FOCUS-MP |" in outcome.report
    content = json.loads((tmp_path / "a" / "ablation.json").read_text())
    assert set(content["methods"]["FOCUS"]) == {*SUBSETS, "overall"} & set(content["methods"]["FOCUS"])
    assert len(content["claims"]) == len(outcome.claims) == 14
    assert {row["method"] for row in csv.DictReader((tmp_path / "a" / "ablation.csv").open())} == {
        *outcome.results.methods
    }
    assert (tmp_path / "a" / "ablation_faces.png").stat().st_size > 1000


def test_baselines_run_and_diverged_runs_are_told(tmp_path, tiny, monkeypatch):
    train = training_run.train

    def failing(settings, source, out, **keywords):
        if settings.mask == "skin":
            return SimpleNamespace(ended="diverged", iteration=3, total=9)
        return train(settings, source, out, **keywords)

    monkeypatch.setattr(training_run, "train", failing)
    plan = small_plan(tiny, "baselines", seeds=1)
    outcome = run_experiment(
        plan, tmp_path, synthetic_data(4), face_model=face_model(), shown=False, tell=lambda text: None
    )
    assert outcome.failed == ["Deep3D (skin colour), seed 0"]
    assert "Deep3D (skin colour), seed 0: its training diverged." in outcome.report
    assert "| Backbone-cutmix-MP |" in outcome.report and "one seed" in outcome.report
    assert "MoFA" not in outcome.report.split("## RMSE")[0].split("## Masks", 1)[1]  # it has no mask


def test_photos_without_masks_leave_the_supervised_out(tmp_path, tiny):
    from focus.experiments.experiment import _Laboratory

    runner = Runner(tmp_path, face_model(), {}, print)
    laboratory = _Laboratory(small_plan(tiny, "baselines"), runner, {"kind": "photos", "masked": False}, {}, "cpu")
    assert [item.name for item in laboratory.methods] == ["MoFA", "Deep3D (skin colour)", "Backbone", "FOCUS"]
    assert len(laboratory.notes) == 3


def test_a_signal_ends_the_experiment(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(training_run, "train", lambda *_, **__: SimpleNamespace(ended="interrupted", exit_code=143))
    runner = Runner(tmp_path, face_model(), {}, lambda text: None)
    with pytest.raises(InterruptedRunError) as caught:
        runner.run(Job("a", tiny, synthetic_data(4)))
    assert caught.value.exit_code == 143 and not runner.done(Job("a", tiny, synthetic_data(4)))


def test_masks_that_need_no_network(tiny):
    autoencoder = training_run.make_autoencoder(tiny).eval()
    photos = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = autoencoder(photos)
    difference = ((photos - made.face.image) ** 2).sum(1, keepdim=True)
    found = use_mask(autoencoder, "preliminary")(photos)
    inside = made.face.mask > 0
    assert torch.equal(found.mask[inside] > 0, (difference < tiny.preset.inlier_threshold)[inside])
    assert torch.equal(use_mask(autoencoder, "whole render")(photos).mask, made.face.mask)
    with pytest.raises(ValueError, match="expected an autoencoder with a segmentation network"):
        use_mask(autoencoder, "network")


def run_command(*words):
    return CliRunner().invoke(app, ["experiment", *map(str, words)])


def test_the_command_shows_its_plan_and_refuses_what_cannot_be(tmp_path):
    shown = run_command("ablation", "--out", tmp_path / "x", "--plan")
    assert shown.exit_code == 0 and "forecast" in shown.output and not (tmp_path / "x").exists()
    for words, message in [
        (("other",), "expected experiment to be one of"),
        (("ablation", "--minutes", "5", "--scale", "1"), "expected one of them"),
        (("ablation", "--masks", tmp_path), "expected --data DIR with it"),
        (("hyperparameters", "--factors", "a"), "expected numbers with commas"),
    ]:
        refused = run_command(*words, "--out", tmp_path / "x")
        assert refused.exit_code == 2 and message in refused.output, refused.output
