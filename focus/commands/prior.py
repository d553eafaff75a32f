"""`focus prior`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    SOME_FAILED,
    ChosenThreads,
    Debug,
    Device,
    Model,
    ModelLandmarks,
    Recognizer,
    check_device,
    file_option,
    load_model,
    set_threads,
    setup,
)
from .progress import progress_bar

if TYPE_CHECKING:
    from ..training.settings import TrainSettings


def prior(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the prior.", file_okay=False, show_default=False),
    ],
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings of the training: **paper** (the default), **authors** or **tiny**.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        file_option("Settings from a JSON file, as for `focus train`: those of the run whose prior it is to be."),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Factor of all numbers of iterations.", metavar="FACTOR", show_default=False),
    ] = None,
    images: Annotated[
        int,
        typer.Option(help="Synthetic faces in an epoch of the training, and for the mean.", min=1, metavar="N"),
    ] = 10_000,
    checkpoint: Annotated[
        Path | None,
        file_option("Train nothing: the mean error of this autoencoder, which was trained on synthetic faces."),
    ] = None,
    weights: Annotated[
        Path | None,
        file_option("Weights to start the encoder from, as for `focus train`."),
    ] = None,
    recognizer: Recognizer = None,
    model: Model = None,
    model_landmarks: ModelLandmarks = None,
    level: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2,
            help="Resolution of the free model for which the prior is written.",
            metavar="0|1|2",
            show_default="1, that of `focus reconstruct` and `focus evaluate`",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")] = False,
    device: Device = "cpu",
    threads: ChosenThreads = None,
    debug: Debug = False,
) -> None:
    """Learn the misfit prior: what reconstructions are off by on average, vertex by vertex, without any photo.

    A reconstruction network is trained on synthetic faces without occluders, and its shape errors on others are
    averaged (Eq. 11 of the paper). --out gets prior.safetensors with its recipe, for --prior of `focus reconstruct` and
    `focus evaluate`, and the training run as the folder network.

    **Examples**

    focus prior --preset tiny --out prior

    focus prior --config runs/a/settings.json --images 20000 --device cuda --out prior

    Exit code: 0 when the prior is written, 1 if the training did not finish (--resume goes on), 2 for wrong usage.
    """
    with setup(debug):
        check_device(device)
        from ..face_model import FaceModel
        from ..prior import magnitude, measure_prior, train_prior
        from ..synth import SyntheticFaces

        if threads is not None:
            set_threads(threads)
        settings = _settings(preset, config, scale)
        full = None if model is not None else FaceModel.load(level=1 if level is None else level)
        if model is not None and level is not None:
            raise ValueError("--level: only the free face model has levels")
        with progress_bar("images") as update:
            if checkpoint is None:
                found = train_prior(
                    settings,
                    out,
                    images=images,
                    face_model=load_model(model, settings.level, "cpu", model_landmarks),
                    full_model=full,
                    device=device,
                    weights=weights,
                    recognizer=recognizer,
                    resume=resume,
                    progress=lambda done: update(done, images),
                )
            else:
                from ..autoencoder import FaceAutoencoder

                given = None if model is None else load_model(model, 1, "cpu", model_landmarks)
                autoencoder = FaceAutoencoder.load(checkpoint, face_model=given, level=1).to(device)
                faces = SyntheticFaces(
                    images, autoencoder.size, settings.seed, model=autoencoder.face_model.to("cpu"), kinds=()
                )
                recipe = {"checkpoint": checkpoint.name, "metadata": autoencoder.metadata}
                found = measure_prior(
                    autoencoder, faces, full_model=full, recipe=recipe, progress=lambda done: update(done, images)
                )
                out.mkdir(parents=True, exist_ok=True)
                found.save(out / "prior.safetensors")
    if found is None:
        typer.echo(f"the training did not finish; {out / 'network'} has its state, --resume goes on", err=True)
        raise typer.Exit(SOME_FAILED)
    size = ", ".join(f"{name} {value:.3f}" for name, value in magnitude(found).items())
    typer.echo(f"{out / 'prior.safetensors'}: {len(found.offsets)} vertices, length in mm: {size}")


def _settings(preset: str | None, config: Path | None, scale: float | None) -> TrainSettings:
    from ..training.settings import TrainSettings

    if preset is not None and config is not None:
        raise ValueError("--preset and --config: expected one of them")
    settings = TrainSettings.named(preset or "paper") if config is None else TrainSettings.load(config)
    return settings if scale is None else settings.replace(preset=settings.preset.scaled(scale))
