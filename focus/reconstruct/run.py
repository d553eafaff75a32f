"""A run of `focus reconstruct`: photos in batches and videos, to results in folders. What goes wrong is told."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.table import Table
from rich.text import Text

from focus.console import Console, rich_console
from focus.inputs import printable
from focus.report import short_names

from .export import export_reconstruction, numbers
from .frames import VideoError
from .now import now_path, write_now
from .page import PageItem, medians
from .reconstructor import Outcome, Prepared, Reconstructor
from .result import ReconstructionError, ReconstructionResult
from .video import reconstruct_video

NOW_FOLDER = "now"
READY = 0.4  # share of a photo's time after which it is read and its face found
Progress = Callable[[str, float], None]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Task:
    """A photo or a video to reconstruct."""

    label: str  # for messages and the page
    folder: str  # its results, inside the output folder
    path: Path
    landmarks: np.ndarray | None = None  # [68, 2] px, half-pixel centres; None asks the detector
    video: bool = False
    error: str | None = None  # why it cannot even be begun


@dataclass(frozen=True)
class Options:
    """How a run writes."""

    out: Path
    now: bool = False  # also NoW's layout, in the folder `now`
    keep_expression: bool = False  # in NoW's meshes
    smooth: bool = False  # the arguments of `reconstruct_video`
    shared_identity: bool = False
    detect_every: int = 1
    debug: bool = False  # print the traceback of what fails


def run(reconstructor: Reconstructor, tasks: Sequence[Task], options: Options, console: Console) -> Iterator[PageItem]:
    """Reconstruct all tasks in order, photos in batches; each item when its files are complete. Only interrupts are
    raised, and what no photo could be done without (a detector)."""
    waiting: list[Task] = []
    for task in tasks:
        if task.video and task.error is None:
            yield from _photos(reconstructor, waiting, options, console)
            waiting = []
            console.begin(task.label)
            yield _video(reconstructor, task, options, console.progress)
            continue
        waiting.append(task)
        if len(waiting) == reconstructor.batch_size:
            yield from _photos(reconstructor, waiting, options, console)
            waiting = []
    yield from _photos(reconstructor, waiting, options, console)


def _photos(
    reconstructor: Reconstructor, tasks: Sequence[Task], options: Options, console: Console
) -> Iterator[PageItem]:
    if not tasks:
        return
    prepared: list[Prepared | ReconstructionError] = []
    for number, task in enumerate(tasks):
        console.begin(task.label)
        console.progress("finding the face", READY * number)
        prepared.append(_guarded(options, _prepare, reconstructor, task))
    console.progress("reconstructing", READY * len(tasks))
    outcomes = _reconstruct(reconstructor, prepared, options)
    for task, item, outcome in zip(tasks, prepared, outcomes, strict=True):
        if isinstance(outcome, ReconstructionResult) and isinstance(item, Prepared):
            console.begin(task.label)
            console.progress("writing", READY)
            outcome = _guarded(options, _write, reconstructor, task, item.image, outcome, options)
        if isinstance(outcome, ReconstructionError):
            yield PageItem(task.label, error=str(outcome))
        else:
            yield PageItem(task.label, task.folder, numbers(outcome))


def _prepare(reconstructor: Reconstructor, task: Task) -> Prepared | ReconstructionError:
    if task.error is not None:
        return ReconstructionError(task.error)
    return reconstructor.prepare(task.path, task.landmarks)


def _reconstruct(
    reconstructor: Reconstructor, prepared: Sequence[Prepared | ReconstructionError], options: Options
) -> list[Outcome]:
    """A batch that fails as a whole (memory, as a rule) is tried again photo by photo."""
    try:
        return reconstructor.reconstruct(prepared)
    except Exception:
        if options.debug:
            traceback.print_exc()
        return [outcome for item in prepared for outcome in _alone(reconstructor, item, options)]


def _alone(reconstructor: Reconstructor, item: Prepared | ReconstructionError, options: Options) -> list[Outcome]:
    outcome = _guarded(options, reconstructor.reconstruct, [item])
    return [outcome] if isinstance(outcome, ReconstructionError) else outcome


def _write(
    reconstructor: Reconstructor, task: Task, image: np.ndarray, result: ReconstructionResult, options: Options
) -> ReconstructionResult:
    export_reconstruction(options.out / task.folder, result, reconstructor, image, task.label)
    if options.now:
        model = reconstructor.model
        vertices = result.vertices if options.keep_expression else reconstructor.neutral(result.identity)
        assert model.landmarks is not None  # the command checks it
        write_now(options.out / NOW_FOLDER / now_path(task.path), vertices, result.faces, model.landmarks.cpu().numpy())
    return result


def _video(reconstructor: Reconstructor, task: Task, options: Options, progress: Progress) -> PageItem:
    made = _guarded(
        options,
        reconstruct_video,
        reconstructor,
        task.path,
        options.out / task.folder,
        smooth=options.smooth,
        shared_identity=options.shared_identity,
        detect_every=options.detect_every,
        progress=progress,
    )
    if isinstance(made, ReconstructionError):
        return PageItem(task.label, error=str(made))
    return PageItem(task.label, task.folder, made.numbers, made)


def _guarded(
    options: Options, function: Callable[..., Made], *arguments: Any, **named: Any
) -> Made | ReconstructionError:
    """What the function gives for the arguments, or the ReconstructionError that says why it does not."""
    from focus.landmarks import DetectorUnavailableError

    try:
        return function(*arguments, **named)
    except DetectorUnavailableError:
        raise
    except Exception as error:  # whatever it is, the other photos go on
        if options.debug:
            traceback.print_exc()
        return ReconstructionError(_reason(error))


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if isinstance(error, (ReconstructionError, VideoError)):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"its results cannot be written: {error.strerror}"
    first = text.splitlines()[0] if text else "no message"
    return f"{type(error).__name__}: {first} (--debug shows where)"


def sentence(item: PageItem) -> str:
    """What is said of a photo or video that is done."""
    covered, inside, everywhere, landmarks = _cells(item.numbers)
    text = f"{covered} of the face covered; RMSE {inside} in the mask, {everywhere} over all; landmarks {landmarks}"
    if item.video is not None:
        text = f"a face in {item.video.frames_with_face} of {item.video.frames} frames; medians: {text}"
    return text


def print_summary(items: Sequence[PageItem], tasks: int, out: Path, page: Path, seconds: float, note: str = "") -> None:
    """The table of all photos, the medians, the speed, and where to look, on stdout."""
    console = rich_console(sys.stdout)
    done = [item for item in items if item.error is None]
    failed = [item for item in items if item.error is not None]
    if done:
        console.print()
        console.print(_table(done, out))
    lines = [""]
    if failed:
        lines += ["Not reconstructed:", *(f"  {item.photo}: {item.error}" for item in failed), ""]
    lines += [note] if note else []
    speed = f" in {seconds:.1f} s" if done else ""
    lines += [f"{len(done)} of {tasks} reconstructed{speed}. Open {printable(page)}"]
    for line in lines:
        console.print(Text(line), soft_wrap=True, highlight=False)


def _table(done: Sequence[PageItem], out: Path) -> Table:
    """One row per photo; what all paths share stands in the headings."""
    parent, names = short_names(done)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text("photo" if parent == "." else f"photo in {parent}"), overflow="fold")
    for name in ("covered", "RMSE in mask", "RMSE all", "landmarks"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(Text(f"results in {printable(out)}"), overflow="fold")
    for name, item in zip(names, done, strict=True):
        table.add_row(Text(name), *_cells(item.numbers), Text(item.folder or ""))
    if len(done) > 1:
        table.add_row("median", *_cells(medians(done)), "", style="bold")
    return table


def _cells(values: dict[str, float | None]) -> list[str]:
    formats = {
        "occluded_fraction": "{:.0%}",
        "rmse_inlier": "{:.1f}",
        "rmse_all": "{:.1f}",
        "landmark_error_px": "{:.1f} px",
    }
    return ["-" if (value := values.get(name)) is None else form.format(value) for name, form in formats.items()]


def timer() -> Callable[[], float]:
    """Seconds since now."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
