"""`focus data prepare` and `focus data synth`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from .common import DETECTORS, INTERRUPTED, SOME_FAILED, Debug, Level, fail, folder_option, setup

MOST_REASONS = 5  # of failures that are told

app = typer.Typer(
    help="Photographs and synthetic faces to train and to evaluate on.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes, each with one thread.", metavar="N", show_default="as many as cores"),
]


@app.command(no_args_is_help=True)
def prepare(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder with the photographs, also in folders in it.", show_default=False),
    ],
    detector: Annotated[
        str,
        typer.Option(
            help="Landmark detector: **face-alignment** (fetches 180 MB of weights at first use), **dlib** "
            '(pip install "focus-kernels[dlib]"), or **auto**, the first of them that can run.',
            metavar="NAME",
        ),
    ] = "auto",
    workers: Workers = None,
    again: Annotated[bool, typer.Option("--again", help="Try the photographs of failures.csv again.")] = False,
    debug: Debug = False,
) -> None:
    """Find the landmarks of all photographs in a folder.

    Writes DIR/landmarks.csv, a row per photograph with a face, and DIR/failures.csv, the others with the reason. A run
    that was stopped goes on where it was; a later run does the photographs that are new.

    Exit code: 0 if there are landmarks for every photograph, 1 if not for some, 2 for wrong usage, 130 after Ctrl-C
    (what was done is kept).
    """
    from ..data.prepare import FAILURES, LANDMARKS, Prepared, prepare_folder, read_failures
    from ..inputs import printable
    from ..processes import WorkerDiedError
    from .progress import progress_bar

    if detector not in DETECTORS:
        fail(f"--detector: expected one of {', '.join(DETECTORS)}, got {detector}")
    with setup(debug), progress_bar("photos") as bar:

        def show(state: Prepared) -> None:
            bar(state.done, state.photos)

        try:
            done = prepare_folder(folder, detector=detector, workers=workers, again=again, progress=show)
        except KeyboardInterrupt:
            fail("interrupted; the same command goes on where this one was", INTERRUPTED)
        except WorkerDiedError as error:
            fail(f"{error}; the same command goes on where this one was", SOME_FAILED)
    before = f", {done.kept} of them known from before" if done.kept else ""
    typer.echo(f"{done.photos} photos{before}: {done.found} with landmarks in {printable(folder / LANDMARKS)}")
    if done.failed:
        typer.echo(f"{done.failed} without, listed in {printable(folder / FAILURES)}:")
        reasons = Counter(read_failures(folder / FAILURES).values()).most_common()
        for reason, count in reasons[:MOST_REASONS]:
            typer.echo(f"  {count:>6}  {reason}")
        if len(reasons) > MOST_REASONS:
            typer.echo(f"  {sum(count for _, count in reasons[MOST_REASONS:]):>6}  other reasons")
        raise typer.Exit(SOME_FAILED)


@app.command(no_args_is_help=True)
def synth(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder; made if missing.", file_okay=False, show_default=False
        ),
    ],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Faces.", metavar="N", show_default=False)],
    size: Annotated[int, typer.Option(min=32, help="Width and height in pixels.", metavar="N")] = 224,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other faces.", metavar="N")] = 0,
    level: Level = 1,
    kinds: Annotated[
        str | None,
        typer.Option(
            help="Occluders that may appear, separated by commas: some of hand, glasses, mask, hair, text, shape, "
            "cutout; or none.",
            metavar="NAMES",
            show_default="all",
        ),
    ] = None,
    unoccluded: Annotated[
        float, typer.Option(min=0, max=1, help="Share of faces that nothing covers.", metavar="SHARE")
    ] = 0.2,
    photos: Annotated[
        Path | None,
        folder_option("Folder of photographs for backgrounds and cut-outs."),
    ] = None,
    workers: Workers = None,
    debug: Debug = False,
) -> None:
    """Draw synthetic faces with exact ground truth.

    Writes images/, masks/ (the visible face) and faces/ (the face with what covers it) as PNG, parameters/ as
    safetensors, landmarks.csv and recipe.json. A run that was stopped goes on where it was, and a larger --count adds
    faces.

    **Example**

    focus data synth --out faces --count 2000 --size 112
    """
    from ..inputs import printable
    from ..processes import WorkerDiedError, default_workers
    from .progress import progress_bar

    with setup(debug), progress_bar("faces") as bar:
        from ..synth import KINDS, SyntheticFaces, write_samples

        chosen = KINDS if kinds is None else tuple(k.strip() for k in kinds.split(",") if k.strip() not in ("", "none"))
        dataset = SyntheticFaces(
            count, size, seed, level=level, kinds=chosen, none_probability=unoccluded, photos=photos
        )
        try:
            written = write_samples(dataset, out, workers=workers or default_workers(), progress=bar)
        except KeyboardInterrupt:
            fail("interrupted; the same command goes on where this one was", INTERRUPTED)
        except WorkerDiedError as error:
            fail(f"{error}; the same command goes on where this one was", SOME_FAILED)
    typer.echo(f"{written} faces written, {count - written} there before: {printable(out)}")
