"""The command `focus`: `focus fit`, `focus demo`, `focus info`, and those of `focus.commands`."""

from __future__ import annotations

import io
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .commands import data
from .commands.common import (
    DETECTORS,
    INTERRUPTED,
    SOME_FAILED,
    Debug,
    Device,
    Level,
    Threads,
    fail,
    file_option,
    load_model,
    set_threads,
    setup,
)
from .commands.evaluate import evaluate
from .commands.experiment import experiment
from .commands.prior import prior
from .commands.reconstruct import reconstruct
from .commands.train import train

# torch and all that needs it is imported in the functions, so that --help and typing errors answer at once.
if TYPE_CHECKING:
    from .batch import Job
    from .face_model import FaceModel
    from .fitting import FitSettings
    from .landmarks import Detector

app = typer.Typer(
    name="focus",
    help="Face reconstruction from photos: shape, expression, skin colour, light, pose, and a mask of what covers the "
    "face.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Iterations = Annotated[
    int | None,
    typer.Option(
        min=0, help="Steps of the photometric stage; fewer are faster and rougher.", show_default="150", metavar="N"
    ),
]


@app.command(no_args_is_help=True)
def fit(
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...",
            help="Photos: files, folders, or quoted globs such as 'shots/**/*.jpg'.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for the results; made if missing.",
            file_okay=False,
            show_default=False,
        ),
    ],
    landmarks: Annotated[
        Path | None,
        file_option(
            "Landmarks in place of a detector: a CSV with one photo a line, "
            "**image,x0,y0,...,x67,y67** in pixels, pixel centres at integers. The first column is a file name or "
            "the end of a path.",
            "CSV",
        ),
    ] = None,
    detector: Annotated[
        str,
        typer.Option(
            help="Landmark detector: **face-alignment** (fetches 180 MB of weights at first use), **dlib** "
            '(pip install "focus-kernels[dlib]"), or **auto**, the first of them that can run.',
            metavar="NAME",
        ),
    ] = "auto",
    model: Annotated[
        Path | None,
        typer.Option(
            help="Another face model: BFM 2017 or 2009, FLAME, ICT-FaceKit, or a file of FaceModel.save.",
            exists=True,
            metavar="PATH",
            show_default="the free one",
        ),
    ] = None,
    model_landmarks: Annotated[
        Path | None,
        file_option(
            "Vertex numbers of the 68 landmarks, or FLAME's landmark embedding, for models whose files have none."
        ),
    ] = None,
    level: Level = 1,
    device: Device = "cpu",
    threads: Threads = 1,
    iterations: Iterations = None,
    debug: Debug = False,
) -> None:
    """Fit the face model to photos.

    For each photo, a folder in --out gets the mesh (mesh.obj and mesh.ply in millimetres, mesh.glb in metres, all with
    colour), parameters.json, and pictures of the aligned photo, the fit over it, the mask and the shape. index.html
    shows them all with their errors, results.csv lists the numbers. One face is fitted per photo, the largest.

    **Examples**

    focus fit me.jpg --out results

    focus fit shots/ 'more/**/*.png' --landmarks shots/landmarks.csv --out results

    Exit code: 0 if every photo was fitted, 1 if some were not, 2 for wrong usage, 130 after Ctrl-C (what was finished
    stays and is complete).
    """
    from .inputs import find_photos

    found = find_photos(photos)
    if not found:
        fail(f"no pictures in {', '.join(photos)}")
    if detector not in DETECTORS:
        fail(f"--detector: expected one of {', '.join(DETECTORS)}, got {detector}")
    with setup(debug):
        jobs = _jobs(found, landmarks)
        set_threads(threads)
        face_model = load_model(model, level, device, model_landmarks)
        find = _make_detector(detector, jobs)
    raise typer.Exit(_run(jobs, out, face_model, _settings(iterations), find, debug))


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.", file_okay=False)
    ] = Path("focus-demo"),
    level: Level = 1,
    device: Device = "cpu",
    threads: Threads = 1,
    iterations: Iterations = None,
    debug: Debug = False,
) -> None:
    """Fit a photo that comes along, scikit-image's astronaut, with known landmarks: no network, no detector."""
    from .batch import Job
    from .demo import NAME, demo_photo

    with setup(debug):
        set_threads(threads)
        image, points = demo_photo()
        face_model = load_model(None, level, device, None)
    jobs = [Job(NAME, Path(NAME).stem, lambda: image, points)]
    raise typer.Exit(_run(jobs, out, face_model, _settings(iterations), None, debug))


@app.command()
def info() -> None:
    """Show versions, backends and why each can or cannot run, the face model, and the landmark detectors."""
    from focus_kernels.info import report

    lines = [report(), "", "focus:", f"  {'face model':<15} {_describe_model()}"]
    lines += [f"  {name:<15} {text}" for name, text in _describe_detectors().items()]
    typer.echo("\n".join(lines))


def _jobs(photos: list[Path], table: Path | None) -> list[Job]:
    from .batch import Job
    from .images import read_image
    from .inputs import LandmarkMatchError, folder_names, match_landmarks, printable
    from .landmarks import read_landmarks_csv

    points = match_landmarks(photos, read_landmarks_csv(table)) if table else [None] * len(photos)
    jobs = []
    for photo, folder, found in zip(photos, folder_names(photos), points, strict=True):
        error = str(found) if isinstance(found, LandmarkMatchError) else None
        if not photo.exists():
            error = "no such file"
        known = None if isinstance(found, LandmarkMatchError) else found
        jobs.append(Job(printable(photo), folder, partial(read_image, photo), known, error))
    return jobs


def _make_detector(kind: str, jobs: list[Job]) -> Detector | None:
    """The detector, if any photo needs one: making it may fetch its weights."""
    from .landmarks import DetectorUnavailableError, make_detector

    if all(job.error is not None or job.landmarks is not None for job in jobs):
        return None
    try:
        return make_detector(kind)
    except DetectorUnavailableError as error:
        if kind == "auto":  # that message names the detectors itself
            raise
        raise DetectorUnavailableError(f"--detector {kind}: {error}") from error


def _settings(iterations: int | None) -> FitSettings:
    from .fitting import FitSettings

    return FitSettings() if iterations is None else FitSettings(iterations=iterations)


def _run(
    jobs: list[Job], out: Path, model: FaceModel, settings: FitSettings, detector: Detector | None, debug: bool
) -> int:
    """Fit all, write the report, print the table; the exit code."""
    from .batch import fit_job
    from .console import Console, print_summary
    from .report import write_report

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"--out {out}: {error.strerror}")
    items, interrupted = [], False
    with Console(len(jobs)) as console:
        try:
            for job in jobs:
                console.begin(job.label)
                items.append(fit_job(job, out, model, settings, detector, console.progress, debug))
                console.done(items[-1])
        except KeyboardInterrupt:
            interrupted = True
    note = f"Interrupted: {len(items)} of {len(jobs)} photos were reached." if interrupted else ""
    page = write_report(out, items, note=note)
    print_summary(items, len(jobs), out, page, note)
    if interrupted:
        return INTERRUPTED
    return SOME_FAILED if any(item.error is not None for item in items) else 0


def _describe_model() -> str:
    from .face_model import FaceModel

    try:
        models = [FaceModel.load(level=level) for level in range(3)]
    except (OSError, ValueError) as error:
        return f"not usable: {error}"
    sizes = ", ".join(str(model.num_vertices) for model in models)
    return f"{models[0].name}, {models[0].license}; {sizes} vertices at levels 0, 1, 2"


def _describe_detectors() -> dict[str, str]:
    """Whether each detector could run; nothing is fetched."""
    import torch

    from .landmarks import FACE_ALIGNMENT_WEIGHTS, DetectorUnavailableError, make_detector

    described = {}
    if find_spec("face_alignment") is None:
        described["face-alignment"] = "no: not installed; pip install face-alignment"
    else:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        there = all((folder / name).is_file() for name in FACE_ALIGNMENT_WEIGHTS)
        described["face-alignment"] = "yes" if there else "yes; fetches its weights (180 MB) at first use"
    try:
        make_detector("dlib")  # everything of it is on this machine, or it cannot be made
        described["dlib"] = "yes"
    except DetectorUnavailableError as error:
        described["dlib"] = f"no: {error}"
    return described


app.add_typer(data.app, name="data")
app.command(no_args_is_help=True)(evaluate)
app.command(no_args_is_help=True)(experiment)
app.command(no_args_is_help=True)(prior)
app.command(no_args_is_help=True)(reconstruct)
app.command(no_args_is_help=True)(train)


def main() -> None:
    """Entry point: `app`, with one line in place of a traceback for what nobody foresaw."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a photo's name must not stop the run on a terminal without Unicode
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"error: {type(error).__name__}: {error} (--debug shows where)", err=True)
        sys.exit(SOME_FAILED)
