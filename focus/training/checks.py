"""What must fit before a run begins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .checkpoint import Checkpoint
from .processes import Processes
from .schedule import Schedule
from .settings import TrainSettings

if TYPE_CHECKING:
    from ..data.source import Source

# What may differ from the checkpoint's settings when a run is resumed: it changes no weight.
FREE = ("name", "workers", "log_every", "image_every", "checkpoint_every", "validate_every")


def check_data(settings: TrainSettings, source: Source, processes: Processes) -> None:
    """Raises where the data do not fit the settings, or the batch not the processes."""
    if source.size != settings.size:
        raise ValueError(f"train(): expected a source of size {settings.size} as in the settings, got {source.size}")
    if len(source) < 1:
        raise ValueError("train(): expected a source with photos, got none")
    size = settings.preset.batch_size
    if size % processes.world:
        raise ValueError(
            f"train(): expected preset.batch_size to be a multiple of the {processes.world} processes, got {size}"
        )


def check_same_run(settings: TrainSettings, schedule: Schedule, checkpoint: Checkpoint) -> None:
    """Raises where the run of the checkpoint had other settings."""
    mine = _flat({**json.loads(settings.to_json()), "first_stage": schedule.first})
    theirs = _flat({**checkpoint.state["settings"], "first_stage": checkpoint.state["first_stage"]})
    for key in sorted(mine.keys() | theirs.keys()):
        if key not in FREE and mine.get(key) != theirs.get(key):
            raise ValueError(
                f"train(): expected {key} to be {theirs.get(key)!r}, as the run that is resumed has it, "
                f"got {mine.get(key)!r}"
            )


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {path + key: value}
    return flat
