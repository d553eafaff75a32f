"""`focus experiment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import (
    SOME_FAILED,
    ChosenThreads,
    Debug,
    Device,
    Recognizer,
    check_device,
    fail,
    file_option,
    folder_option,
    set_threads,
    setup,
)

MINUTES = 80.0  # of the preset tiny, where nothing else is asked for: 90 with a margin
SYNTHETIC = 2000  # faces to train on, where no data are named


def experiment(
    name: Annotated[str, typer.Argument(help="**ablation**, **baselines** or **hyperparameters**.", metavar="NAME")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder of runs and tables.", file_okay=False, show_default=False
        ),
    ],
    preset: Annotated[str, typer.Option(help="Settings: **tiny**, **paper** or **authors**.", metavar="NAME")] = "tiny",
    config: Annotated[Path | None, file_option("Settings from a JSON file, as for `focus train`.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Each method is trained with this many seeds.", metavar="N")] = 3,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Choose the numbers of iterations so that all takes this long on two CPU cores (tiny's sizes only).",
            metavar="MIN",
            show_default="80 for tiny",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="In place of --minutes: a factor of the settings' own numbers of iterations; 1 for all of them.",
            metavar="FACTOR",
            show_default=False,
        ),
    ] = None,
    synthetic: Annotated[
        int | None,
        typer.Option(
            help="Train on this many synthetic faces.", min=1, metavar="N", show_default=f"{SYNTHETIC}, without --data"
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Other synthetic faces in every epoch.")] = False,
    data: Annotated[
        Path | None, folder_option("Train on photos: a folder with the landmarks.csv that `focus data prepare` writes.")
    ] = None,
    masks: Annotated[
        Path | None, folder_option("True masks of the photos' visible face; the supervised baselines need them.")
    ] = None,
    faces: Annotated[int, typer.Option(min=1, help="Synthetic test faces of each subset.", metavar="N")] = 200,
    prior_faces: Annotated[
        int, typer.Option(min=1, help="Synthetic faces that the misfit prior is taken over.", metavar="N")
    ] = 1000,
    factors: Annotated[
        str, typer.Option(help="Of hyperparameters: what each weight is multiplied with.", metavar="LIST")
    ] = "0.25,0.5,1,2,4",
    photos: Annotated[
        Path | None, folder_option("Measure landmarks on these real photos too, and draw a sheet of them.")
    ] = None,
    landmarks: Annotated[Path | None, file_option("Their table of landmarks.", "CSV")] = None,
    weights: Annotated[Path | None, file_option("Weights to start the encoder from, as for `focus train`.")] = None,
    recognizer: Recognizer = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what would be run and how long, and end.")] = False,
    device: Device = "cpu",
    threads: ChosenThreads = None,
    debug: Debug = False,
) -> None:
    """Run one of the paper's experiments: train every method with several seeds, measure them, print the tables.

    **ablation** is Table 5, **baselines** Tables 1 to 4, **hyperparameters** Fig. 4. Methods of one seed share the
    initialisation. All are measured on synthetic faces with a kind of occluder that no training sees. --out gets
    NAME.md, .json and .csv, pictures, and the runs. Killed at any moment, the same command goes on; what is done is
    kept.

    **Examples**

    focus experiment ablation --out experiments

    focus experiment baselines --preset paper --scale 1 --device cuda --synthetic 30000 --out experiments

    focus experiment ablation --out experiments --photos photos/ --landmarks landmarks.csv

    Exit code: 0 when all is done, 1 if the training of a method diverged, 2 for wrong usage, 130 after Ctrl-C.
    """
    with setup(debug):
        from ..experiments.plan import make_plan
        from ..training.settings import TrainSettings

        if minutes is not None and scale is not None:
            fail("--minutes and --scale: expected one of them")
        if data is not None and (synthetic is not None or fresh):
            fail("--data: expected it without --synthetic and --fresh")
        if masks is not None and data is None:
            fail("--masks: expected --data DIR with it")
        if landmarks is not None and photos is None:
            fail("--landmarks: expected --photos DIR with it")
        settings = TrainSettings.named(preset) if config is None else TrainSettings.load(config)
        if minutes is None and scale is None and config is None and preset == "tiny":
            minutes = MINUTES
        if scale is not None:
            settings = settings.replace(preset=settings.preset.scaled(scale))
        plan = make_plan(
            name,
            settings,
            seeds=seeds,
            minutes=minutes,
            factors=_factors(factors),
            faces=faces,
            prior_faces=prior_faces,
            training_faces=synthetic or SYNTHETIC,
        )
        typer.echo(plan.describe())
        if plan_only:
            return
        from ..experiments.experiment import photo_data, run_experiment, synthetic_data
        from ..experiments.runs import InterruptedRunError

        check_device(device)
        if threads is not None:
            set_threads(threads)
        described = synthetic_data(synthetic or SYNTHETIC, fresh) if data is None else photo_data(data, masks=masks)
        try:
            outcome = run_experiment(
                plan,
                out,
                described,
                device=device,
                weights=weights,
                recognizer=recognizer,
                photos=photos,
                landmarks=landmarks,
                tell=lambda text: typer.echo(text, err=True),
            )
        except InterruptedRunError as error:
            fail(str(error), error.exit_code)
    typer.echo(outcome.report)
    typer.echo(str(outcome.path))
    if outcome.failed:
        raise typer.Exit(SOME_FAILED)


def _factors(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--factors: expected numbers with commas between them, got {text}") from None
