"""`train`: a whole run, from settings and data to a file of trained networks."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..atomic import write_atomic
from ..autoencoder import FaceAutoencoder
from ..data.batch import Batch
from ..face_model import FaceModel
from .checkpoint import Checkpoints
from .checks import check_data, check_same_run
from .log import RunLog, sample_grid
from .networks import make_autoencoder, make_features, start_from
from .processes import Processes
from .progress import RunProgress
from .schedule import INITIALISATION, Schedule
from .settings import SEGMENTATION, TrainSettings
from .signals import StopSignals
from .trainer import Iteration, Trainer

if TYPE_CHECKING:
    from ..data.source import Source
    from ..data.stream import Stream

Validate = Callable[[FaceAutoencoder], Mapping[str, float]]

SETTINGS, DATA, CHECKPOINTS, MODEL = "settings.json", "data.json", "checkpoints", "model.safetensors"
FINISHED, INTERRUPTED, DIVERGED = "finished", "interrupted", "diverged"
MOST_TOLD = 5  # photos that are left out, in one line of the log each
NUM_SAMPLES = 8  # faces of the grids
MOST_SKIPPED = 20  # steps in a row without a finite loss, then the run stops


class TrainResult(NamedTuple):
    """What became of a run.

    Attributes:
        autoencoder: with the weights that it ended with, in evaluation mode.
        ended: "finished", "interrupted" (by a signal, and resumable) or "diverged" (too many steps in a row without a
            finite loss).
        iteration: how many iterations are done.
        total: of how many.
        skipped: how many of them changed nothing, because their loss or gradient was not finite.
        failures: how often a checkpoint, the log or the report could not be written.
        path: the trained networks (`FaceAutoencoder.load`), of a finished run.
        report: report.html.
        signal: the number of the signal that interrupted it.
    """

    autoencoder: FaceAutoencoder
    ended: str
    iteration: int
    total: int
    skipped: int
    failures: int
    path: Path | None
    report: Path | None
    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """0; 1 where something failed; 128 + its number after a signal (130 for Ctrl-C)."""
        if self.signal is not None:
            return 128 + self.signal
        return int(self.ended != FINISHED or self.failures > 0)


def train(
    settings: TrainSettings,
    source: Source,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    device: str = "cpu",
    weights: str | os.PathLike[str] | None = None,
    recognizer: str | os.PathLike[str] | None = None,
    face_model: FaceModel | None = None,
    start: str | os.PathLike[str] | None = None,
    first_stage: str = INITIALISATION,
    validate: Validate | None = None,
    samples: Batch | None = None,
    recipe: Mapping[str, Any] | None = None,
    save_minutes: float = 5.0,
    shown: bool = True,
) -> TrainResult:
    """Trains an autoencoder in the stages of `settings.preset`: initialisation, pre-training, EM.

    `out` gets settings.json, metrics.jsonl, TensorBoard's events, samples/*.png, checkpoints/, after each stage
    STAGE.safetensors, at the end model.safetensors, and report.html. SIGINT and SIGTERM end the run after the current
    step, with a checkpoint. On the CPU a run that was ended in any way (kill -9 too) and resumed gives the weights that
    it would have given, bit for bit, with the same number of threads and processes.

    Args:
        settings: of the run.
        source: photos with landmarks of `settings.size`.
        out: folder, made if missing.
        resume: go on from the newest whole checkpoint in `out`, if there is one. Else `out` must hold no run.
        device: "cpu", "cuda" or "cuda:N"; under torchrun "cpu" or "cuda".
        weights: file to start the encoder from (`make_autoencoder`).
        recognizer: file of F (`make_features`).
        face_model: None is the free one at the settings' level.
        start: file of `FaceAutoencoder.save` to start both networks from.
        first_stage: "initialisation", or "pretraining" or "em" to leave out what comes before.
        validate: called with the autoencoder, in evaluation mode, every `validate_every` iterations and at the end; its
            numbers are logged.
        samples: batch for the grids of pictures; None takes the first items of the source.
        recipe: what the data are, as values for JSON: kept as data.json and in the files of trained networks.
        save_minutes: a checkpoint is written when this time has passed since the last, even if `checkpoint_every`
            iterations have not.
        shown: whether progress is printed.

    Returns:
        TrainResult.

    Raises:
        ValueError: settings, data, files or an existing run that do not fit; nothing has begun then.
        OSError: a file cannot be read, or `out` not be made.
    """
    schedule = Schedule(settings.preset, first_stage, settings.mask == SEGMENTATION)
    processes = Processes(device)
    check_data(settings, source, processes)
    out = Path(out)
    checkpoints = Checkpoints(out / CHECKPOINTS)
    if processes.first:
        out.mkdir(parents=True, exist_ok=True)
        if not resume and (checkpoints.paths() or (out / MODEL).exists()):
            raise ValueError(f"train(): expected {out} to hold no run, or resume (--resume) to go on with its run")
        checkpoints.clean()
    processes.wait()
    autoencoder = make_autoencoder(settings, face_model, weights)
    if start is not None:
        start_from(autoencoder, start)
    autoencoder.to(processes.device)
    features = make_features(settings, recognizer)
    features = None if features is None else features.to(processes.device)
    trainer = Trainer(autoencoder, features, settings, schedule, processes)
    notes: list[str] = []
    checkpoint = checkpoints.latest(notes.append) if resume else None
    _seed(settings.seed, processes)
    if checkpoint is not None:
        check_same_run(settings, schedule, checkpoint)
        trainer.restore(checkpoint)
        if processes.world != checkpoint.state["world"]:
            notes.append("the number of processes is another than before: the run goes on, but not bit for bit")
        notes.append(f"resumed after {trainer.iteration} of {schedule.total} iterations")
    elif resume:
        notes.append("no checkpoint to resume from: starting at the beginning")
    if processes.first:
        settings.save(out / SETTINGS)
        if recipe is not None:
            write_atomic(out / DATA, json.dumps(dict(recipe), indent=2) + "\n")
    if samples is None:
        from ..data.source import in_order

        samples = next(in_order(source, NUM_SAMPLES))[1]
    run = _Run(trainer, checkpoints, out, source, samples, validate, save_minutes, dict(recipe or {}))
    return run.run(notes, shown)


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        trainer: Trainer,
        checkpoints: Checkpoints,
        out: Path,
        source: Source,
        samples: Batch,
        validate: Validate | None,
        save_minutes: float,
        recipe: dict[str, Any],
    ) -> None:
        self.trainer, self.checkpoints, self.out, self.source = trainer, checkpoints, out, source
        self.settings, self.schedule, self.processes = trainer.settings, trainer.schedule, trainer.processes
        self.samples, self.validate, self.save_minutes = samples.to(self.processes.device), validate, save_minutes
        self.recipe = recipe
        self.failures = 0
        self._sums: dict[str, dict[str, torch.Tensor]] = {}
        self._counts: dict[str, int] = {}
        self._waited, self._left_out = 0.0, 0

    def run(self, notes: list[str], shown: bool) -> TrainResult:
        trainer, schedule = self.trainer, self.schedule
        with ExitStack() as stack:
            first = self.processes.first
            batch_size = self.settings.preset.batch_size
            self.progress = RunProgress(schedule.total, trainer.iteration, batch_size, shown=shown and first)
            stack.enter_context(self.progress)
            for note in notes:
                self.progress.tell(note)
            self.log = RunLog(self.out, trainer.iteration, self.progress.tell) if first else None
            if self.log is not None:
                stack.callback(self.log.close)
            signals = stack.enter_context(StopSignals())
            if trainer.iteration == 0:
                self._grid()
            ended = self._train(signals) if trainer.iteration < schedule.total else FINISHED
            path = self._finish() if ended == FINISHED and first else None
            report = self._report(ended) if first else None
            if path is not None:
                self.progress.tell(
                    f"finished: {path}; {trainer.skipped} of {schedule.total} steps skipped; see {report}"
                )
        self.processes.wait()
        failures = self.failures + (self.log.failures if self.log is not None else 0)
        number = signals.received if ended == INTERRUPTED else None
        if ended == INTERRUPTED and number is None:  # another process got it
            number = 15
        state = (trainer.iteration, schedule.total, trainer.skipped, failures)
        return TrainResult(trainer.rest(), ended, *state, path, report, number)

    def _train(self, signals: StopSignals) -> str:
        try:
            return self._loop(signals)
        except RuntimeError:
            if not signals.received or self.processes.world > 1:
                raise
        # The loading processes died of a signal to the whole group, and torch raises that anywhere, perhaps in the
        # middle of a step: nothing is saved.
        self.progress.tell("interrupted; --resume goes on from the last checkpoint")
        return INTERRUPTED

    def _loop(self, signals: StopSignals) -> str:
        from ..data.stream import Stream

        trainer, settings, processes = self.trainer, self.settings, self.processes
        stream = Stream(
            self.source,
            settings.preset.batch_size,
            settings.seed,
            workers=settings.workers,
            rank=processes.rank,
            world=processes.world,
            start=trainer.iteration,
        )
        batches = iter(stream)
        saved = self._begun = time.monotonic()
        while trainer.iteration < self.schedule.total:
            if signals.received and processes.world == 1:
                break
            asked = time.monotonic()
            try:
                batch = next(batches).to(processes.device)
            except RuntimeError:
                if signals.received:  # the loading processes got it too, and died of it; no step is half done here
                    break
                raise
            now = time.monotonic()
            self._waited += now - asked
            due = processes.first and now - saved > 60 * self.save_minutes
            done = trainer.step(batch, [float(signals.received is not None), float(due)])
            self._count(done)
            stop, due = bool(done.asked[0]), bool(done.asked[1])
            number, stage = trainer.iteration, done.moment.stage
            self.progress.advance(number, stage)
            last = number == self.schedule.total
            if number % settings.log_every == 0 or last:
                self._write_log(number, stage, stream)
            if trainer.skipped_in_row >= MOST_SKIPPED:
                self.progress.tell(
                    f"stopped: {MOST_SKIPPED} steps in a row had no finite loss or gradient; checkpoints are kept"
                )
                return DIVERGED
            if number % settings.image_every == 0 or last:
                self._grid()
            if self.validate is not None and (number % settings.validate_every == 0 or last):
                self._validate(number)
            ended = self.schedule.ends.get(number)
            if ended or due or stop or number % settings.checkpoint_every == 0:
                self._save(permanent=ended is not None)
                saved = time.monotonic()
            if ended and not last and processes.first:
                self._write(f"{ended}.safetensors")
            if stop and not last:
                self.progress.tell(f"interrupted after {number} iterations; --resume goes on from here")
                return INTERRUPTED
        if trainer.iteration < self.schedule.total:
            self._save()
            self.progress.tell(f"interrupted after {trainer.iteration} iterations; --resume goes on from here")
            return INTERRUPTED
        return FINISHED

    def _save(self, permanent: bool = False) -> None:
        tensors, state = self.trainer.state()
        if not self.processes.first:
            return
        state |= {
            "settings": json.loads(self.settings.to_json()),
            "first_stage": self.schedule.first,
            "world": self.processes.world,
            "torch": torch.__version__,
        }
        try:
            self.checkpoints.save(self.trainer.iteration, tensors, state, permanent=permanent)
        except OSError as error:
            self.failures += 1
            self.progress.tell(f"the checkpoint after {self.trainer.iteration} iterations cannot be written: {error}")
            self.progress.tell("training goes on; the checkpoints before it are kept")

    def _write(self, name: str) -> Path | None:
        path = self.out / name
        texts = {"settings": self.settings.to_json(), "iterations": str(self.trainer.iteration)}
        if self.recipe:
            texts["data"] = json.dumps(self.recipe)
        try:
            self.trainer.autoencoder.save(path, metadata=texts)
        except OSError as error:
            self.failures += 1
            self.progress.tell(f"{path} cannot be written: {error}")
            return None
        return path

    def _finish(self) -> Path | None:
        return self._write(MODEL)

    def _report(self, ended: str) -> Path | None:
        from .report import write_report

        try:
            return write_report(self.out, self.settings, self.schedule, self.trainer.iteration, ended)
        except OSError as error:
            self.failures += 1
            self.progress.tell(f"the report cannot be written: {error}")
            return None

    def _count(self, done: Iteration) -> None:
        """Adds an iteration's values to those of its kind since the last line of the log."""
        if done.skipped:
            number = self.trainer.iteration
            self.progress.tell(
                f"skipped step {number}: its loss or gradient was not finite ({self.trainer.skipped} so far)"
            )
            return
        sums = self._sums.setdefault(done.moment.step, {})
        for name, value in {**done.values, "rate": torch.tensor(done.moment.rate)}.items():
            sums[name] = sums[name] + value if name in sums else value.double()
        self._counts[done.moment.step] = self._counts.get(done.moment.step, 0) + 1

    def _write_log(self, number: int, stage: str, stream: Stream) -> None:
        now = time.monotonic()
        left_out = stream.skipped
        for name, reason in left_out[self._left_out :][:MOST_TOLD]:
            self.progress.tell(f"left out {name}: {reason}")
        if len(left_out) > self._left_out:
            self.progress.tell(f"left out {len(left_out)} photos so far; others take their place")
        self._left_out = len(left_out)
        loss = float("nan")
        for step, sums in self._sums.items():
            means = torch.stack([value.to(self.processes.device) for value in sums.values()]) / self._counts[step]
            values = dict(zip(sums, self.processes.mean(means).tolist(), strict=True))
            loss = values["loss"]
            values |= {
                "images_per_second": self.progress.images_per_second,
                "waiting": self._waited / max(now - self._begun, 1e-9),
                "skipped": self.trainer.skipped,
                "unreadable": len(left_out),
            }
            if self.log is not None:
                self.log.scalars(number, step, values)
        self._sums, self._counts, self._waited, self._begun = {}, {}, 0.0, now
        self.progress.report(number, stage, loss)

    def _grid(self) -> None:
        if self.log is None:
            return
        made = _resting(self.trainer, self.samples)
        photos = self.samples.image
        self.log.grid(self.trainer.iteration, sample_grid(photos, made.face.image, made.mask, made.face.mask))

    def _validate(self, number: int) -> None:
        if self.log is not None and self.validate is not None:
            with torch.random.fork_rng(devices=_cuda(self.processes)), torch.no_grad():
                values = {name: float(value) for name, value in self.validate(self.trainer.rest()).items()}
            self.log.scalars(number, "validation", values)
            told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            self.progress.tell(f"validation after {number} iterations: {told}")
        self.processes.wait()


@torch.no_grad()
def _resting(trainer: Trainer, batch: Batch) -> Any:
    return trainer.rest()(batch.image)


def _cuda(processes: Processes) -> list[torch.device]:
    return [processes.device] if processes.device.type == "cuda" else []


def _seed(seed: int, processes: Processes) -> None:
    """Dropout differs between processes."""
    torch.manual_seed(seed + 1_000_003 * processes.rank)
