"""How long an experiment takes, and numbers of iterations that fit a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..presets import Preset
from ..training.settings import SEGMENTATION, TrainSettings
from .configurations import FACTORS, Configuration, methods_of, reconstruction_steps

# Seconds on two cores of the preset "tiny" at batch 12: measured (docs/experiments.md).
SECONDS = {"initialisation": 0.27, "pretraining": 1.0, "segmentation": 1.0, "reconstruction": 0.5, "without S": 0.3}
RUN, FACE, DRAWN = 12.0, 0.04, 0.01  # seconds to begin and end a run, to measure a face, to draw one
SHORT = {"initialisation": 0.17, "pretraining": 0.5, "em": 0.17}  # of tiny's iterations; a time fixes their factor
LEAST, MOST = 1e-3, 100.0
ROUNDED = 3  # significant digits of the factor


@dataclass(frozen=True)
class Plan:
    """An experiment in numbers.

    Attributes:
        experiment: its name.
        settings: of FOCUS, with the numbers of iterations of every run.
        configurations: its methods.
        seeds: how many; each method is trained with each.
        faces: test faces of each subset. prior_faces: those that the misfit prior is taken over.
        training_faces: drawn for training.
    """

    experiment: str
    settings: TrainSettings
    configurations: tuple[Configuration, ...]
    seeds: int = 3
    faces: int = 200
    prior_faces: int = 1000
    training_faces: int = 2000

    @property
    def iterations(self) -> dict[str, int]:
        """Of all seeds together, by kind of step; "without S" are R-steps on masks of other origin."""
        preset = self.settings.preset
        steps = dict.fromkeys(SECONDS, 0)
        steps["initialisation"] = preset.initialisation.iterations
        steps["pretraining"] = preset.pretraining.iterations
        steps["without S"] = reconstruction_steps(self.settings)  # R_syn, of the prior
        for settings in self.trained:
            em = settings.preset.em.iterations
            learned = reconstruction_steps(settings)
            if settings.mask == SEGMENTATION:
                steps["reconstruction"] += learned
                steps["segmentation"] += em - learned
            else:
                steps["without S"] += em
        return {kind: self.seeds * count for kind, count in steps.items()}

    @property
    def trained(self) -> list[TrainSettings]:
        """Of the configurations that are trained."""
        return [item.settings for item in self.configurations if item.settings is not None]

    @property
    def measured_preset(self) -> bool:
        """Whether the seconds of a step are known: those of tiny's sizes on the CPU."""
        settings = self.settings
        known = (settings.encoder, settings.size, settings.segmentation_width, settings.preset.batch_size)
        return known == ("small", 112, 16, 12)

    @property
    def seconds(self) -> float:
        """On two quiet cores, at tiny's sizes."""
        steps = sum(SECONDS[kind] * count for kind, count in self.iterations.items())
        runs = len(self.trained) + 2
        measured = 3 * self.faces * len(self.configurations) * FACE
        drawn = (self.training_faces + self.prior_faces) * DRAWN
        return steps + self.seeds * (runs * RUN + measured + drawn)

    def describe(self) -> str:
        """For the terminal, before the runs."""
        preset = self.settings.preset
        em = preset.em
        lines = [
            f"{self.experiment}: {len(self.configurations)} methods, of which {len(self.trained)} are trained, with "
            f"{self.seeds} seeds each",
            f"shared by the methods of a seed: {preset.initialisation.iterations} iterations of initialisation, "
            f"{preset.pretraining.iterations} of S's pre-training, and "
            f"{reconstruction_steps(self.settings)} of the misfit prior's R",
            f"each method: {em.iterations} iterations of EM, {em.segmentation_steps} S-steps and "
            f"{em.reconstruction_steps} R-steps in turn (without S: R-steps alone, as many)",
            f"measured on {3 * self.faces} faces",
        ]
        total = sum(self.iterations.values())
        if self.measured_preset:
            lines.append(f"forecast: {total} iterations, {self.seconds / 60:.0f} min on two quiet CPU cores")
        else:
            lines.append(f"forecast: {total} iterations; the time of one is known for the preset tiny only")
        return "\n".join(lines)


def make_plan(
    experiment: str,
    settings: TrainSettings,
    *,
    seeds: int = 3,
    minutes: float | None = None,
    factors: Sequence[float] = FACTORS,
    **numbers: Any,
) -> Plan:
    """The plan of an experiment.

    Args:
        experiment: its name.
        settings: of FOCUS.
        seeds: how many.
        minutes: None for the settings' own numbers of iterations; else they are chosen so that the forecast is this,
            with stages in the proportion of `SHORT`.
        factors: of the sweep.
        numbers: faces, prior_faces, training_faces of `Plan`.

    Raises:
        ValueError: no such experiment, an argument out of range, or a time in which nothing can be done.
    """
    for name, value in (("seeds", seeds), *numbers.items()):
        if value < 1:
            raise ValueError(f"make_plan(): expected {name} to be >= 1, got {value}")

    def planned(factor: float | None) -> Plan:
        chosen = settings if factor is None else settings.replace(preset=shortened(settings.preset, factor))
        return Plan(experiment, chosen, methods_of(experiment, chosen, factors), seeds, **numbers)

    plan = planned(None)
    if minutes is None:
        return plan
    if not plan.measured_preset:
        raise ValueError("make_plan(): the time of a step is known for the sizes of the preset tiny only; give a scale")
    low, high = LEAST, MOST
    if planned(low).seconds > 60 * minutes:
        least = planned(low).seconds / 60
        raise ValueError(
            f"make_plan(): expected minutes to be at least {least:.0f} for this experiment, got {minutes:g}"
        )
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if planned(middle).seconds <= 60 * minutes else (low, middle)
    factor = float(f"{low:.{ROUNDED}g}")
    return planned(factor if planned(factor).seconds <= 60 * minutes else low)


def shortened(preset: Preset, factor: float) -> Preset:
    """The preset with `SHORT`'s share, times a factor, of each stage's iterations; decays shrink with their stage."""
    changes: dict[str, dict[str, int]] = {}
    for stage, share in SHORT.items():
        scaled = getattr(preset.scaled(share * factor), stage)
        changes[stage] = {key: value for key, value in vars(scaled).items() if isinstance(value, int)}
    return preset.replace(**changes)
