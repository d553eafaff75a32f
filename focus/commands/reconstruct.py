"""`focus reconstruct`: photos and videos to meshes, parameters, masks and a page, with a trained autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import DETECTORS, INTERRUPTED, SOME_FAILED, Debug, Device, Level, check_device, fail, file_option, setup

if TYPE_CHECKING:
    from ..reconstruct.reconstructor import Reconstructor
    from ..reconstruct.run import Options, Task


def reconstruct(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO|DIR|VIDEO...",
            help="Photos, videos, folders of them, or quoted globs such as 'shots/**/*.jpg'.",
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
    checkpoint: Annotated[
        Path | None,
        file_option(
            "A trained autoencoder: model.safetensors of `focus train`.", default="the small one in this package"
        ),
    ] = None,
    prior: Annotated[
        Path | None,
        file_option("Subtract this misfit prior of `focus prior` from every mesh."),
    ] = None,
    now: Annotated[
        bool,
        typer.Option(
            "--now",
            help="Also write the layout of the NoW benchmark into DIR/now: subject/challenge/photo.obj, neutral, in "
            "mm, and photo.npy. Folders are searched to any depth.",
        ),
    ] = False,
    keep_expression: Annotated[
        bool, typer.Option("--keep-expression", help="Keep the expression in the meshes of --now.")
    ] = False,
    landmarks: Annotated[
        Path | None,
        file_option(
            "Landmarks in place of a detector, for photos: a CSV with one photo a line, "
            "**image,x0,y0,...,x67,y67** in pixels, pixel centres at integers.",
            "CSV",
        ),
    ] = None,
    detector: Annotated[
        str, typer.Option(help="Landmark detector: **face-alignment**, **dlib** or **auto**.", metavar="NAME")
    ] = "auto",
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Videos: filter landmarks and parameters over time (1 euro filter).")
    ] = False,
    shared_identity: Annotated[
        bool,
        typer.Option("--shared-identity", help="Videos of one person: one identity and colour, medians over frames."),
    ] = False,
    detect_every: Annotated[
        int,
        typer.Option(min=1, help="Videos: find landmarks in every N-th frame, interpolate them between.", metavar="N"),
    ] = 1,
    model: Annotated[
        Path | None,
        typer.Option(
            help="The face model of the checkpoint, where it is not the free one; --now takes the whole of it.",
            exists=True,
            metavar="PATH",
            show_default="the free one",
        ),
    ] = None,
    model_landmarks: Annotated[
        Path | None,
        file_option("Vertex numbers of the 68 landmarks, for models whose files have none."),
    ] = None,
    level: Level = 1,
    batch: Annotated[int, typer.Option(min=1, help="Photos in one pass of the networks.", metavar="N")] = 8,
    device: Device = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads.", metavar="N", show_default="as many as cores")
    ] = None,
    debug: Debug = False,
) -> None:
    """Reconstruct faces with a trained network, which also tells what covers them.

    For each photo, a folder in --out gets the mesh (mesh.obj and mesh.ply in millimetres, mesh.glb in metres, all with
    colour), parameters.json, the mask of the visible face and the face over the photo. For a video: a table of the
    parameters of every frame, the faces over the frames, and the neutral mesh. index.html shows them all, results.csv
    lists the numbers, among them how much of the face is covered. The largest face of each photo is taken.

    **Examples**

    focus reconstruct me.jpg --out results

    focus reconstruct shots/ clip.mp4 --smooth --shared-identity --detect-every 5 --out results

    focus reconstruct NoW_Dataset/final_release_version/iphone_pictures --now --out results

    Exit code: 0 if all were reconstructed, 1 if some were not, 2 for wrong usage, 130 after Ctrl-C (what was finished
    stays and is complete).
    """
    from ..inputs import find_photos
    from ..reconstruct.run import Options
    from ..reconstruct.tasks import SUFFIXES, find_tasks

    found = find_photos(inputs, suffixes=SUFFIXES, recursive=now)
    if not found:
        fail(f"no pictures or videos in {', '.join(inputs)}")
    if detector not in DETECTORS:
        fail(f"--detector: expected one of {', '.join(DETECTORS)}, got {detector}")
    if keep_expression and not now:
        fail("--keep-expression: only the meshes of --now are without expression; add --now")
    options = Options(out, now, keep_expression, smooth, shared_identity, detect_every, debug)
    with setup(debug):
        if threads is not None:
            from .common import set_threads

            set_threads(threads)
        tasks = find_tasks(found, landmarks, now=now)
        reconstructor = _reconstructor(checkpoint, prior, model, model_landmarks, level, device, batch, now)
        if any(task.error is None and task.landmarks is None for task in tasks):
            reconstructor.make_detector(detector)
    raise typer.Exit(_run(reconstructor, tasks, options))


def _reconstructor(
    checkpoint: Path | None,
    prior: Path | None,
    model: Path | None,
    model_landmarks: Path | None,
    level: int,
    device: str,
    batch: int,
    now: bool,
) -> Reconstructor:
    from ..face_model import FaceModel
    from ..reconstruct import Reconstructor

    check_device(device)
    rendered = whole = None
    if model is not None:
        rendered = FaceModel.load(model, landmarks=model_landmarks)
        if now:
            whole = FaceModel.load(model, crop=False, landmarks=model_landmarks)
    reconstructor = Reconstructor(
        checkpoint,
        device=device,
        prior=prior,
        face_model=rendered,
        mesh_model=whole,
        level=level,
        batch_size=batch,
    )
    if now and reconstructor.model.landmarks is None:
        raise ValueError(
            f"--now: {reconstructor.model.name} has no 68 landmarks; name their vertices with --model-landmarks FILE"
        )
    return reconstructor


def _run(reconstructor: Reconstructor, tasks: list[Task], options: Options) -> int:
    """Reconstruct all, write the page, print the table; the exit code."""
    from ..console import Console
    from ..reconstruct.page import write_page
    from ..reconstruct.run import print_summary, run, sentence, timer

    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"--out {options.out}: {error.strerror}")
    items, interrupted, seconds = [], False, timer()
    with Console(len(tasks), sentence) as console:
        try:
            for item in run(reconstructor, tasks, options, console):
                items.append(item)
                console.done(item)
        except KeyboardInterrupt:
            interrupted = True
    note = f"Interrupted: {len(items)} of {len(tasks)} were reached." if interrupted else ""
    page = write_page(options.out, items, note=note)
    print_summary(items, len(tasks), options.out, page, seconds(), note)
    if interrupted:
        return INTERRUPTED
    return SOME_FAILED if any(item.error is not None for item in items) else 0
