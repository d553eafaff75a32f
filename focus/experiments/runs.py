"""Jobs: single runs of training in folders named by a hash of all that they depend on, so that they are done once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import write_atomic
from ..training.checks import FREE
from ..training.settings import TrainSettings
from .configurations import INITIALISATION

if TYPE_CHECKING:
    from ..data.source import Source
    from ..face_model import FaceModel

VERSION = 1  # of what a hash stands for
DONE, MODEL = "done.json", "model.safetensors"
UNDONE = "undone"  # why a run gave nothing

Tell = Callable[[str], None]


class InterruptedRunError(RuntimeError):
    """A signal ended a run; it has a checkpoint. `exit_code` is the program's."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("interrupted; the same command goes on")
        self.exit_code = exit_code


@dataclass(frozen=True)
class Job:
    """One run of training.

    Attributes:
        name: for its folder and for people.
        settings: of the run.
        data: recipe of its source, values for JSON (`make_source`).
        first_stage: where it begins.
        start: the job whose networks it starts from, and after which stage of that.
        files: name -> hash of the files that it starts from.
    """

    name: str
    settings: TrainSettings
    data: Mapping[str, Any]
    first_stage: str = INITIALISATION
    start: tuple[Job, str] | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """12 hexadecimal digits that stand for all that the run's result depends on."""
        settings = {key: value for key, value in json.loads(self.settings.to_json()).items() if key not in FREE}
        settings["preset"].pop("name", None)
        return digest(
            {
                "version": VERSION,
                "settings": settings,
                "data": {key: value for key, value in self.data.items() if key not in PLACES},
                "first_stage": self.first_stage,
                "start": None if self.start is None else [self.start[0].key, self.start[1]],
                "files": dict(self.files),
            }
        )

    @property
    def folder(self) -> str:
        return f"{self.name}-seed{self.settings.seed}-{self.key}"


PLACES = ("folder", "landmarks", "masks")  # keys of a recipe that tell where data are, not what


def digest(values: Any) -> str:
    """12 hexadecimal digits of values for JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def file_digest(path: str | os.PathLike[str]) -> str:
    """12 hexadecimal digits of a file's bytes."""
    with Path(path).open("rb") as file:
        found = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()[:12]


def make_source(data: Mapping[str, Any], settings: TrainSettings, model: FaceModel) -> Source:
    """The source of a recipe.

    Raises:
        ValueError: a folder that cannot be used; and as the sources.
    """
    from ..data import PhotoSource, SyntheticSource

    augmentation = settings.augmentation if any(asdict(settings.augmentation).values()) else None
    if data["kind"] == "photos":
        masks = data.get("masks")
        return PhotoSource(
            data["folder"],
            data["landmarks"],
            size=settings.size,
            seed=settings.seed,
            augmentation=augmentation,
            masks=masks,
            split="train",
        )
    return SyntheticSource(
        data["count"],
        settings.size,
        seed=settings.seed,
        augmentation=augmentation,
        fresh=data["fresh"],
        vertices=False,
        model=model,
        kinds=tuple(data["kinds"]),
        backgrounds=tuple(data["backgrounds"]),
    )


class Runner:
    """Does jobs in out/runs, each once.

    Args:
        out: folder of the experiments.
        face_model: on the CPU.
        options: device, weights, recognizer, shown of `focus.training.train`.
        tell: takes messages.
    """

    def __init__(self, out: Path, face_model: FaceModel, options: Mapping[str, Any], tell: Tell) -> None:
        self.out, self.face_model, self.options, self.tell = out, face_model, dict(options), tell
        self._source: tuple[str, Source] | None = None

    def folder(self, job: Job) -> Path:
        """Its own, or that of another name's run that is the same."""
        runs = self.out / "runs"
        return next(iter(sorted(runs.glob(f"*-{job.key}"))), runs / job.folder)

    def done(self, job: Job) -> bool:
        """Whether a whole result of just this job is there."""
        folder = self.folder(job)
        try:
            content = json.loads((folder / DONE).read_bytes())
        except (OSError, ValueError):
            return False
        return isinstance(content, dict) and content.get("key") == job.key and (folder / MODEL).is_file()

    def networks(self, job: Job, stage: str) -> Path:
        """The file of its networks after a stage; the last ones where it had not that stage."""
        path = self.folder(job) / f"{stage}.safetensors"
        return path if path.is_file() else self.folder(job) / MODEL

    def run(self, job: Job) -> bool:
        """Does the job, or goes on with it; False where its training diverged or what it starts from did.

        Raises:
            InterruptedRunError: by a signal.
            OSError: the disk is full, or something cannot be read.
            ValueError: settings and data do not fit.
        """
        if self.done(job):
            return True
        if job.start is not None and not self.run(job.start[0]):
            return False
        from ..training.run import FINISHED, INTERRUPTED, train

        folder = self.folder(job)
        begun = time.monotonic()
        self.tell(f"{folder.name}: " + ("going on" if folder.exists() else "training"))
        result = train(
            job.settings,
            self._get_source(job),
            folder,
            resume=folder.exists(),
            face_model=self.face_model,
            start=None if job.start is None else self.networks(*job.start),
            first_stage=job.first_stage,
            recipe=dict(job.data),
            **self.options,
        )
        if result.ended == INTERRUPTED:
            raise InterruptedRunError(result.exit_code)
        if result.ended != FINISHED:
            self.tell(f"{job.folder}: diverged after {result.iteration} of {result.total} iterations")
            return False
        if result.path is None:
            raise OSError(f"{folder / MODEL} could not be written")
        taken = {"seconds": round(time.monotonic() - begun, 1), "iterations": result.iteration}
        content = {"key": job.key, "name": job.name, **taken, "skipped": result.skipped}
        write_atomic(folder / DONE, json.dumps(content, indent=1) + "\n")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # hundreds of megabytes that nothing needs now
        return True

    def _get_source(self, job: Job) -> Source:
        """The job's source; that of the last job where it is the same, with the faces that it has drawn."""
        from .pasting import PastedSource

        data = dict(job.data)
        paste = data.pop("paste", None)
        same = digest([data, job.settings.seed, job.settings.size, asdict(job.settings.augmentation)])
        if self._source is None or self._source[0] != same:
            self._source = same, make_source(data, job.settings, self.face_model)
        source = self._source[1]
        return source if paste is None else PastedSource(source, paste, job.settings.seed)
