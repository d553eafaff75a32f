"""Trainer: one iteration after the other, and everything that the next one depends on as a checkpoint."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ..autoencoder import FaceAutoencoder
from ..data.batch import Batch
from ..presets import RECONSTRUCTION, SEGMENTATION
from .checkpoint import Checkpoint
from .processes import Processes
from .schedule import EM, Moment, Schedule
from .settings import TrainSettings
from .steps import Steps

PARTS = {RECONSTRUCTION: "encoder", SEGMENTATION: "segmenter"}  # names in checkpoints


class Iteration(NamedTuple):
    """What became of one iteration.

    Attributes:
        moment: where it is in the schedule.
        values: "loss", the terms and "gradient_norm", each [], of this process.
        skipped: the loss or the gradient was not finite, in this process or another, and nothing was changed.
        asked: the greatest of what each process asked for (see `Trainer.step`).
    """

    moment: Moment
    values: dict[str, Tensor]
    skipped: bool
    asked: list[float]


class Trainer:
    """Trains the networks of an autoencoder, step by step.

    The network that learns is in training mode, the other in evaluation mode with its weights held. Every stage starts
    with new optimizers, as in the authors' programs; their learning rate is the schedule's. A step whose loss or
    gradient is not finite changes nothing, neither weights nor batch statistics, and is counted.

    Args:
        autoencoder: on the device of the processes.
        features: F, on the same device, or None.
        settings: of the run.
        schedule: its stages.
        processes: those that share the run.
    """

    def __init__(
        self,
        autoencoder: FaceAutoencoder,
        features: nn.Module | None,
        settings: TrainSettings,
        schedule: Schedule,
        processes: Processes,
    ) -> None:
        self.autoencoder, self.settings, self.schedule, self.processes = autoencoder, settings, schedule, processes
        self.iteration = self.skipped = self.skipped_in_row = 0
        self._networks = {RECONSTRUCTION: autoencoder.encoder}
        if autoencoder.segmenter is not None:
            self._networks[SEGMENTATION] = autoencoder.segmenter
        if settings.compile:
            for network in [*self._networks.values(), *([features] if features is not None else [])]:
                network.compile()
        # What is trained must require gradients when DistributedDataParallel looks at it.
        self._wrapped = {name: processes.wrap(network.requires_grad_()) for name, network in self._networks.items()}
        self._steps = Steps(
            autoencoder,
            features,
            settings,
            encoder=self._wrapped[RECONSTRUCTION],
            segmenter=self._wrapped.get(SEGMENTATION),
            total=None if processes.world == 1 else processes.total,
        )
        self._optimizers: dict[str, torch.optim.Optimizer] = {}
        self._stage: str | None = None
        self._trained: str | None = None

    def step(self, batch: Batch, asks: list[float] | None = None) -> Iteration:
        """One iteration.

        Args:
            batch: this process's share, on its device.
            asks: numbers whose greatest over all processes is wanted, such as wishes to stop.
        """
        moment = self.schedule.at(self.iteration)
        self._prepare(moment)
        network, optimizer = self._networks[moment.trained], self._optimizers[moment.trained]
        statistics = [buffer.clone() for buffer in network.buffers()]
        other = SEGMENTATION if moment.trained == RECONSTRUCTION else RECONSTRUCTION
        with self.processes.at_rest(self._wrapped.get(other)):
            made = getattr(self._steps, moment.step)(batch)
            made.loss.backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        norm = get_total_norm(gradients)
        finite = bool(torch.isfinite(made.loss.detach()) & torch.isfinite(norm))
        failed, *asked = self.processes.most([float(not finite), *(asks or [])])
        if failed:
            for buffer, before in zip(network.buffers(), statistics, strict=True):
                buffer.copy_(before)
            self.skipped += 1
            self.skipped_in_row += 1
        else:
            if self.settings.clip_norm:
                clip_grads_with_norm_(network.parameters(), self.settings.clip_norm, norm)
            optimizer.step()
            self.skipped_in_row = 0
        optimizer.zero_grad(set_to_none=True)
        self.iteration += 1
        values = {"loss": made.loss.detach(), **made.terms, "gradient_norm": norm.detach()}
        return Iteration(moment, values, bool(failed), asked)

    def rest(self) -> FaceAutoencoder:
        """The autoencoder in evaluation mode; the next step sets the modes that it needs."""
        self._trained = None
        return self.autoencoder.eval()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and values of a checkpoint. All processes must call it."""
        tensors: dict[str, Tensor] = {}
        for name, network in self._networks.items():
            tensors |= {f"{PARTS[name]}.{key}": value for key, value in network.state_dict().items()}
        for name, optimizer in self._optimizers.items():
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{PARTS[name]}.{index}.{key}": value for key, value in values.items()}
        for rank, value in enumerate(self.processes.gather(torch.get_rng_state())):
            tensors[f"random.{rank}.cpu"] = value
        if self.processes.device.type == "cuda":
            for rank, value in enumerate(self.processes.gather(torch.cuda.get_rng_state(self.processes.device))):
                tensors[f"random.{rank}.cuda"] = value
        values = {"stage": self._stage, "skipped": self.skipped, "skipped_in_row": self.skipped_in_row}
        return tensors, values

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint, exactly where the number of processes is the same.

        Raises:
            ValueError: it is of other networks.
        """
        for name, network in self._networks.items():
            weights = _under(checkpoint.tensors, PARTS[name])
            try:
                network.load_state_dict(weights)
            except RuntimeError as error:
                raise ValueError(f"train(): expected {checkpoint.path} to be of the same networks: {error}") from None
        self.iteration = checkpoint.iteration
        self.skipped, self.skipped_in_row = checkpoint.state["skipped"], checkpoint.state["skipped_in_row"]
        if self.iteration < self.schedule.total:
            moment = self.schedule.at(self.iteration)
            self._prepare(moment)
            if checkpoint.state["stage"] == moment.stage:
                for name, optimizer in self._optimizers.items():
                    _restore_optimizer(optimizer, _under(checkpoint.tensors, f"optimizer.{PARTS[name]}"))
        random = _under(checkpoint.tensors, f"random.{self.processes.rank}")
        if "cpu" in random:
            torch.set_rng_state(random["cpu"])
        if "cuda" in random and self.processes.device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"], self.processes.device)

    def _prepare(self, moment: Moment) -> None:
        """Optimizers, learning rate and modes of an iteration."""
        if moment.stage != self._stage:
            names = list(self._networks) if moment.stage == EM else [moment.trained]
            self._optimizers = {name: self._make_optimizer(self._networks[name], moment.rate) for name in names}
            self._stage = moment.stage
        for group in self._optimizers[moment.trained].param_groups:
            group["lr"] = moment.rate
        if moment.trained != self._trained:
            for name, network in self._networks.items():
                network.train(name == moment.trained).requires_grad_(name == moment.trained)
            self._trained = moment.trained

    def _make_optimizer(self, network: nn.Module, rate: float) -> torch.optim.Optimizer:
        if self.settings.optimizer == "adam":
            return torch.optim.Adam(network.parameters(), lr=rate, fused=True)
        values = self.settings.preset.adadelta
        return torch.optim.Adadelta(network.parameters(), lr=rate, rho=values.rho, eps=values.epsilon)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix and a dot, without these."""
    return {key[len(prefix) + 1 :]: value for key, value in tensors.items() if key.startswith(prefix + ".")}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        states.setdefault(int(index), {})[name] = value
    whole = copy.copy(optimizer.state_dict())
    whole["state"] = states
    optimizer.load_state_dict(whole)
