"""What `focus fit` shows: a progress bar on a terminal, a line per photo everywhere, a table at the end."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TextIO

import rich.console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .inputs import printable
from .report import ReportItem, medians

LOG_WIDTH = 160  # columns where no terminal says otherwise, so that lines of logs are not broken
SPEED_PERIOD = 600.0  # seconds over which the remaining time is estimated
STAGE_NAMES = {"landmarks": "fitting landmarks", "light": "fitting light", "photometric": "fitting colours"}


class Console:
    """Progress on stderr; as a context manager it shows the bar while it is open."""

    def __init__(self, photos: int) -> None:
        self.photos, self.count = photos, 0
        self._console = _rich(sys.stderr)
        self._bar = Progress(
            TextColumn("{task.fields[count]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[stage]}", markup=False),
            console=self._console,
            transient=True,
            speed_estimate_period=SPEED_PERIOD,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("", total=photos, count="", stage="")
        self._label = ""

    def __enter__(self) -> "Console":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, label: str) -> None:
        self._label = label
        self._bar.update(self._task, count=f"{self.count + 1}/{self.photos}", stage=label)

    def progress(self, stage: str, fraction: float) -> None:
        """Called by `fit_job`: its stage and the fraction of the photo that is done."""
        name = STAGE_NAMES.get(stage, stage)
        self._bar.update(self._task, completed=self.count + fraction, stage=f"{self._label}: {name}")

    def done(self, item: ReportItem) -> None:
        self.count += 1
        self._bar.update(self._task, completed=self.count)
        line = Text(f"[{self.count:>{len(str(self.photos))}}/{self.photos}] {item.photo}: ")
        if item.error is not None:
            line.append(f"failed: {item.error}", style="red")
        else:
            line.append(_sentence(item))
        self._bar.console.print(line, soft_wrap=True, highlight=False)


def print_summary(items: list[ReportItem], out: Path, page: Path, note: str = "") -> None:
    """The table of all photos, the medians, and where to look, on stdout."""
    console = _rich(sys.stdout)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("photo", overflow="fold")
    for name in ("RMSE in mask", "RMSE all", "mask/face", "landmarks", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("results", overflow="fold")
    for item in items:
        if item.error is None:
            table.add_row(Text(item.photo), *_cells(item.numbers), Text(printable(out / (item.folder or ""))))
        else:
            table.add_row(Text(item.photo), "-", "-", "-", "-", "-", Text(f"failed: {item.error}", style="red"))
    fitted = [item for item in items if item.error is None]
    if len(fitted) > 1:
        table.add_row(Text("median", style="bold"), *_cells(medians(fitted)), "", style="bold")
    console.print()
    console.print(table)
    console.print()
    lines = [note] if note else []
    lines += [f"{len(fitted)} of {len(items)} photos fitted. Open {printable(page)}"]
    for line in lines:
        console.print(Text(line), soft_wrap=True, highlight=False)


def _rich(file: TextIO) -> rich.console.Console:
    console = rich.console.Console(file=file)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return rich.console.Console(file=file, width=LOG_WIDTH)
    return console


def _sentence(item: ReportItem) -> str:
    inside, everywhere, share, landmarks, seconds = _cells(item.numbers)
    return f"RMSE {inside} in the mask ({share} of the face), {everywhere} over all; landmarks {landmarks}; {seconds}"


def _cells(numbers: dict[str, float | None]) -> list[str]:
    formats = {
        "rmse_inlier": "{:.1f}",
        "rmse_all": "{:.1f}",
        "inlier_fraction": "{:.0%}",
        "landmark_error_px": "{:.1f} px",
        "seconds": "{:.1f} s",
    }
    return ["-" if (value := numbers.get(name)) is None else form.format(value) for name, form in formats.items()]
