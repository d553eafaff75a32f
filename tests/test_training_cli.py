"""`focus train`: what it takes, what it refuses, and that it needs little to go on."""

import json

import pytest
import training_runs
from training_runs import STAGES, WITHOUT_F
from typer.testing import CliRunner

import focus.commands.train as command
from focus.cli import app


@pytest.fixture
def cli(monkeypatch, tmp_path, threads):
    """Runs the command in a folder with config.json, of the tiny networks; gives exit code and output."""
    training_runs.use_tiny_networks(monkeypatch.setattr)
    monkeypatch.setattr(command, "VALIDATION_FACES", 2)
    monkeypatch.chdir(tmp_path)
    config = {"size": 32, "level": 0, "segmentation_width": 2, "workers": 0, "log_every": 4, "validate_every": 7}
    config |= {"preset": {"batch_size": 2, **WITHOUT_F, **STAGES}}
    (tmp_path / "config.json").write_text(json.dumps(config))

    def run(*arguments):
        result = CliRunner().invoke(app, ["train", *map(str, arguments)])
        return result.exit_code, result.output + result.stderr

    return run


def test_synthetic_faces_and_going_on(cli, tmp_path):
    code, told = cli("--config", "config.json", "--synthetic", 4, "--out", "run", "--threads", 1)
    assert code == 0, told
    assert "validation after 12 iterations" in told and "f1" in told and "finished: run/model.safetensors" in told
    assert json.loads((tmp_path / "run/data.json").read_text())["synthetic"] == 4
    code, told = cli("--config", "config.json", "--synthetic", 4, "--out", "run")
    assert code == 2 and "expected run to hold no run, or resume (--resume)" in told
    code, told = cli("--out", "run", "--resume")
    assert code == 0 and "resumed after 12 of 12 iterations" in told
    code, told = cli("--out", "run", "--resume", "--synthetic", 5)
    assert code == 2 and "--synthetic: expected 4, as the run that is resumed has it, got 5" in told
    code, told = cli("--out", "run", "--resume", "--set", "seed=7")
    assert code == 2 and "expected seed to be 0, as the run that is resumed has it, got 7" in told


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "expected --data DIR or --synthetic N"),
        (("--synthetic", 4, "--data", "."), "expected --data DIR or --synthetic N"),
        (("--synthetic", 4, "--masks", "."), "--landmarks and --masks: expected --data DIR"),
        (("--synthetic", 4, "--preset", "huge"), "expected name to be one of paper, authors, tiny, got 'huge'"),
        (("--synthetic", 4, "--preset", "tiny", "--config", "config.json"), "--preset and --config"),
        (("--synthetic", 4, "--set", "seed"), "--set: expected KEY=VALUE, got seed"),
        (
            ("--synthetic", 4, "--set", "preset.neighbor.window=4"),
            "expected neighbor.window to be one of 3, 5, 7, got 4",
        ),
        (("--synthetic", 4, "--set", "encoder=vgg"), "expected encoder to be one of 'resnet50', 'small', got 'vgg'"),
        (("--data", ".", "--fresh"), "--fresh, --same, --kinds and --unoccluded: expected"),
        (("--data", ".", "--unoccluded", 0), "--fresh, --same, --kinds and --unoccluded: expected"),
        (("--data", "."), "landmarks.csv"),
        (("--synthetic", 4, "--config", "config.json", "--device", "tpu"), "expected device to be cpu"),
        (("--synthetic", 4, "--config", "config.json", "--first-stage", "last"), "expected first to be one of"),
    ],
)
def test_wrong_usage(cli, tmp_path, arguments, message):
    code, told = cli(*arguments, "--out", "run")
    assert code == 2 and message in " ".join(told.split()), told
    assert not (tmp_path / "run").exists()


def test_unoccluded(cli, tmp_path, monkeypatch):
    """The share of faces that nothing covers is the one asked for, also of a run that is resumed."""
    shares = []
    made = command._sources

    def sources(*arguments):
        found = made(*arguments)
        shares.append(found[0].faces.none_probability)
        return found

    monkeypatch.setattr(command, "_sources", sources)
    short = ("--config", "config.json", "--synthetic", 4, "--scale", 0.01)
    assert cli(*short, "--out", "a")[0] == cli(*short, "--unoccluded", 0, "--out", "b")[0] == 0
    assert cli("--out", "b", "--resume")[0] == 0
    code, told = cli("--out", "b", "--resume", "--unoccluded", 0.5)
    assert shares == [0.5, 0.0, 0.0]
    assert code == 2 and "--unoccluded: expected 0.0, as the run that is resumed has it, got 0.5" in told


def test_settings_of_the_command_line(tmp_path):
    (tmp_path / "settings.json").write_text('{"base": "tiny", "seed": 5}')
    settings = command._settings(tmp_path, None, None, ["size=64", "preset.em.iterations=10"], 0.5, True)
    assert (settings.seed, settings.size, settings.preset.em.iterations) == (5, 64, 5)
    assert command._settings(tmp_path, "authors", None, [], None, True).preset.name == "authors"
    assert command._settings(tmp_path, None, None, [], None, False).name == "paper"
