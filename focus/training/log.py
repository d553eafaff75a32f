"""What a run writes down: metrics.jsonl, TensorBoard's events, and grids of pictures."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..atomic import write_atomic

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS, EVENTS, SAMPLES = "metrics.jsonl", "tensorboard", "samples"
ROW = 4  # faces of a grid


class RunLog:
    """The log of one run in its folder; a run that is resumed goes on in it, from its checkpoint's iteration.

    A disk that is full stops no training: `tell` gets a message, once, and what could not be written is missing.

    Args:
        folder: of the run.
        iteration: lines of later iterations are dropped.
        tell: takes messages.
    """

    def __init__(self, folder: str | os.PathLike[str], iteration: int, tell: Callable[[str], None]) -> None:
        self.folder, self._tell = Path(folder), tell
        self.failures = 0
        self._writer: SummaryWriter | None = None
        self._guarded(lambda: self._open(iteration))

    def _open(self, iteration: int) -> None:
        path = self.folder / METRICS
        lines = [line for line in read_metrics(path) if line["iteration"] <= iteration] if iteration else []
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines))
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(self.folder / EVENTS, purge_step=iteration + 1 if iteration else None)

    def scalars(self, iteration: int, kind: str, values: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl, {"iteration", "kind", **values}, and its numbers as kind/name in TensorBoard."""

        def write() -> None:
            line = {"iteration": iteration, "kind": kind, **{key: _plain(value) for key, value in values.items()}}
            with (self.folder / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            if self._writer is not None:
                for name, value in values.items():
                    if isinstance(value, (int, float)) and not isinstance(value, bool):
                        self._writer.add_scalar(f"{kind}/{name}", value, iteration)

        self._guarded(write)

    def grid(self, iteration: int, image: np.ndarray) -> None:
        """A picture [h, w, 3] uint8 RGB, as samples/ITERATION.png and in TensorBoard."""

        def write() -> None:
            folder = self.folder / SAMPLES
            folder.mkdir(parents=True, exist_ok=True)
            _, data = cv2.imencode(".png", image[:, :, ::-1])
            write_atomic(folder / f"{iteration:08d}.png", data.tobytes())
            if self._writer is not None:
                self._writer.add_image("samples", image, iteration, dataformats="HWC")
                self._writer.flush()

        self._guarded(write)

    def close(self) -> None:
        if self._writer is not None:
            self._guarded(self._writer.close)

    def _guarded(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self.failures += 1
            if self.failures == 1:
                self._tell(f"the log cannot be written, training goes on: {error}")


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last one that a killed process left unfinished is left out. [] without a file."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict) and isinstance(value.get("iteration"), int):
            lines.append(value)
    return lines


def sample_grid(photos: Tensor, rendered: Tensor, mask: Tensor, raster_mask: Tensor) -> np.ndarray:
    """Photos, renders over the photos, masks, and the photos with what M leaves out of the face in red.

    Args:
        photos: [B, 3, H, W], RGB in [0, 1].
        rendered: the renders on black, as photos; cut off at 0 and 1.
        mask: M [B, 1, H, W] in [0, 1].
        raster_mask: [B, 1, H, W].

    Returns:
        [h, w, 3] uint8: for each group of 4 faces four rows.
    """
    with torch.no_grad():
        over = torch.where(raster_mask > 0, rendered, photos)
        red = photos.new_tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1)
        out = 0.65 * (raster_mask - mask).clamp(0, 1)
        marked = (1 - out) * photos + out * red
        rows = torch.stack([photos, over, mask.expand_as(photos), marked], 1).clamp(0, 1)  # [B, 4, 3, H, W]
        rows = rows.mul(255).round().byte().cpu()
    count, kinds, _, height, width = rows.shape
    groups = math.ceil(count / ROW)
    columns = min(count, ROW)
    grid = np.zeros((groups * kinds * height, columns * width, 3), np.uint8)
    for index in range(count):
        for kind in range(kinds):
            y, x = (index // ROW * kinds + kind) * height, index % ROW * width
            grid[y : y + height, x : x + width] = rows[index, kind].permute(1, 2, 0).numpy()
    return grid


def _plain(value: Any) -> Any:
    """A number as JSON has it: 6 digits; NaN and infinity, which it has not, as None."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
