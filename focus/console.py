"""What `focus fit` shows: a progress bar on a terminal, a line per photo everywhere, a table at the end."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

import rich.console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .inputs import printable
from .report import Named, ReportItem, medians, short_names

LOG_WIDTH = 160  # columns where no terminal says otherwise, so that lines of logs are not broken
SPEED_PERIOD = 600.0  # seconds over which the remaining time is estimated
STAGE_NAMES = {"landmarks": "fitting landmarks", "light": "fitting light", "photometric": "fitting colours"}


class Done(Named, Protocol):
    """A photo that is done, or failed for the reason in `error`."""

    @property
    def error(self) -> str | None: ...


class Console:
    """Progress on stderr; as a context manager it shows the bar while it is open.

    Args:
        photos: how many there are.
        sentence: what is said of a photo that is done; None is that of `focus fit`.
    """

    def __init__(self, photos: int, sentence: Callable[[Any], str] | None = None) -> None:
        self.photos, self.count = photos, 0
        self.sentence: Callable[[Any], str] = sentence or _sentence
        self._console = rich_console(sys.stderr)
        self._bar = Progress(
            TextColumn("{task.fields[count]}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
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
        self._label = _short(Path(label).name)
        self._bar.update(self._task, count=f"{self.count + 1}/{self.photos}", stage=self._label)

    def progress(self, stage: str, fraction: float) -> None:
        """Called by `fit_job`: its stage and the fraction of the photo that is done."""
        name = STAGE_NAMES.get(stage, stage)
        self._bar.update(self._task, completed=self.count + fraction, stage=f"{name}: {self._label}")

    def done(self, item: Done) -> None:
        self.count += 1
        self._bar.update(self._task, completed=self.count)
        line = Text(f"[{self.count:>{len(str(self.photos))}}/{self.photos}] {item.photo}: ")
        if item.error is not None:
            line.append(f"failed: {item.error}", style="red")
        else:
            line.append(self.sentence(item))
        self._bar.console.print(line, soft_wrap=True, highlight=False)


def print_summary(items: list[ReportItem], photos: int, out: Path, page: Path, note: str = "") -> None:
    """The table of all photos, the medians, and where to look, on stdout; `photos` counts those not reached too."""
    console = rich_console(sys.stdout)
    fitted = [item for item in items if item.error is None]
    failed = [item for item in items if item.error is not None]
    lines = [""]
    if fitted:
        console.print()
        console.print(_table(fitted, out))
    if failed:
        lines += ["Not fitted:", *(f"  {item.photo}: {item.error}" for item in failed), ""]
    lines += [note] if note else []
    lines += [f"{len(fitted)} of {photos} photos fitted. Open {printable(page)}"]
    for line in lines:
        console.print(Text(line), soft_wrap=True, highlight=False)


def _table(fitted: list[ReportItem], out: Path) -> Table:
    """One row per photo; what all paths share stands in the headings."""
    parent, names = short_names(fitted)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text("photo" if parent == "." else f"photo in {parent}"), overflow="fold")
    for name in ("RMSE in mask", "RMSE all", "mask/face", "landmarks", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(Text(f"results in {printable(out)}"), overflow="fold")
    for name, item in zip(names, fitted, strict=True):
        table.add_row(Text(name), *_cells(item.numbers), Text(item.folder or ""))
    if len(fitted) > 1:
        table.add_row("median", *_cells(medians(fitted)), "", style="bold")
    return table


def _short(name: str, most: int = 30) -> str:
    return name if len(name) <= most else f"{name[: most // 2]}…{name[1 - most // 2 :]}"


def rich_console(file: TextIO) -> rich.console.Console:
    """A console for a stream, wide where it is no terminal."""
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
