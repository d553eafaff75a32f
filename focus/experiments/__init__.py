"""The paper's experiments: many runs of training, resumable, and tables of what they reached."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configurations import EXPERIMENTS, Configuration, methods_of
    from .experiment import Outcome, run_experiment
    from .pasting import PastedSource
    from .plan import Plan, make_plan

__all__ = [
    "EXPERIMENTS",
    "Configuration",
    "Outcome",
    "PastedSource",
    "Plan",
    "make_plan",
    "methods_of",
    "run_experiment",
]

# Imported when they are first used, so that a plan can be shown without torch.
_HOME = {
    "EXPERIMENTS": ".configurations",
    "Configuration": ".configurations",
    "Outcome": ".experiment",
    "PastedSource": ".pasting",
    "Plan": ".plan",
    "methods_of": ".configurations",
    "make_plan": ".plan",
    "run_experiment": ".experiment",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
