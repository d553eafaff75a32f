"""`focus train`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import (
    ChosenThreads,
    Debug,
    Device,
    Model,
    ModelLandmarks,
    Recognizer,
    fail,
    file_option,
    folder_option,
    load_model,
    set_threads,
    setup,
)

if TYPE_CHECKING:
    from ..data import Source
    from ..face_model import FaceModel
    from ..training.settings import TrainSettings

SYNTHETIC = {"fresh": True, "unoccluded": 0.5}  # where nothing is said
VALIDATION_FACES, VALIDATION_SEED = 64, 719_113_201  # of synthetic faces; unlike any seed that one would choose


def train(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder of the run.", file_okay=False, show_default=False),
    ],
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings: **paper** (the default), **authors**, or **tiny**, sized for two CPU cores.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        file_option('Settings from a JSON file: what differs from its "base", a preset\'s name.'),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a setting, as in **--set size=112** or **--set preset.batch_size=8**. May be repeated.",
            metavar="KEY=VALUE",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Factor of all numbers of iterations.", metavar="FACTOR", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        folder_option("Train on photos: a folder with the landmarks.csv that `focus data prepare` writes."),
    ] = None,
    landmarks: Annotated[
        Path | None,
        file_option("Another table of landmarks.", "CSV"),
    ] = None,
    masks: Annotated[
        Path | None,
        folder_option("True masks of the visible face, for validation and supervised baselines."),
    ] = None,
    synthetic: Annotated[
        int | None,
        typer.Option(help="Train on this many synthetic faces.", min=1, metavar="N", show_default=False),
    ] = None,
    fresh: Annotated[
        bool | None,
        typer.Option(
            "--fresh/--same", help="Other synthetic faces in every epoch, or the same ones.", show_default="fresh"
        ),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option(
            help="Occluders of the synthetic faces, with commas between: some of **hand**, **glasses**, **mask**, "
            "**hair**, **text**, **shape**, **cutout**.",
            metavar="NAMES",
            show_default="all",
        ),
    ] = None,
    unoccluded: Annotated[
        float | None,
        typer.Option(
            help="Share of the synthetic faces that nothing covers.",
            min=0,
            max=1,
            metavar="SHARE",
            show_default=f"{SYNTHETIC['unoccluded']}",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out from its newest checkpoint.")
    ] = False,
    weights: Annotated[
        Path | None,
        file_option("Weights to start the encoder from: a ResNet-50 of torchvision (.pth or safetensors)."),
    ] = None,
    start: Annotated[
        Path | None,
        file_option("A trained model.safetensors to start both networks from."),
    ] = None,
    first_stage: Annotated[
        str, typer.Option(help="**initialisation**, or **pretraining** or **em** to leave out the ones before.")
    ] = "initialisation",
    recognizer: Recognizer = None,
    model: Model = None,
    model_landmarks: ModelLandmarks = None,
    device: Device = "cpu",
    threads: ChosenThreads = None,
    debug: Debug = False,
) -> None:
    """Train a face autoencoder and its segmentation network, without masks or 3D labels.

    Three stages: initialisation of the reconstruction network, pre-training of the segmentation network, and EM, in
    which they teach each other. --out gets model.safetensors, report.html, checkpoints, metrics.jsonl and TensorBoard's
    events (`tensorboard --logdir DIR`). Ctrl-C ends the run with a checkpoint; --resume goes on from it.

    **Examples**

    focus train --preset tiny --synthetic 2000 --out runs/tiny

    focus train --data photos/ --weights resnet50.pth --device cuda --out runs/photos

    torchrun --nproc-per-node 4 --no-python focus train --data photos/ --device cuda --out runs/photos

    Exit code: 0 when the run is finished; 1 if it stopped because its loss was not finite, or if something could not be
    written; 2 for wrong usage; 130 after Ctrl-C and 143 after SIGTERM (with a checkpoint).
    """
    with setup(debug):
        from ..training.run import train as run
        from ..training.validation import make_validation

        if threads is not None:
            set_threads(threads)
        settings = _settings(out, preset, config, change or [], scale, resume)
        paths = {"data": data, "landmarks": landmarks, "masks": masks}
        described: dict[str, Any] = {key: None if path is None else str(path.resolve()) for key, path in paths.items()}
        described |= {"synthetic": synthetic, "fresh": fresh, "kinds": kinds, "unoccluded": unoccluded}
        described = _data(out, described, resume)
        face_model = load_model(model, settings.level, "cpu", model_landmarks)
        source, held_out = _sources(settings, described, face_model)
        result = run(
            settings,
            source,
            out,
            resume=resume,
            device=device,
            weights=weights,
            recognizer=recognizer,
            face_model=face_model,
            start=start,
            first_stage=first_stage,
            validate=None if held_out is None else make_validation(held_out),
            recipe=described,
        )
    raise typer.Exit(result.exit_code)


def _settings(
    out: Path, preset: str | None, config: Path | None, changes: list[str], scale: float | None, resume: bool
) -> TrainSettings:
    from ..training.run import SETTINGS
    from ..training.settings import TrainSettings

    if preset is not None and config is not None:
        fail("--preset and --config: expected one of them")
    if config is not None:
        settings = TrainSettings.load(config)
    elif preset is None and resume and (out / SETTINGS).is_file():
        settings = TrainSettings.load(out / SETTINGS)
    else:
        settings = TrainSettings.named(preset or "paper")
    for change in changes:
        settings = settings.replace(**_nested(change))
    return settings if scale is None else settings.replace(preset=settings.preset.scaled(scale))


def _nested(change: str) -> dict[str, Any]:
    """{"preset": {"batch_size": 8}} of preset.batch_size=8; a value that is no JSON is a text."""
    path, equals, text = change.partition("=")
    if not equals:
        fail(f"--set: expected KEY=VALUE, got {change}")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    for key in reversed(path.strip().split(".")):
        value = {key: value}
    return dict(value)


def _data(out: Path, given: dict[str, Any], resume: bool) -> dict[str, Any]:
    """What to train on: as given, or as the run that is resumed had it."""
    from ..training.run import DATA

    path = out / DATA
    if resume and path.is_file():
        before = dict.fromkeys(given) | json.loads(path.read_text(encoding="utf-8"))
        for key, value in given.items():
            if value is not None and value != before[key]:
                fail(f"--{key}: expected {before[key]}, as the run that is resumed has it, got {value}")
        return before
    if (given["data"] is None) == (given["synthetic"] is None):
        fail("expected --data DIR or --synthetic N, one of them")
    if given["data"] is None and (given["landmarks"] or given["masks"]):
        fail("--landmarks and --masks: expected --data DIR with them")
    if given["data"] is not None and any(given[key] is not None for key in ("fresh", "kinds", "unoccluded")):
        fail("--fresh, --same, --kinds and --unoccluded: expected --synthetic N with them")
    if given["synthetic"] is None:
        return given
    return given | {key: value for key, value in SYNTHETIC.items() if given[key] is None}


def _sources(settings: TrainSettings, data: dict[str, Any], face_model: FaceModel) -> tuple[Source, Source | None]:
    """To train on, and to validate on, without augmentation; None where a folder has no photos left for it."""
    from ..data import PhotoSource, SyntheticSource
    from ..synth import KINDS

    augmentation = settings.augmentation
    training: Source
    if data["synthetic"] is not None:
        training = SyntheticSource(
            data["synthetic"],
            settings.size,
            seed=settings.seed,
            augmentation=augmentation,
            fresh=data["fresh"],
            kinds=KINDS if data["kinds"] is None else tuple(data["kinds"].split(",")),
            none_probability=data["unoccluded"],
            vertices=False,
            model=face_model,
        )
        return training, SyntheticSource(VALIDATION_FACES, settings.size, seed=VALIDATION_SEED, model=face_model)
    photos = partial(
        PhotoSource, data["data"], data["landmarks"], size=settings.size, seed=settings.seed, masks=data["masks"]
    )
    training = photos(augmentation=augmentation, split="train")
    try:
        return training, photos(split="validation")
    except ValueError:  # few photos
        return training, None
