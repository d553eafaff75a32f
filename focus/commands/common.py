"""What the commands share: options, exit codes, and how errors are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

# torch and all that needs it is imported in the functions, so that --help and typing errors answer at once.
if TYPE_CHECKING:
    from ..face_model import FaceModel

SOME_FAILED, USAGE, INTERRUPTED = 1, 2, 130  # exit codes
DETECTORS = ("auto", "face-alignment", "dlib")


def file_option(text: str, metavar: str = "FILE", *, default: bool | str = False) -> Any:
    """An option that names a file that is there; `default` is what --help says of leaving it out."""
    return typer.Option(help=text, exists=True, dir_okay=False, metavar=metavar, show_default=default)


def folder_option(text: str, *, default: bool | str = False) -> Any:
    """An option that names a folder that is there."""
    return typer.Option(help=text, exists=True, file_okay=False, metavar="DIR", show_default=default)


Level = Annotated[
    int,
    typer.Option(
        min=0,
        max=2,
        metavar="0|1|2",
        help="Resolution of the free face model: 0, 1 or 2 for 2.5k, 10k or 40k vertices.",
    ),
]
Device = Annotated[str, typer.Option(help="Where to compute: **cpu**, **cuda** or **cuda:N**.", metavar="DEVICE")]
# One photo gives a second thread too little to do, and on busy cores two wait for each other.
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.", metavar="N")]
ChosenThreads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads.", metavar="N", show_default="as torch chooses")
]
Recognizer = Annotated[Path | None, file_option("ArcFace's backbone.pth, for the setting recognizer=arcface.")]
Model = Annotated[
    Path | None, typer.Option(help="Another face model.", exists=True, metavar="PATH", show_default="the free one")
]
ModelLandmarks = Annotated[Path | None, file_option("Its 68 landmarks, as for `focus fit`.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def fail(message: str, code: int = USAGE) -> NoReturn:
    """Ends the command with `error: message` on stderr and that exit code."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def setup(debug: bool) -> Iterator[None]:
    """For what comes before the first photo: what is wrong there is wrong for all, and is told in one line."""
    from ..landmarks import DetectorUnavailableError

    try:
        yield
    except (ValueError, TypeError, OSError, DetectorUnavailableError) as error:
        if debug:
            raise
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)


def check_device(device: str) -> None:
    """ValueError for a device that torch does not have."""
    import torch

    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (":" in device and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"--device: expected cpu, cuda or cuda:N, got {device}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {device}: torch sees {torch.cuda.device_count()} GPUs; `focus info` says more")


def load_model(path: Path | None, level: int, device: str, landmarks: Path | None) -> FaceModel:
    """The face model of a path, or the free one, on its device; ValueError for one without the 68 landmarks."""
    from ..face_model import FaceModel

    check_device(device)
    model = FaceModel.load(path, level=level, landmarks=landmarks)
    if model.landmarks is None:
        raise ValueError(
            f"{path}: this face model has no 68 landmarks; name their vertices with --model-landmarks FILE"
        )
    return model.to(device)


def set_threads(threads: int) -> None:
    """CPU threads of torch and the kernels."""
    import torch

    torch.set_num_threads(threads)
