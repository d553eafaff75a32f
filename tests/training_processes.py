"""A program for test_training_processes.py: one of several processes that share runs. `training_processes.py OUT`"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
import training_runs
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from training_runs import tiny_run, tiny_settings, weights_of

from focus.presets import Preset
from focus.training.steps import Steps

PRESETS = ("paper", "authors")


def settings_of(name):
    """Without dropout, which differs between processes; with small steps, so that roundings do not grow."""
    stages = {stage: dict(values) for stage, values in training_runs.STAGES.items()}
    for stage in ("initialisation", "pretraining"):  # that of EM follows
        stages[stage]["learning_rate"] = 1e-6
    parts = {"batch_size": 4, **training_runs.WITHOUT_F, **stages}
    return tiny_settings(preset=Preset.named(name).replace(**parts), dropout=0.0, checkpoint_every=1)


def recorded_run(out, name, **keywords):
    """The gradients of every step of a run whose batch statistics are frozen, and its result."""
    gradients = {}

    def record(optimizer, *_):
        step = len({key.split(".")[0] for key in gradients})
        for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
            gradients[f"{step}.{index}"] = parameter.grad.clone()

    hook = register_optimizer_step_pre_hook(record)
    train = nn.modules.batchnorm._BatchNorm.train
    nn.modules.batchnorm._BatchNorm.train = lambda self, mode=True: train(self, False)
    try:
        return gradients, tiny_run(out / name, settings_of(name), **keywords)
    finally:
        hook.remove()
        nn.modules.batchnorm._BatchNorm.train = train


def stop_at(number):
    """Only this process gets the signal."""
    count, original = 0, Steps.initialisation

    def initialisation(self, batch):
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch)

    Steps.initialisation = initialisation


def main():
    out, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    torch.set_num_threads(1)
    training_runs.use_tiny_networks()
    for name in PRESETS:
        gradients, result = recorded_run(out, name)
        np.savez(out / f"{name}.{rank}.npz", **{key: value.numpy() for key, value in gradients.items()})
    if rank == 1:
        stop_at(3)
    interrupted = tiny_run(out / "stopped", settings_of("authors"))
    assert (interrupted.ended, interrupted.iteration) == ("interrupted", 4), interrupted  # agreed with the step after
    again = tiny_run(out / "stopped", settings_of("authors"), resume=True)
    whole = tiny_run(out / "whole", settings_of("authors"))
    training_runs.assert_same_weights(weights_of(again.autoencoder), weights_of(whole.autoencoder))
    assert result.ended == again.ended == whole.ended == "finished"
    assert (result.report is not None) == (rank == 0)


if __name__ == "__main__":
    main()
