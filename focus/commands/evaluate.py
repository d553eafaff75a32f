"""`focus evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    SOME_FAILED,
    Debug,
    Device,
    Level,
    Threads,
    check_device,
    fail,
    file_option,
    folder_option,
    set_threads,
    setup,
)
from .progress import progress_bar

if TYPE_CHECKING:
    from ..autoencoder import FaceAutoencoder
    from ..evaluation import Evaluation
    from ..prior import MisfitPrior

SPLITS = ("val", "test")


def evaluate(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.", file_okay=False, show_default=False),
    ],
    checkpoint: Annotated[
        Path | None,
        file_option(
            "Trained autoencoder: model.safetensors of `focus train`.", default="the small one in this package"
        ),
    ] = None,
    synthetic: Annotated[
        int | None,
        typer.Option(help="Evaluate on this many synthetic faces.", min=1, metavar="N", show_default=False),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option(
            help="Occluders of the synthetic faces, as in **hand,glasses**; **none** for none.",
            metavar="NAMES",
            show_default="all",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the synthetic faces.", min=0, metavar="N", show_default="one no training uses"),
    ] = None,
    data: Annotated[
        Path | None,
        folder_option("Evaluate on photos: a folder with the landmarks.csv that `focus data prepare` writes."),
    ] = None,
    landmarks: Annotated[
        Path | None,
        file_option("Another table of landmarks.", "CSV"),
    ] = None,
    masks: Annotated[
        Path | None,
        folder_option("True masks of the visible face; only photos that have one are evaluated then."),
    ] = None,
    now: Annotated[
        Path | None,
        folder_option("Evaluate meshes on the NoW challenge: its folder, with scans, landmarks and image lists."),
    ] = None,
    predictions: Annotated[
        Path | None,
        folder_option("Of NoW: SUBJECT/CHALLENGE/IMAGE.obj and .npy, as `focus reconstruct --now` writes them."),
    ] = None,
    images: Annotated[
        str, typer.Option(help="Of NoW: **val**, **test**, or the file of an image list.", metavar="LIST")
    ] = "val",
    metrical: Annotated[
        str | None,
        typer.Option(
            help="NoW's metrical evaluation, for meshes in **mm**, **cm** or **m**.",
            metavar="UNIT",
            show_default=False,
        ),
    ] = None,
    prior: Annotated[
        Path | None,
        file_option("Misfit prior of `focus prior`: vertex errors also after its subtraction."),
    ] = None,
    method: Annotated[str, typer.Option(help="Name in the tables.", metavar="NAME")] = "FOCUS",
    batch: Annotated[int, typer.Option(min=1, help="Faces at a time.", metavar="N")] = 8,
    level: Level = 1,
    device: Device = "cpu",
    threads: Threads = 1,
    debug: Debug = False,
) -> None:
    """Measure a trained autoencoder on synthetic faces or photos, or meshes on the NoW challenge.

    Give one of --synthetic, --data and --now. Synthetic faces know everything: masks (accuracy, precision, recall and
    F1 inside the render), RMSE, vertex error, landmark error. Photos have landmarks, and masks where --masks gives
    them. --out gets evaluation.json, images.csv and the tables as evaluation.md; for NoW now.json, now.md, images.csv,
    curve.csv and distances.npy.

    **Examples**

    focus evaluate --synthetic 500 --out results

    focus evaluate --data photos/ --masks masks/ --checkpoint runs/a/model.safetensors --out results

    focus evaluate --now NoW_Dataset/ --predictions meshes/ --out results

    Exit code: 0 if every image was evaluated, 1 if some were not, 2 for wrong usage.
    """
    chosen = [name for name, value in (("synthetic", synthetic), ("data", data), ("now", now)) if value is not None]
    if len(chosen) != 1:
        given = " and ".join(f"--{name}" for name in chosen)
        fail(f"expected one of --synthetic, --data and --now, got {given or 'none of them'}")
    with setup(debug):
        if now is not None:
            if predictions is None or checkpoint is not None or prior is not None:
                raise ValueError(
                    "--now evaluates the meshes of --predictions; `focus reconstruct --now [--checkpoint FILE] "
                    "[--prior FILE]` makes them"
                )
            failures = _evaluate_now(now, predictions, images, metrical, method, out)
        else:
            set_threads(threads)
            autoencoder, misfit = _load(checkpoint, prior, level, device)
            if data is not None:
                if misfit is not None:
                    raise ValueError("--prior: photos have no true shape to compare with")
                failures = _evaluate_photos(autoencoder, data, landmarks, masks, batch, method, out)
            else:
                assert synthetic is not None
                failures = _evaluate_synthetic(autoencoder, synthetic, kinds, seed, batch, method, misfit, out)
    if failures:
        raise typer.Exit(SOME_FAILED)


def _load(
    checkpoint: Path | None, prior: Path | None, level: int, device: str
) -> tuple[FaceAutoencoder, MisfitPrior | None]:
    check_device(device)
    from ..autoencoder import FaceAutoencoder
    from ..prior import MisfitPrior

    autoencoder = FaceAutoencoder.load(checkpoint, level=level).to(device)
    misfit = None if prior is None else MisfitPrior.load(prior)
    if misfit is not None:
        misfit.check(autoencoder.face_model)
    return autoencoder, misfit


def _evaluate_synthetic(
    autoencoder: FaceAutoencoder,
    count: int,
    kinds: str | None,
    seed: int | None,
    batch: int,
    method: str,
    prior: MisfitPrior | None,
    out: Path,
) -> int:
    from ..evaluation import evaluate_synthetic
    from ..evaluation.evaluate import SEED
    from ..synth import KINDS

    names = KINDS if kinds is None else () if kinds == "none" else tuple(kinds.split(","))
    with progress_bar("faces") as update:
        found = evaluate_synthetic(
            autoencoder,
            count,
            seed=SEED if seed is None else seed,
            kinds=names,
            batch_size=batch,
            method=method,
            prior=prior,
            progress=update,
        )
    return _finish(found, out)


def _evaluate_photos(
    autoencoder: FaceAutoencoder,
    data: Path,
    landmarks: Path | None,
    masks: Path | None,
    batch: int,
    method: str,
    out: Path,
) -> int:
    from ..evaluation.photos import evaluate_photos

    with progress_bar("photos") as update:
        found = evaluate_photos(
            autoencoder,
            data,
            landmarks=landmarks,
            masks=masks,
            batch_size=batch,
            method=method,
            progress=update,
        )
    return _finish(found, out)


def _finish(found: Evaluation, out: Path) -> int:
    from ..evaluation import all_tables

    tables = all_tables({found.method: found.summary()})
    found.write(out, tables)
    return _tell(tables, found.failures, len(found.images), out / "evaluation.md")


def _evaluate_now(now: Path, predictions: Path, images: str, metrical: str | None, method: str, out: Path) -> int:
    from ..evaluation import evaluate_now

    listed = images if images in SPLITS else Path(images)
    with progress_bar("meshes") as update:
        found = evaluate_now(now, predictions, images=listed, unit=metrical, method=method, progress=update)
    found.write(out)
    return _tell(found.table(), found.evaluation.failures, len(found.distances), out / "now.md")


def _tell(tables: str, failures: Mapping[str, str], count: int, page: Path) -> int:
    """Prints tables and failures; the number of failures."""
    typer.echo(tables)
    for name, reason in failures.items():
        typer.echo(f"{name}: {reason}", err=True)
    typer.echo(f"{count} evaluated, {len(failures)} not; {page}")
    return len(failures)
