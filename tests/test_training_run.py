"""Whole runs with networks that are nearly nothing: files, signals, damage, full disks, NaN, and going on."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import training_runs
from training_runs import TOTAL, TinySource, assert_same_weights, tiny_run, tiny_settings, weights_of

from focus.autoencoder import FaceAutoencoder
from focus.training import Checkpoints
from focus.training.log import read_metrics
from focus.training.steps import Steps

PROGRAM = Path(training_runs.__file__)


@pytest.fixture(autouse=True)
def tiny(monkeypatch, threads):
    threads(1)
    training_runs.use_tiny_networks(monkeypatch.setattr)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed: its folder and its result."""
    out = tmp_path_factory.mktemp("whole") / "run"
    patch = pytest.MonkeyPatch()
    training_runs.use_tiny_networks(patch.setattr)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the others: sums depend on it in the last bits
    yield out, tiny_run(out)
    torch.set_num_threads(threads)
    patch.undo()


def call_at(monkeypatch, number, act):
    """`act` is called in the step of that number, from 1."""
    count = 0

    def acting(original):
        def step(self, batch):
            nonlocal count
            count += 1
            if count == number:
                act()
            return original(self, batch)

        return step

    for name in ("initialisation", "pretraining", "segmentation", "reconstruction"):
        monkeypatch.setattr(Steps, name, acting(getattr(Steps, name)))


def test_files(whole):
    out, result = whole
    assert (result.ended, result.exit_code, result.iteration, result.total) == ("finished", 0, TOTAL, TOTAL)
    assert (result.skipped, result.failures, result.path) == (0, 0, out / "model.safetensors")
    assert {path.name for path in out.iterdir()} == {
        *("settings.json", "metrics.jsonl", "checkpoints", "tensorboard", "samples", "report.html"),
        *("initialisation.safetensors", "pretraining.safetensors", "model.safetensors"),
    }
    loaded = FaceAutoencoder.load(result.path, level=0)
    assert_same_weights(weights_of(loaded), weights_of(result.autoencoder))
    assert loaded.metadata["iterations"] == str(TOTAL) and "settings" in loaded.metadata
    assert not any(module.training for module in result.autoencoder.modules())
    after = [FaceAutoencoder.load(out / f"{stage}.safetensors", level=0) for stage in ("initialisation", "pretraining")]
    assert_same_weights(weights_of(after[0].encoder), weights_of(after[1].encoder))
    assert not torch.equal(after[1].encoder.head.weight, loaded.encoder.head.weight)
    numbers = [path.name for path in Checkpoints(out / "checkpoints").paths()]
    assert numbers == [f"stage-{number:08d}.safetensors" for number in (12, 7, 4)]


def test_metrics(whole):
    out, _ = whole
    lines = read_metrics(out / "metrics.jsonl")
    assert [(line["iteration"], line["kind"]) for line in lines] == [
        *[(2, "initialisation"), (4, "initialisation"), (6, "pretraining"), (8, "pretraining"), (8, "segmentation")],
        *[(10, "segmentation"), (10, "reconstruction"), (12, "segmentation")],
    ]
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert {"pixel", "landmark", "regularisation", "gradient_norm", "rate"} <= lines[0].keys()
    assert lines[0]["rate"] == pytest.approx(0.1) and lines[1]["rate"] == pytest.approx(0.099)
    weights = tiny_settings().preset.reconstruction_weights
    terms = ("pixel", "landmark", "regularisation")
    scale = {"landmark": 49}  # (224 / 32)^2
    total = sum(getattr(weights, name) * scale.get(name, 1) * lines[0][name] for name in terms)
    assert lines[0]["loss"] == pytest.approx(total, rel=1e-4)


def test_tensorboard(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole[0] / "tensorboard"))
    events.Reload()
    assert {"initialisation/loss", "pretraining/cross_entropy", "segmentation/area", "reconstruction/pixel"} <= set(
        events.Tags()["scalars"]
    )
    lines = {line["iteration"]: line for line in read_metrics(whole[0] / "metrics.jsonl")}
    for event in events.Scalars("initialisation/loss"):
        assert event.value == pytest.approx(lines[event.step]["loss"], rel=1e-4)
    assert [event.step for event in events.Images("samples")] == [0, 5, 10, 12]


def test_report(whole):
    page = whole[1].report.read_text(encoding="utf-8")
    for text in ("Initialisation", "Pre-training", "EM: S-steps", "EM: R-steps", "cross_entropy", "tiny test"):
        assert text in page
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r'(src|href)="(?!data:)', page)  # one file, nothing fetched
    paths = re.findall(r'<path d="([^"]*)"', page)
    assert len(paths) > 10 and all(re.fullmatch(r"M[\d.]+ [\d.]+(?:L[\d.]+ [\d.]+|h0)+", path) for path in paths)
    assert not re.search(r"\bnan\b", page.split("<pre>")[0].split("</div>\n<h2>", 1)[1].lower())


def test_the_same_again(whole, tmp_path):
    assert_same_weights(weights_of(whole[1].autoencoder), weights_of(tiny_run(tmp_path).autoencoder))
    other = tiny_run(tmp_path / "seed", tiny_settings(seed=1))
    assert not torch.equal(other.autoencoder.encoder.head.weight, whole[1].autoencoder.encoder.head.weight)


@pytest.mark.parametrize("number, signal_number", [(1, signal.SIGINT), (4, signal.SIGTERM), (11, signal.SIGINT)])
def test_interrupted_and_resumed(whole, tmp_path, monkeypatch, interruptible, number, signal_number):
    """The same weights as of the run that nobody disturbed, and a log without holes or repetitions."""
    with monkeypatch.context() as patch:
        call_at(patch, number, lambda: os.kill(os.getpid(), signal_number))
        result = tiny_run(tmp_path)
    assert (result.ended, result.iteration, result.exit_code) == ("interrupted", number, 128 + signal_number)
    assert result.path is None and "Interrupted" in result.report.read_text(encoding="utf-8")
    assert Checkpoints(tmp_path / "checkpoints").latest().iteration == number
    again = tiny_run(tmp_path, resume=True)
    assert again.ended == "finished"
    assert_same_weights(weights_of(whole[1].autoencoder), weights_of(again.autoencoder))
    seen = [(line["iteration"], line["kind"]) for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert seen == [(line["iteration"], line["kind"]) for line in read_metrics(whole[0] / "metrics.jsonl")]


def test_loading_processes_die_of_a_signal(whole, tmp_path, monkeypatch, interruptible):
    """torch raises that wherever the run is, so the run ends without a checkpoint of this moment."""

    def fall(signals):
        for number in signals:
            os.kill(os.getpid(), number)
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")

    with monkeypatch.context() as patch:
        call_at(patch, 7, lambda: fall([signal.SIGTERM]))
        result = tiny_run(tmp_path)
    assert (result.ended, result.exit_code) == ("interrupted", 128 + signal.SIGTERM)
    assert Checkpoints(tmp_path / "checkpoints").latest().iteration == 4  # the end of the first stage
    assert_same_weights(weights_of(whole[1].autoencoder), weights_of(tiny_run(tmp_path, resume=True).autoencoder))
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed by signal"):
        call_at(patch, 7, lambda: fall([]))
        tiny_run(tmp_path / "alone")


def kill(out, fatal):
    """A run in a process of its own that is killed; the iterations of its checkpoints."""
    command = [sys.executable, PROGRAM, str(out), str(fatal)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    if fatal == 0:
        until = time.monotonic() + 900
        while not Checkpoints(out / "checkpoints").paths()[2:] and time.monotonic() < until:  # the stages' and others
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        time.sleep(float(np.random.default_rng().random()) / 5)
        process.kill()
    _, errors = process.communicate(timeout=900)
    assert process.returncode == -signal.SIGKILL, errors


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_killed_at_any_moment(tmp_path):
    """kill -9, whenever, and what comes after is what it would have been."""
    kill(tmp_path / "killed", 0)
    end = max(Checkpoints(tmp_path / "killed" / "checkpoints").latest().iteration, 7) + 3
    preset = {"em": {"iterations": end - 7}}
    for path in Checkpoints(tmp_path / "killed" / "checkpoints").paths():  # as if that run had been as short
        found = Checkpoints.read(path)
        found.state["settings"]["preset"]["em"]["iterations"] = end - 7
        Checkpoints(path.parent, keep=9).save(found.iteration, found.tensors, found.state, permanent=True)
    resumed = tiny_run(tmp_path / "killed", tiny_settings(preset=preset), resume=True)
    assert (resumed.ended, resumed.iteration) == ("finished", end)
    whole = tiny_run(tmp_path / "whole", tiny_settings(preset=preset))
    assert_same_weights(weights_of(whole.autoencoder), weights_of(resumed.autoencoder))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the program that kills itself needs /proc")
def test_killed_while_a_checkpoint_is_written(whole, tmp_path):
    kill(tmp_path, 7)  # one of the files before was a network
    folder = tmp_path / "checkpoints"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")]  # half a file is there
    assert Checkpoints(folder).latest().iteration == 5
    resumed = tiny_run(tmp_path, tiny_settings(checkpoint_every=1), resume=True)
    assert_same_weights(weights_of(whole[1].autoencoder), weights_of(resumed.autoencoder))
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_damaged_checkpoint(whole, tmp_path, capfd):
    tiny_run(tmp_path, tiny_settings(checkpoint_every=1))
    paths = Checkpoints(tmp_path / "checkpoints").paths()
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[:-1])
    again = tiny_run(tmp_path, resume=True, shown=True)
    told = capfd.readouterr().err
    assert all(f"passed over the checkpoint {path.name}" in told for path in paths[:2])
    assert "resumed after 10 of 12 iterations" in told
    assert_same_weights(weights_of(whole[1].autoencoder), weights_of(again.autoencoder))


def test_full_disk(whole, tmp_path, monkeypatch, capfd):
    """A checkpoint that cannot be written is told, the older ones stay, and the run goes on to its end."""
    sync = os.fsync
    state = {"count": 0}

    def full(descriptor):
        state["count"] += 1
        if 5 <= state["count"] <= 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        result = tiny_run(tmp_path, tiny_settings(checkpoint_every=1), shown=True)
    told = capfd.readouterr().err
    assert "cannot be written: [Errno 28] No space left on device" in told and "training goes on" in told
    assert (result.ended, result.iteration, result.exit_code) == ("finished", TOTAL, 1) and result.failures > 0
    assert_same_weights(weights_of(whole[1].autoencoder), weights_of(result.autoencoder))


class SpoiltSource(TinySource):
    """From one call on all photos are NaN."""

    calls, spoilt = 0, range(0)

    def batch(self, indices, epoch):
        batch = super().batch(indices, epoch)
        if type(self).calls in self.spoilt:
            batch.image.fill_(torch.nan)
        type(self).calls += 1
        return batch


def test_single_steps_that_are_not_finite(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(SpoiltSource, "calls", 0)
    monkeypatch.setattr(SpoiltSource, "spoilt", (3, 8))  # the first call is for the samples
    result = tiny_run(tmp_path, source=SpoiltSource(), shown=True)
    assert (result.ended, result.skipped, result.exit_code) == ("finished", 2, 0)
    assert all(value.isfinite().all() for value in weights_of(result.autoencoder).values())
    told = capfd.readouterr().err
    assert "skipped step 3: its loss or gradient was not finite (1 so far)" in told and "skipped step 8" in told
    assert [line["skipped"] for line in read_metrics(tmp_path / "metrics.jsonl")][-1] == 2


def test_nothing_but_steps_that_are_not_finite(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(SpoiltSource, "calls", 0)
    monkeypatch.setattr(SpoiltSource, "spoilt", range(5, 1000))
    settings = tiny_settings(checkpoint_every=1, preset={"em": {"iterations": 50}})
    result = tiny_run(tmp_path, settings, source=SpoiltSource(), shown=True)
    assert (result.ended, result.iteration, result.skipped, result.exit_code) == ("diverged", 24, 20, 1)
    assert "stopped: 20 steps in a row" in capfd.readouterr().err and result.path is None
    kept = Checkpoints(tmp_path / "checkpoints").latest()
    assert all(value.isfinite().all() for value in kept.tensors.values() if value.is_floating_point())
    assert "Stopped" in result.report.read_text(encoding="utf-8")


def test_a_run_is_not_overwritten(tmp_path):
    tiny_run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="to hold no run, or resume"):
        tiny_run(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_a_finished_run_resumed(whole, tmp_path):
    tiny_run(tmp_path)
    again = tiny_run(tmp_path, resume=True)
    assert (again.ended, again.iteration) == ("finished", TOTAL)
    assert_same_weights(weights_of(whole[1].autoencoder), weights_of(again.autoencoder))


def test_other_settings_are_refused(tmp_path):
    tiny_run(tmp_path)
    for changes, message in (
        ({"seed": 3}, "expected seed to be 0, as the run that is resumed has it, got 3"),
        ({"preset": {"neighbor": {"window": 5}}}, "expected preset.neighbor.window to be 3, .* got 5"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny_run(tmp_path, tiny_settings(**changes), resume=True)
    tiny_run(tmp_path, tiny_settings(log_every=1, workers=1), resume=True)


def test_nothing_to_resume(whole, tmp_path, capfd):
    result = tiny_run(tmp_path, resume=True, shown=True)
    assert "no checkpoint to resume from: starting at the beginning" in capfd.readouterr().err
    assert_same_weights(weights_of(whole[1].autoencoder), weights_of(result.autoencoder))


def test_validation(whole, tmp_path):
    """Called every 6 iterations and at the end, with all in evaluation mode; it changes no weight."""
    seen = []

    def validate(autoencoder):
        seen.append([module.training for module in autoencoder.modules()])
        torch.rand(3)
        return {"f1": 0.25, "broken": float("nan")}

    result = tiny_run(tmp_path, validate=validate)
    assert len(seen) == 2 and not any(map(any, seen))
    lines = [line for line in read_metrics(tmp_path / "metrics.jsonl") if line["kind"] == "validation"]
    assert lines == [{"iteration": n, "kind": "validation", "f1": 0.25, "broken": None} for n in (6, 12)]
    assert_same_weights(weights_of(whole[1].autoencoder), weights_of(result.autoencoder))
    assert "<th>f1</th>" in result.report.read_text(encoding="utf-8")


def test_from_a_trained_file(whole, tmp_path):
    """Shared initialisation: EM alone from the file that the stages before it left."""
    result = tiny_run(tmp_path, start=whole[0] / "pretraining.safetensors", first_stage="em")
    assert result.total == 5
    settings = tiny_settings(mask="raster")
    without = tiny_run(tmp_path / "raster", settings, start=whole[0] / "initialisation.safetensors", first_stage="em")
    assert without.autoencoder.segmenter is None and without.total == 5
    with pytest.raises(ValueError, match=r"expected the segmenter of .* to be as in the settings"):
        tiny_run(tmp_path / "other", tiny_settings(segmentation_width=3), start=whole[1].path)


def test_data_that_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match="expected a source of size 32 as in the settings, got 48"):
        tiny_run(tmp_path, source=TinySource(size=48))
    with pytest.raises(ValueError, match="expected a source with photos, got none"):
        tiny_run(tmp_path, source=TinySource(count=0))


def test_recipe(tmp_path):
    result = tiny_run(tmp_path, recipe={"synthetic": 6})
    assert json.loads((tmp_path / "data.json").read_text()) == {"synthetic": 6}
    assert json.loads(FaceAutoencoder.load(result.path, level=0).metadata["data"]) == {"synthetic": 6}
