"""From nothing to a face on a page, by the commands: train all stages, be killed, resume, evaluate, reconstruct."""

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner

import focus.commands.train as command
from focus.cli import app
from focus.demo import LANDMARKS, NAME, demo_photo
from focus.training.log import read_metrics

CONFIG = {
    "base": "tiny",
    "size": 32,
    "segmentation_width": 2,
    "workers": 0,
    "log_every": 1,
    "checkpoint_every": 2,
    "preset": {
        "batch_size": 2,
        "initialisation": {"iterations": 3},
        "pretraining": {"iterations": 2},
        "em": {"iterations": 3, "segmentation_steps": 1, "reconstruction_steps": 1},
    },
}
TRAIN = ("train", "--config", "config.json", "--synthetic", "4", "--threads", "1", "--out")
KILLED = """
import os, signal
from focus.cli import main
from focus.training.steps import Steps
Steps.reconstruction = lambda self, batch: os.kill(os.getpid(), signal.SIGKILL)
main()
"""  # in the first R-step of EM: after the checkpoint of iteration 6


@pytest.fixture
def focus(monkeypatch, tmp_path, threads):
    """Runs a command in an empty folder; it must end well. Gives what it told."""
    monkeypatch.setattr(command, "VALIDATION_FACES", 2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    threads(1)

    def run(*arguments):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.output + result.stderr
        return result.output + result.stderr

    return run


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_from_nothing_to_a_face(focus, tmp_path):
    assert "finished" in focus(*TRAIN, "whole")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *TRAIN, "killed"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed/model.safetensors").exists()
    assert "resumed after 6 of 8 iterations" in focus("train", "--resume", "--threads", "1", "--out", "killed")

    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all(np.array_equal(whole[key], resumed[key]) for key in whole)
    kinds = [line["kind"] for line in read_metrics(tmp_path / "killed/metrics.jsonl") if line["kind"] != "validation"]
    em = ["segmentation", "reconstruction", "segmentation"]
    assert kinds == ["initialisation"] * 3 + ["pretraining"] * 2 + em
    assert "EM: R-steps" in (tmp_path / "killed/report.html").read_text(encoding="utf-8")

    checkpoint = ("--checkpoint", "killed/model.safetensors", "--level", 0)
    told = focus("evaluate", *checkpoint, "--synthetic", 2, "--out", "numbers")
    numbers = json.loads((tmp_path / "numbers/evaluation.json").read_text(encoding="utf-8"))
    assert "F1" in told and numbers["recipe"]

    Image.fromarray(demo_photo()[0]).save(tmp_path / NAME)
    focus("reconstruct", NAME, *checkpoint, "--landmarks", LANDMARKS, "--out", "faces")
    mesh = trimesh.load(tmp_path / "faces/astronaut/mesh.ply", process=False)
    assert len(mesh.vertices) > 2000 and np.isfinite(mesh.vertices).all()
    (row,) = csv.DictReader((tmp_path / "faces/results.csv").open(encoding="utf-8"))
    assert 0 <= float(row["occluded_fraction"]) <= 1 and not row["error"]
    assert "astronaut" in (tmp_path / "faces/index.html").read_text(encoding="utf-8")
