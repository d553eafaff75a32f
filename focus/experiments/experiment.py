"""`run_experiment`: from a plan to tables. Killed at any moment, the same call goes on."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..atomic import write_atomic
from ..autoencoder import FaceAutoencoder
from ..face_model import FaceModel
from ..prior import MisfitPrior, prior_settings
from ..training.settings import TrainSettings
from .claims import Claim, check_claims
from .configurations import INITIALISATION, PRETRAINING, Configuration, reconstruction_steps
from .faces import HELD_OUT, TRAIN_BACKGROUNDS, TRAIN_KINDS, face_batches, face_recipe
from .figures import sheet_rows, sweep_points, sweep_svg, write_sheet
from .masks import use_mask
from .measure import Summary, get_prior, measure_faces, measure_photos
from .plan import Plan
from .report import markdown_report
from .results import Results
from .runs import PLACES, Job, Runner, digest, file_digest

SHEET = 10  # faces of a sheet
EM = "em"


class Outcome(NamedTuple):
    """What an experiment found.

    Attributes:
        results: on synthetic faces. photos: on real photographs, or None.
        claims: the paper's, judged.
        report: the text of the tables.
        path: the file with it.
        failed: runs that diverged, by name and seed.
    """

    results: Results
    photos: Results | None
    claims: list[Claim]
    report: str
    path: Path
    failed: list[str]


def synthetic_data(count: int, fresh: bool = False) -> dict[str, Any]:
    """The recipe of synthetic faces to train on."""
    kinds, backgrounds = list(TRAIN_KINDS), list(TRAIN_BACKGROUNDS)
    return {"kind": "synthetic", "count": count, "fresh": fresh, "kinds": kinds, "backgrounds": backgrounds}


def photo_data(folder: Path, landmarks: Path | None = None, masks: Path | None = None) -> dict[str, Any]:
    """The recipe of photographs to train on; the table of landmarks stands for them in hashes.

    Raises:
        OSError: the table cannot be read.
    """
    table = folder / "landmarks.csv" if landmarks is None else landmarks
    return {
        "kind": "photos",
        "folder": str(folder.resolve()),
        "landmarks": str(table.resolve()),
        "masks": None if masks is None else str(masks.resolve()),
        "table": file_digest(table),
        "masked": masks is not None,
    }


def run_experiment(
    plan: Plan,
    out: str | os.PathLike[str],
    data: Mapping[str, Any],
    *,
    face_model: FaceModel | None = None,
    device: str = "cpu",
    weights: str | os.PathLike[str] | None = None,
    recognizer: str | os.PathLike[str] | None = None,
    photos: str | os.PathLike[str] | None = None,
    landmarks: str | os.PathLike[str] | None = None,
    shown: bool = True,
    tell: Callable[[str], None] = print,
) -> Outcome:
    """Trains every method with every seed, measures all on the same faces, and writes the tables.

    Methods of one seed share the initialisation and S's pre-training. Each run has a folder named by a hash of all that
    it depends on, so a call with the same arguments goes on where the last one was ended, in whatever way, and runs
    that several experiments share are done once.

    Args:
        plan: of `make_plan`.
        out: folder; gets runs/, measured/ and, named by the experiment, .md, .json, .csv, and pictures.
        data: what to train on: `synthetic_data` or `photo_data`.
        face_model: on the CPU; None is the free one at the settings' level.
        device, weights, recognizer, shown: of `focus.training.train`.
        photos: a folder of real photographs to measure landmarks on as well. landmarks: their table; None is
            photos/landmarks.csv.
        tell: takes messages.

    Returns:
        Outcome.

    Raises:
        InterruptedRunError: a signal ended it.
        ValueError, OSError: as `focus.training.train`, and where files cannot be written.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    model = FaceModel.load(level=plan.settings.level) if face_model is None else face_model
    options = {"device": device, "weights": weights, "recognizer": recognizer, "shown": shown}
    files = {
        name: file_digest(path) for name, path in (("weights", weights), ("recognizer", recognizer)) if path is not None
    }
    runner = Runner(out, model, options, tell)
    laboratory = _Laboratory(plan, runner, dict(data), files, device)
    real = None if photos is None else (Path(photos), None if landmarks is None else Path(landmarks))
    return laboratory.run(real)


def _em(iterations: int) -> dict[str, Any]:
    """A change of a preset."""
    return {"em": {"iterations": iterations}}


class _Laboratory:
    """One call of `run_experiment`."""

    def __init__(self, plan: Plan, runner: Runner, data: dict[str, Any], files: dict[str, str], device: str) -> None:
        self.plan, self.runner, self.data, self.files, self.device = plan, runner, data, files, device
        self.out, self.model, self.tell = runner.out, runner.face_model, runner.tell
        self.seeds = tuple(plan.settings.seed + k for k in range(plan.seeds))
        self.failed: list[str] = []
        self._places: dict[tuple[str, int], tuple[Path, str] | None] = {}
        self.notes: list[str] = []
        masked = data["kind"] == "synthetic" or data.get("masked", False)
        self.methods = tuple(item for item in plan.configurations if masked or not item.needs_masks)
        for item in plan.configurations:
            if item not in self.methods:
                self.notes.append(f"{item.name} is left out: it trains on true masks, and the photographs have none.")

    def run(self, real: tuple[Path, Path | None] | None) -> Outcome:
        found: dict[tuple[str, int], Summary] = {}
        on_photos: dict[tuple[str, int], Summary] = {}
        same: dict[str, str] = {}  # of the first seed: where a method's networks are -> its name
        for seed in self.seeds:
            prior = self._prior(seed)
            for item in self.methods:
                place = self._networks(item, seed)
                if place is None:
                    self.failed.append(f"{item.name}, seed {seed}")
                    continue
                path, key = place
                if seed == self.seeds[0]:
                    twin = same.setdefault(key, item.name)
                    if twin != item.name and item.settings is not None:
                        self.notes.append(f"{item.name} has the settings of {twin} here: the same run.")
                load = partial(self._load, item, path)
                found[item.name, seed] = self._measure(item, seed, key, load, prior)
                if real is not None:
                    on_photos[item.name, seed] = self._measure_photos(item, seed, key, load, real)
        names = tuple(item.name for item in self.methods)
        self.notes += [f"{name}: its training diverged." for name in self.failed]
        recipe: dict[str, Any] = {"faces": face_recipe(self.plan.faces, self.plan.settings.size)}
        recipe |= {"prior_faces": self.plan.prior_faces, "iterations": self._lengths(), "files": self.files}
        recipe["training"] = {key: value for key, value in self.data.items() if key not in PLACES}
        results = Results(self.plan.experiment, names, self.seeds, found, recipe, self.notes)
        photos = None
        if real is not None:
            photos = Results(self.plan.experiment, names, self.seeds, on_photos, {"photos": real[0].name})
        return self._write(results, photos, real)

    def _job(self, name: str, settings: TrainSettings, data: Mapping[str, Any], **start: Any) -> Job:
        return Job(name, settings, data, files=self.files, **start)

    def _shared(self, seed: int) -> Job:
        settings = self.plan.settings.replace(name="shared", seed=seed, preset=_em(0))
        return self._job("shared", settings, self.data)

    def _prior(self, seed: int) -> MisfitPrior | None:
        """E_MP of this seed: R_syn goes on from the shared initialisation, on unoccluded synthetic faces."""
        steps = reconstruction_steps(self.plan.settings)
        if steps == 0:
            return None
        settings = prior_settings(self.plan.settings.replace(seed=seed, preset=_em(steps)))
        data = {"kind": "synthetic", "count": self.plan.training_faces, "fresh": True, "kinds": []}
        data["backgrounds"] = list(TRAIN_BACKGROUNDS)
        job = self._job("prior", settings, data, first_stage=EM, start=(self._shared(seed), INITIALISATION))
        if not self.runner.run(job):
            self.failed.append(f"misfit prior, seed {seed}")
            return None
        return get_prior(self.runner, job, self.plan.prior_faces, self.device)

    def _networks(self, item: Configuration, seed: int) -> tuple[Path, str] | None:
        """The file of a method's networks, trained if they are not there, and a key for it; None if it diverged."""
        if (item.name, seed) not in self._places:
            self._places[item.name, seed] = self._train(item, seed)
        return self._places[item.name, seed]

    def _train(self, item: Configuration, seed: int) -> tuple[Path, str] | None:
        shared = self._shared(seed)
        job, stage = shared, item.start
        if item.settings is not None and item.settings.preset.em.iterations:
            data = self.data if item.paste is None else {**self.data, "paste": item.paste}
            settings = item.settings.replace(name=item.name, seed=seed)
            name = "".join(c if c.isalnum() or c in "-." else "_" for c in item.name.lower())
            job, stage = self._job(name, settings, data, first_stage=EM, start=(shared, item.start)), "model"
        if not self.runner.run(job):
            return None
        return self.runner.networks(job, "model" if stage == PRETRAINING else stage), f"{job.key} {stage}"

    def _load(self, item: Configuration, path: Path) -> FaceAutoencoder:
        found = FaceAutoencoder.load(path, face_model=self.model)
        return use_mask(found, item.mask).to(self.device)

    def _faces(self) -> Iterator[Any]:
        return face_batches(self.plan.faces, self.plan.settings.size, self.model)

    def _folder(self, item: Configuration, seed: int, what: Mapping[str, Any]) -> Path:
        name = "".join(c if c.isalnum() or c in "-." else "_" for c in item.name.lower())
        return self.out / "measured" / f"{name}-seed{seed}-{digest(dict(what))}"

    def _measure(
        self, item: Configuration, seed: int, key: str, load: Callable[[], FaceAutoencoder], prior: MisfitPrior | None
    ) -> Summary:
        what = {
            "networks": key,
            "mask": item.mask,
            "faces": face_recipe(self.plan.faces, self.plan.settings.size),
            "model": repr(self.model),
            "prior": None if prior is None else [prior.recipe["job"], prior.recipe["faces_asked"]],
        }
        self.tell(f"measuring {item.name}, seed {seed}")
        folder = self._folder(item, seed, what)
        return measure_faces(load, self._faces, folder, what, method=item.name, prior=prior)

    def _measure_photos(
        self,
        item: Configuration,
        seed: int,
        key: str,
        load: Callable[[], FaceAutoencoder],
        real: tuple[Path, Path | None],
    ) -> Summary:
        table = real[0] / "landmarks.csv" if real[1] is None else real[1]
        what = {"networks": key, "mask": item.mask, "table": file_digest(table), "photos": real[0].name}
        return measure_photos(load, *real, self._folder(item, seed, what), what, method=item.name)

    def _lengths(self) -> dict[str, int]:
        preset = self.plan.settings.preset
        return {stage: getattr(preset, stage).iterations for stage in (INITIALISATION, PRETRAINING, EM)}

    def _write(self, results: Results, photos: Results | None, real: tuple[Path, Path | None] | None) -> Outcome:
        name, plan = self.plan.experiment, replace(self.plan, configurations=self.methods)
        claims = check_claims(results)
        report = markdown_report(plan, results, claims, photos)
        path = self.out / f"{name}.md"
        more: dict[str, Any] = {"claims": [asdict(claim) for claim in claims]}
        points = sweep_points(results, self.methods)
        if any(len(found) > 1 for found in points.values()):
            write_atomic(self.out / f"{name}.svg", sweep_svg(points))
        write_atomic(self.out / f"{name}.csv", results.to_csv())
        if photos is not None:
            write_atomic(self.out / f"{name}_photos.csv", photos.to_csv())
            more["photos"] = {
                m: {s: {k: v.mean for k, v in r.items()} for s, r in t.items()} for m, t in photos.over_seeds().items()
            }
        write_atomic(self.out / f"{name}.json", results.to_json(**more))
        write_atomic(self.out / f"{name}_faces.png", self._sheet(self._held_out()))
        if real is not None:
            write_atomic(self.out / f"{name}_photos.png", self._sheet(self._photos(real)))
        write_atomic(path, report)
        return Outcome(results, photos, claims, report, path, self.failed)

    def _sheet(self, pictures: torch.Tensor) -> bytes:
        """A sheet of all methods with the first seed."""
        rows = []
        for item in self.methods:
            place = self._networks(item, self.seeds[0])
            if place is not None:
                rows.append((item.name, sheet_rows(self._load(item, place[0]), pictures.to(self.device))))
        return write_sheet(pictures, rows)

    def _held_out(self) -> torch.Tensor:
        """The first occluded faces of the held-out kind."""
        found: list[torch.Tensor] = []
        for labelled in face_batches(max(SHEET, 1), self.plan.settings.size, self.model):
            chosen = [k for k, inside in enumerate(labelled.subsets) if HELD_OUT in inside]
            found += list(labelled.batch.image[chosen])
        if not found:
            found = list(labelled.batch.image)
        return torch.stack(found[:SHEET])

    def _photos(self, real: tuple[Path, Path | None]) -> torch.Tensor:
        """Photographs, evenly through the folder."""
        from ..data import PhotoSource, UnusableItemError

        source = PhotoSource(real[0], real[1], size=self.plan.settings.size, cache_bytes=0)
        step = max(1, math.ceil(len(source) / SHEET))
        found = []
        for index in range(0, len(source), step):
            try:
                found.append(source.batch([index], 0).image[0])
            except UnusableItemError:
                continue
        return torch.stack(found)
