"""TrainSettings: everything that a run of training depends on, beside its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..data.augment import Augmentation
from ..presets import Preset
from ..settings import Stored, build, choice, count, flag, group, read_json, real, text

SEGMENTATION, RASTER, GROUND_TRUTH, SKIN = "segmentation", "raster", "ground_truth", "skin"


@dataclass(frozen=True)
class TrainSettings(Stored):
    """Settings of a run; the defaults are those of the paper.

    `TrainSettings.named("paper")`, `"authors"` or `"tiny"`; others by `replace`, or from JSON with the fields as keys.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range. Both messages name it.
    """

    OWNER: ClassVar[str] = "TrainSettings"
    name: str = text("paper")
    """for reports; it decides nothing."""
    preset: Preset = group(Preset)
    """losses, stages, learning rates and batch size."""
    encoder: str = choice("resnet50", "resnet50", "small")
    """R: a ResNet-50, or `SmallEncoder` from the face recognizer's trunk."""
    segmentation_width: int = count(64)
    """S: channels of the U-Net's first resolution."""
    dropout: float = real(0.5, high=1.0, below=True)
    """of S."""
    recognizer: str = choice("dlib", "dlib", "arcface")
    """F: the network in the box, or ArcFace from a file."""
    level: int = count(1, low=0)
    """resolution of the free face model, 0 to 2; other models have their own."""
    size: int = count(224, low=32)
    """height and width of the photos in pixels."""
    optimizer: str = choice("adadelta", "adadelta", "adam")
    """"adadelta" as in the paper, or "adam" for runs much shorter than the paper's; same learning rates and decays."""
    mask: str = choice(SEGMENTATION, SEGMENTATION, RASTER, GROUND_TRUTH, SKIN)
    """M of the R-step: the segmentation network's, or in its place for the baselines all of the raster, the true
    visible face, or a skin colour's probability."""
    preliminary: bool = flag(True)
    """the initialisation uses the preliminary mask (Eq. 10); else `mask`, where that is not the network's."""
    augmentation: Augmentation = group(Augmentation)
    """how far photos are shifted, scaled, turned and mirrored."""
    precision: str = choice("float32", "float32", "bfloat16")
    """of the networks; rendering and losses are float32."""
    compile: bool = flag(False)
    """run the networks through `torch.compile`."""
    clip_norm: float = real(0.0)
    """largest norm of a step's gradient, which is scaled down to it; 0 for no limit."""
    seed: int = count(0, low=0)
    workers: int = count(2, low=0)
    """processes that load data; they change no result."""
    log_every: int = count(50)
    """iterations between two lines of the log."""
    image_every: int = count(1000)
    """iterations between two grids of pictures."""
    checkpoint_every: int = count(1000)
    """iterations between two checkpoints."""
    validate_every: int = count(5000)
    """iterations between two validations, where there is data for them."""

    @classmethod
    def named(cls, name: str) -> TrainSettings:
        """The settings "paper", "authors" or "tiny" (sized for two CPU cores; docs/training.md)."""
        if name not in NAMES:
            raise ValueError(f"TrainSettings.named(): expected name to be one of {', '.join(NAMES)}, got {name!r}")
        if name == "tiny":
            return cls().replace(name=name, **_TINY)
        return cls().replace(name=name, preset=Preset.named(name))

    @property
    def iterations(self) -> int:
        """Of all stages together."""
        preset = self.preset
        return preset.initialisation.iterations + preset.pretraining.iterations + preset.em.iterations

    @classmethod
    def from_json(cls, source: str) -> TrainSettings:
        """Settings from JSON: fields, and the key "base" naming the settings that have the others (else "paper").

        Raises:
            TypeError: a value of the wrong type.
            ValueError: no JSON object, an unknown key, a key given twice, a value out of range.
        """
        function = "TrainSettings.from_json()"
        values = read_json(source, function)
        base = values.pop("base", "paper")
        if not isinstance(base, str) or base not in NAMES:
            raise ValueError(f"{function}: expected base to be one of {', '.join(NAMES)}, got {base!r}")
        return build(cls, values, cls.named(base), function)


NAMES = ("paper", "authors", "tiny")

_TINY: dict[str, Any] = {
    "encoder": "small",
    "segmentation_width": 16,
    "dropout": 0.1,
    "level": 0,
    "size": 112,
    "optimizer": "adam",
    "clip_norm": 1.0,
    "augmentation": {"shift": 2.0, "scale": 0.03, "rotation": 3.0},
    "preset": {
        "name": "tiny",
        "inlier_threshold": 0.05,
        "heads": {"translation": 10.0, "depth": 30.0},
        "neighbor": {"power": 1},
        "landmark": {"weight": 1.0, "weighting": "norm"},
        "segmentation_weights": {"neighbor": 9.0},
        "reconstruction_weights": {"pixel": 6.0, "perceptual": 0.0, "landmark": 0.05, "regularisation": 0.03},
        "initialisation": {"iterations": 8400, "learning_rate": 5e-4, "decay": 0.8, "decay_every": 800},
        "pretraining": {"iterations": 120, "learning_rate": 1e-3},
        "em": {
            "iterations": 1800,
            "segmentation_steps": 100,
            "reconstruction_steps": 200,
            "rate_factor": 2.0,
            "segmentation_rate_ratio": 10.0,
            "reconstruction_decay": 0.8,
            "segmentation_decay": 0.8,
            "decay_every": 225,
        },
    },
}
