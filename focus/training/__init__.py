"""Training of FOCUS in three stages."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, Checkpoints
    from .networks import make_autoencoder, make_features
    from .run import TrainResult, train
    from .schedule import Moment, Schedule
    from .settings import TrainSettings
    from .steps import Step, Steps
    from .trainer import Trainer

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Moment",
    "Schedule",
    "Step",
    "Steps",
    "TrainResult",
    "TrainSettings",
    "Trainer",
    "make_autoencoder",
    "make_features",
    "train",
]

# Imported when they are first used, so that settings can be read without torch.
_HOME = {
    "Checkpoint": ".checkpoint",
    "Checkpoints": ".checkpoint",
    "Moment": ".schedule",
    "Schedule": ".schedule",
    "Step": ".steps",
    "Steps": ".steps",
    "TrainResult": ".run",
    "TrainSettings": ".settings",
    "Trainer": ".trainer",
    "make_autoencoder": ".networks",
    "make_features": ".networks",
    "train": ".run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
