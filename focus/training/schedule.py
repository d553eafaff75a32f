"""Which iteration belongs to which stage, trains which network, and at what learning rate: a function of its number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..presets import RECONSTRUCTION, SEGMENTATION, Preset

INITIALISATION, PRETRAINING, EM = "initialisation", "pretraining", "em"
STAGES = (INITIALISATION, PRETRAINING, EM)


class Moment(NamedTuple):
    """One iteration of a run.

    Attributes:
        stage: "initialisation", "pretraining" or "em".
        step: which method of `Steps` computes the loss: "initialisation", "pretraining", "segmentation" or
            "reconstruction".
        trained: the network that learns: "reconstruction" or "segmentation".
        local: the iteration's number within its stage, from 0.
        rate: the learning rate.
    """

    stage: str
    step: str
    trained: str
    local: int
    rate: float


@dataclass(frozen=True)
class Schedule:
    """The stages of a preset, one after the other.

    Iterations are counted from 0 over all stages. Rates fall by a factor every `decay_every` iterations of a stage,
    also those in which the other network learns: a function of the number, so nothing of them has to be kept.

    Args:
        preset: `initialisation`, `pretraining`, `em`.
        first: the stage to begin with; those before it are left out, as for a run that goes on from a trained file.
        segmentation: without a segmentation network there is no pre-training, and all iterations of EM are R-steps.

    Raises:
        ValueError: an unknown stage.
    """

    preset: Preset
    first: str = INITIALISATION
    segmentation: bool = True

    def __post_init__(self) -> None:
        if self.first not in STAGES:
            raise ValueError(f"Schedule(): expected first to be one of {', '.join(STAGES)}, got {self.first!r}")

    @property
    def lengths(self) -> dict[str, int]:
        """Iterations of each stage that is run, in order."""
        stages = STAGES[STAGES.index(self.first) :]
        return {
            stage: getattr(self.preset, stage).iterations
            for stage in stages
            if self.segmentation or stage != PRETRAINING
        }

    @property
    def total(self) -> int:
        """Iterations of the whole run."""
        return sum(self.lengths.values())

    @property
    def ends(self) -> dict[int, str]:
        """For each stage the number of iterations that are done when it ends."""
        done, ends = 0, {}
        for stage, length in self.lengths.items():
            done += length
            ends[done] = stage
        return ends

    def at(self, iteration: int) -> Moment:
        """The iteration of this number.

        Raises:
            ValueError: it is not in 0 to total - 1.
        """
        local = iteration
        for stage, length in self.lengths.items():
            if 0 <= local < length:
                return self._moment(stage, local)
            local -= length
        raise ValueError(f"Schedule.at(): expected iteration to be in 0..{self.total - 1}, got {iteration}")

    def _moment(self, stage: str, local: int) -> Moment:
        preset = self.preset
        if stage == INITIALISATION:
            part = preset.initialisation
            rate = part.learning_rate * part.decay ** (local // part.decay_every)
            return Moment(stage, INITIALISATION, RECONSTRUCTION, local, rate)
        if stage == PRETRAINING:
            other = preset.pretraining
            rate = other.learning_rate * other.decay ** (local // other.decay_every)
            return Moment(stage, PRETRAINING, SEGMENTATION, local, rate)
        em = preset.em
        trained = em.trained(local) if self.segmentation else RECONSTRUCTION
        if trained == SEGMENTATION:
            rate = preset.em_segmentation_rate * em.segmentation_decay ** (local // em.decay_every)
        else:
            rate = preset.em_reconstruction_rate * em.reconstruction_decay ** (local // em.decay_every)
        return Moment(stage, trained, trained, local, rate)
