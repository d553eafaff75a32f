"""What a run shows: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY = 30.0  # seconds between two lines where there is no terminal
LOG_WIDTH = 160
SPEED_PERIOD = 120.0  # seconds over which speed and remaining time are estimated


class RunProgress:
    """Progress on stderr; as a context manager it shows the bar while it is open.

    Args:
        total: iterations of the run.
        done: iterations that were done before.
        batch_size: photos of an iteration, of all processes.
        shown: False prints nothing at all.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        total: int,
        done: int,
        batch_size: int,
        *,
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._batch_size, self._clock = total, batch_size, clock
        self._console = Console(stderr=True, quiet=not shown, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = LOG_WIDTH
        self._bar = Progress(
            TextColumn("{task.fields[stage]:<14}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=self._console,
            speed_estimate_period=SPEED_PERIOD,
            refresh_per_second=4,
            disable=not (shown and sys.stderr.isatty()),
        )
        self._task = self._bar.add_task("", total=total, completed=done, stage="", speed="", loss="")
        self._marks: list[tuple[float, int]] = []  # at most one a second
        self._now = (clock(), done)
        self._told = clock()

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def tell(self, message: str) -> None:
        """A line that stays."""
        self._console.print(message, markup=False, highlight=False)

    @property
    def images_per_second(self) -> float:
        """Of the last two minutes, over all processes."""
        if not self._marks:
            return 0.0
        (start, first), (end, last) = self._marks[0], self._now
        return (last - first) * self._batch_size / max(end - start, 1e-9) if last > first else 0.0

    def advance(self, done: int, stage: str) -> None:
        """After each iteration."""
        now = self._clock()
        self._now = (now, done)
        if not self._marks or now - self._marks[-1][0] > 1:
            self._marks.append(self._now)
        while now - self._marks[0][0] > SPEED_PERIOD and len(self._marks) > 2:
            self._marks.pop(0)
        self._bar.update(self._task, completed=done, stage=stage, speed=f"{self.images_per_second:.1f} images/s")

    def report(self, done: int, stage: str, loss: float) -> None:
        """After each line of the log."""
        self._bar.update(self._task, loss=f"loss {loss:.4g}")
        now = self._clock()
        if self._bar.disable and (now - self._told > LINE_EVERY or done >= self._total):
            self._told = now
            speed = self.images_per_second
            left = _duration((self._total - done) * self._batch_size / speed) if speed else "?"
            self.tell(
                f"{stage}: {done}/{self._total} ({100 * done / self._total:.0f} %), {speed:.1f} images/s, "
                f"{left} left, loss {loss:.4g}"
            )


def _duration(seconds: float) -> str:
    """1:02:03 or 2:03."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
