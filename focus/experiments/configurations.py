"""Which methods each of the paper's experiments compares, as settings of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..training.settings import GROUND_TRUTH, RASTER, SKIN, TrainSettings

ABLATION, BASELINES, HYPERPARAMETERS = "ablation", "baselines", "hyperparameters"
EXPERIMENTS = (ABLATION, BASELINES, HYPERPARAMETERS)

NETWORK, PRELIMINARY, SKIN_COLOUR, WHOLE = "network", "preliminary", "skin colour", "whole render"
CUTMIX, CUTOUT = "cutmix", "cutout"
INITIALISATION, PRETRAINING = "initialisation", "pretraining"

FOCUS = "FOCUS"
ETAS = ("neighbor", "distance", "area", "preserve", "binary")  # eta_1 to eta_5
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Configuration:
    """One row of a table.

    Attributes:
        name: of the method.
        settings: of its training after the shared start; None where the start itself is measured.
        start: after which stage of the shared start it begins: "initialisation" or "pretraining" (of S).
        mask: what is measured as its mask: of the "network", the "preliminary" one (Eq. 10), that of "skin colour", or
            the "whole render", for methods that have none.
        paste: occluders pasted on its photos, "cutmix" or "cutout"; None for none.
        eta, factor: of the sweep: which weight of L_S, times what.
    """

    name: str
    settings: TrainSettings | None
    start: str = PRETRAINING
    mask: str = NETWORK
    paste: str | None = None
    eta: str | None = None
    factor: float = 1.0

    @property
    def needs_masks(self) -> bool:
        """Whether it is trained on true masks."""
        return self.settings is not None and self.settings.mask == GROUND_TRUTH


def methods_of(
    experiment: str, settings: TrainSettings, factors: Sequence[float] = FACTORS
) -> tuple[Configuration, ...]:
    """The methods of an experiment, in the order of the paper's tables.

    Args:
        experiment: "ablation", "baselines" or "hyperparameters".
        settings: of FOCUS.
        factors: of the sweep.

    Raises:
        ValueError: another experiment, or a factor that is not finite and >= 0.
    """
    if experiment == ABLATION:
        return ablation(settings)
    if experiment == BASELINES:
        return baselines(settings)
    if experiment == HYPERPARAMETERS:
        return hyperparameters(settings, factors)
    raise ValueError(f"methods_of(): expected experiment to be one of {', '.join(EXPERIMENTS)}, got {experiment!r}")


def ablation(settings: TrainSettings) -> tuple[Configuration, ...]:
    """Table 5, and a row for S as its pre-training leaves it.

    Baseline has Eq. 5 in the place of the terms that it lacks, with the weight of L_nbr.
    """
    weights = settings.preset.segmentation_weights
    without_f = {"distance": 0.0, "preserve": 0.0}

    def with_weights(**changes: float) -> TrainSettings:
        return settings.replace(preset={"segmentation_weights": changes})

    return (
        Configuration("Pretrained", None, INITIALISATION, PRELIMINARY),
        Configuration("Pretrained S", None, PRETRAINING),
        Configuration("Baseline", with_weights(**without_f, neighbor=0.0, pixel=weights.neighbor)),
        Configuration("Neighbor", with_weights(**without_f)),
        Configuration("Perceptual", with_weights(neighbor=0.0)),
        Configuration(FOCUS, settings),
    )


def baselines(settings: TrainSettings) -> tuple[Configuration, ...]:
    """Tables 1 to 4 and the supplement's. All but FOCUS have as many R-steps as FOCUS, and no S-steps."""
    steps = {"em": {"iterations": reconstruction_steps(settings)}}

    def without_network(mask: str, **weights: Any) -> TrainSettings:
        return settings.replace(mask=mask, preset={**steps, "reconstruction_weights": weights})

    supervised = without_network(GROUND_TRUTH)
    whole: dict[str, Any] = {"start": INITIALISATION, "mask": WHOLE}
    return (
        Configuration("MoFA", without_network(RASTER, perceptual=0.0), **whole),
        Configuration("Deep3D (skin colour)", without_network(SKIN), INITIALISATION, SKIN_COLOUR),
        Configuration("Backbone", without_network(RASTER), **whole),
        Configuration("Backbone-Supervised", supervised, **whole),
        Configuration("Backbone-cutmix", supervised, **whole, paste=CUTMIX),
        Configuration("Backbone-cutout", supervised, **whole, paste=CUTOUT),
        Configuration(FOCUS, settings),
    )


def hyperparameters(settings: TrainSettings, factors: Sequence[float] = FACTORS) -> tuple[Configuration, ...]:
    """Fig. 4: each weight of L_S times each factor, the others as they are."""
    found = [Configuration(FOCUS, settings)]
    for number, eta in enumerate(ETAS, 1):
        weight = getattr(settings.preset.segmentation_weights, eta)
        for factor in sorted({float(value) for value in factors}):
            if not 0 <= factor < float("inf"):
                raise ValueError(f"hyperparameters(): expected factors to be finite and >= 0, got {factor}")
            if factor == 1:
                continue
            changed = settings.replace(preset={"segmentation_weights": {eta: weight * factor}})
            found.append(Configuration(f"eta{number} {eta} x {factor:g}", changed, eta=eta, factor=factor))
    return tuple(found)


def reconstruction_steps(settings: TrainSettings) -> int:
    """Number of R-steps among the iterations of EM."""
    em = settings.preset.em
    return sum(em.trained(iteration) == "reconstruction" for iteration in range(em.iterations))
