"""Every constant of the method: what the paper states (`paper`, the default) and what its authors' programs do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from .settings import Checked, Stored, build, choice, count, flag, group, indices, read_json, real, text

NOSE_RIDGE = (27, 28, 29, 30)
INNER_LIP = (60, 61, 62, 63, 64, 65, 66, 67)
SEGMENTATION, RECONSTRUCTION = "segmentation", "reconstruction"
BASE = "base"  # key of a JSON file: the preset that gives what the file leaves out


class _Part(Checked):
    OWNER = "Preset"


@dataclass(frozen=True)
class NeighborSettings(_Part):
    """L_nbr, Eq. 1 and 12: arguments of `focus_kernels.neighbor_min_loss`. All pixels of the map are averaged."""

    PATH: ClassVar[str] = "neighbor."
    window: int = choice(3, 3, 5, 7)
    search: str = choice("rendered", "rendered", "target")
    power: int = choice(2, 1, 2)
    masking: str = choice("weight", "weight", "images")
    border: str = choice("clip", "clip", "valid")


@dataclass(frozen=True)
class PixelSettings(_Part):
    """L_pixel, Eq. 5: arguments of `focus_kernels.masked_pixel_loss`."""

    PATH: ClassVar[str] = "pixel."
    kind: str = choice("squared", "squared", "l2", "l1")
    reduction: str = choice("mask_mean", "mask_mean", "batch_mask_mean", "mean")


@dataclass(frozen=True)
class LandmarkSettings(_Part):
    """L_lm, Eq. 7."""

    PATH: ClassVar[str] = "landmark."
    weight: float = real(20.0)
    """of the landmarks in `weighted`; the others have 1."""
    weighted: tuple[int, ...] = indices(NOSE_RIDGE + INNER_LIP, 68)
    """numbers of iBUG landmarks, from 0."""
    weighting: str = choice("square", "square", "distance", "norm")
    """what the weight multiplies: "square", mean over [B, 68] of w d^2; "distance", mean over [B, 2, 68] of (w d)^2;
    "norm", mean over [B, 68] of w d, for which the few landmarks that are far off count less."""


@dataclass(frozen=True)
class SegmentationWeights(_Part):
    """L_S: the factors eta_1 to eta_5 of the S-step."""

    PATH: ClassVar[str] = "segmentation_weights."
    neighbor: float = real(15.0)
    distance: float = real(3.0)
    area: float = real(0.5)
    preserve: float = real(2.5)
    binary: float = real(10.0)
    pixel: float = real(0.0)
    """of Eq. 5 averaged over all pixels; it takes L_nbr's place where an ablation leaves that and F out (Table 5)."""


@dataclass(frozen=True)
class ReconstructionWeights(_Part):
    """L_R, Eq. 8: the factors of the R-step; those of the initialisation are the same, without the area."""

    PATH: ClassVar[str] = "reconstruction_weights."
    pixel: float = real(0.5)
    perceptual: float = real(0.25)
    landmark: float = real(5e-4)
    regularisation: float = real(0.1)
    area: float = real(0.0)


@dataclass(frozen=True)
class HeadScales(_Part):
    """Factors from the encoder's outputs to parameters; identity, expression and light have 1."""

    PATH: ClassVar[str] = "heads."
    albedo: float = real(3.0, above=True)
    """standard deviations."""
    angles: float = real(0.3, above=True)
    """radians."""
    translation: float = real(1.0, above=True)
    """mm, x and y."""
    depth: float = real(10.0, above=True)
    """mm, z."""
    light_offset: float = real(0.7 * 2 * math.pi)
    """added to band 0 of each colour: an illumination of 1.2407 at zero parameters."""


@dataclass(frozen=True)
class RenderSettings(_Part):
    """Arguments of `focus_kernels.render_sh`."""

    PATH: ClassVar[str] = "rendering."
    normals: str = choice("unit", "unit", "focus")
    coverage: str = choice("top_left", "top_left", "inclusive", "strict")
    perspective_correct: bool = flag(True)


@dataclass(frozen=True)
class AdadeltaSettings(_Part):
    """`torch.optim.Adadelta`, in all stages."""

    PATH: ClassVar[str] = "adadelta."
    rho: float = real(0.9, high=1.0, below=True)
    epsilon: float = real(1e-6, above=True)


@dataclass(frozen=True)
class InitialisationSettings(_Part):
    """Stage 1 (3.3): the reconstruction network alone, on the preliminary masks."""

    PATH: ClassVar[str] = "initialisation."
    iterations: int = count(300_000, low=0)
    learning_rate: float = real(0.1, above=True)
    decay: float = real(0.99, high=1.0, above=True)
    decay_every: int = count(5000)


@dataclass(frozen=True)
class PretrainingSettings(_Part):
    """Stage 2 (3.3): the segmentation network alone, with the preliminary masks as ground truth."""

    PATH: ClassVar[str] = "pretraining."
    iterations: int = count(30_000, low=0)
    learning_rate: float = real(0.03, above=True)
    decay: float = real(0.99, high=1.0, above=True)
    decay_every: int = count(5000)


@dataclass(frozen=True)
class EMSettings(_Part):
    """Stage 3 (3.2): S-steps and R-steps in turn. Both learning rates decay with every iteration, whose turn it is."""

    PATH: ClassVar[str] = "em."
    iterations: int = count(200_000, low=0)
    segmentation_steps: int = count(5000)
    reconstruction_steps: int = count(25_000)
    first: str = choice(SEGMENTATION, SEGMENTATION, RECONSTRUCTION)
    rate_factor: float = real(1.0, above=True)
    """of the reconstruction network's learning rate, beside what the initialisation's decay has left of it."""
    segmentation_rate_ratio: float = real(0.06, above=True)
    """the segmentation network's learning rate over the reconstruction network's, at the start of the stage."""
    reconstruction_decay: float = real(0.99, high=1.0, above=True)
    segmentation_decay: float = real(0.99, high=1.0, above=True)
    decay_every: int = count(5000)

    def trained(self, iteration: int) -> str:
        """Which network an iteration (from 0) trains: "segmentation" or "reconstruction"."""
        other = RECONSTRUCTION if self.first == SEGMENTATION else SEGMENTATION
        length = self.segmentation_steps if self.first == SEGMENTATION else self.reconstruction_steps
        return self.first if iteration % (self.segmentation_steps + self.reconstruction_steps) < length else other


@dataclass(frozen=True)
class Preset(Stored):
    """All constants of the losses, the decoding and the training; the defaults are the paper's.

    `Preset()` or `Preset.named("paper")`, and `Preset.named("authors")`; others by `replace` or from JSON. Where the
    paper names no value (`pretraining`, `adadelta`, `regularisation_divisor`) both have that of the authors' programs.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range. Both messages name it, as in "neighbor.window".
    """

    OWNER: ClassVar[str] = "Preset"
    name: str = text("paper")
    """for reports; it decides nothing."""
    inlier_threshold: float = real(0.016641, above=True)
    """xi of Eq. 10, on the squared RGB distance: (3 * 0.043)^2. The paper prints 0.17, which masks almost nothing."""
    inlier_sigma: float = real(0.043, above=True)
    """sigma of Eq. 9, in the Gaussian likelihood of `initial_pixel`."""
    initial_pixel: str = choice("pixel", "pixel", "gaussian")
    """pixel loss of the initialisation: "pixel", Eq. 5 with M_pre; "gaussian", minus the log-likelihood of Eq. 9."""
    area_offset: float = real(0.0)
    """added to -S_M / S_R (Eq. 3); a constant without influence on training."""
    binary: str = choice("square", "square", "absolute")
    """L_bin: "square", -mean over the raster of (M - 0.5)^2; "absolute", 0.5 - mean over all pixels of |M - 0.5|."""
    regularisation_divisor: float = real(224.0, above=True)
    """of the sum of squared coefficients in L_reg."""
    detach_mask: bool = flag(True)
    """the mask is a constant of the R-step; else its gradient reaches the render through the segmentation network."""
    perceptual_depth: str = choice("deep", "deep", "shallow")
    """F's features in L_per (Eq. 6): the embedding or a feature map."""
    segmentation_depth: str = choice("shallow", "deep", "shallow")
    """F's features in L_dist and L_presv (Eq. 2 and 4)."""
    row_normalized_features: bool = flag(False)
    """feature maps are first normalised along their rows (over the width)."""
    composite_input: bool = flag(False)
    """the segmentation network and the losses see the render over the photo, not over black."""
    batch_size: int = count(12)
    neighbor: NeighborSettings = group(NeighborSettings)
    pixel: PixelSettings = group(PixelSettings)
    landmark: LandmarkSettings = group(LandmarkSettings)
    segmentation_weights: SegmentationWeights = group(SegmentationWeights)
    reconstruction_weights: ReconstructionWeights = group(ReconstructionWeights)
    heads: HeadScales = group(HeadScales)
    rendering: RenderSettings = group(RenderSettings)
    adadelta: AdadeltaSettings = group(AdadeltaSettings)
    initialisation: InitialisationSettings = group(InitialisationSettings)
    pretraining: PretrainingSettings = group(PretrainingSettings)
    em: EMSettings = group(EMSettings)

    @classmethod
    def named(cls, name: str) -> Preset:
        """The preset "paper" or "authors"."""
        if name not in _CHANGES:
            raise ValueError(f"Preset.named(): expected name to be {' or '.join(map(repr, _CHANGES))}, got {name!r}")
        return cls().replace(name=name, **_CHANGES[name])

    def scaled(self, factor: float) -> Preset:
        """The preset with all numbers of iterations (also those between decays) times a factor > 0.

        None becomes less than 1 but those that are 0, stages left out.
        """
        if isinstance(factor, bool) or not isinstance(factor, (int, float)):
            raise TypeError(f"Preset.scaled(): expected factor to be a number, got {factor!r}")
        if not 0 < factor < math.inf:
            raise ValueError(f"Preset.scaled(): expected factor to be finite and > 0, got {factor!r}")
        changes: dict[str, dict[str, int]] = {}
        for stage in ("initialisation", "pretraining", "em"):
            counts = {key: value for key, value in vars(getattr(self, stage)).items() if isinstance(value, int)}
            changes[stage] = {key: max(min(value, 1), round(value * factor)) for key, value in counts.items()}
        return self.replace(**changes)

    @property
    def em_reconstruction_rate(self) -> float:
        """Learning rate of the reconstruction network when EM starts: the initialisation's, decayed, by a factor."""
        stage = self.initialisation
        return stage.learning_rate * stage.decay ** (stage.iterations // stage.decay_every) * self.em.rate_factor

    @property
    def em_segmentation_rate(self) -> float:
        """Learning rate of the segmentation network at the start of EM."""
        return self.em_reconstruction_rate * self.em.segmentation_rate_ratio

    @classmethod
    def from_json(cls, source: str) -> Preset:
        """A preset from JSON: all constants, or some and the key "base", which names the preset that has the others.

        Raises:
            TypeError: a value of the wrong type.
            ValueError: no JSON object, an unknown or missing key, a key given twice, a value out of range.
        """
        function = "Preset.from_json()"
        values = read_json(source, function)
        base = None
        if BASE in values:
            name = values.pop(BASE)
            if not isinstance(name, str) or name not in _CHANGES:
                raise ValueError(f"{function}: expected {BASE} to be {' or '.join(map(repr, _CHANGES))}, got {name!r}")
            base = cls.named(name)
        return build(cls, values, base, function)


# What each preset changes of the defaults.
_CHANGES: dict[str, dict[str, Any]] = {
    "paper": {},
    "authors": {
        "initial_pixel": "gaussian",
        "area_offset": 1.0,
        "binary": "absolute",
        "detach_mask": False,
        "row_normalized_features": True,
        "neighbor": {"window": 5, "search": "target", "power": 1, "masking": "images", "border": "valid"},
        "pixel": {"kind": "l2", "reduction": "batch_mask_mean"},
        "landmark": {"weighted": NOSE_RIDGE[1:] + INNER_LIP, "weighting": "distance"},
        "segmentation_weights": {"preserve": 0.25},
        "reconstruction_weights": {"area": 0.06},
        "heads": {"depth": 0.005},
        "rendering": {"normals": "focus", "coverage": "inclusive", "perspective_correct": False},
        "em": {"rate_factor": 0.8, "segmentation_decay": 0.95},
    },
}
