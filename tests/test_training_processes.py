"""Two processes that share a batch train as one does with all of it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import training_processes
import training_runs
from training_processes import PRESETS, recorded_run

from focus.training.processes import Processes

TOLERANCE = 1e-5  # of the greatest gradient; the processes' sums have another order


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What two processes, joined by gloo, left behind."""
    out = tmp_path_factory.mktemp("shared")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"}
    common |= {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, training_processes.__file__, str(out)],
            env=os.environ | common | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        errors = [process.communicate(timeout=900)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return out


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
@pytest.mark.parametrize("name", PRESETS)
def test_gradients_are_those_of_the_whole_batch(name, shared, tmp_path, monkeypatch, threads):
    """Of every step of all stages; the sums over the batch of `authors` are over both processes."""
    threads(1)
    training_runs.use_tiny_networks(monkeypatch.setattr)
    gradients, _ = recorded_run(tmp_path, name)
    ranks = [np.load(Path(shared) / f"{name}.{rank}.npz") for rank in (0, 1)]
    assert {key.split(".")[0] for key in gradients} == {str(step) for step in range(training_runs.TOTAL)}
    assert gradients.keys() == set(ranks[0].files) == set(ranks[1].files)
    for step in range(training_runs.TOTAL):
        keys = [key for key in gradients if key.startswith(f"{step}.")]
        greatest = max(float(gradients[key].abs().max()) for key in keys)
        assert greatest > 0
        for key in keys:
            assert np.array_equal(ranks[0][key], ranks[1][key])
            assert np.abs(ranks[0][key] - gradients[key].numpy()).max() <= TOLERANCE * greatest, (step, key)


def test_batches_that_cannot_be_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(training_runs.run, "Processes", lambda device: type("Two", (), {"world": 2})())
    training_runs.use_tiny_networks(monkeypatch.setattr)
    with pytest.raises(ValueError, match=r"expected preset.batch_size to be a multiple of the 2 processes, got 3"):
        training_runs.tiny_run(tmp_path, training_runs.tiny_settings(preset={"batch_size": 3}))


def test_one_gpu_for_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="expected device to be cpu or cuda for 2 processes, got 'cuda:1'"):
        Processes("cuda:1")


def test_one_process_changes_nothing():
    processes = Processes("cpu")
    network, value = torch.nn.Linear(2, 2), torch.rand(3, requires_grad=True)
    assert processes.first and processes.wrap(network) is network
    assert processes.total(value) is value and processes.most([1.0, 2.0]) == [1.0, 2.0]
    assert torch.equal(processes.gather(value.detach())[0], value.detach())
