"""Measures methods, once each: folders of `Evaluation.write`, bound by a hash to what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..autoencoder import FaceAutoencoder
from ..evaluation.evaluate import LabelledBatch, evaluate
from ..evaluation.photos import evaluate_photos
from ..evaluation.results import Evaluation, Statistic, read_statistics
from ..evaluation.tables import all_tables
from ..prior import UNSEEN, MisfitPrior, measure_prior
from ..synth import SyntheticFaces
from .runs import Job, Runner, digest

Summary = dict[str, dict[str, Statistic]]

PRIOR_FILE = "prior.safetensors"


def known(folder: Path, key: str) -> Summary | None:
    """The statistics in a folder, where they are those of the key."""
    path = folder / "evaluation.json"
    try:
        if json.loads(path.read_bytes())["recipe"]["key"] != key:
            return None
        return read_statistics(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(found: Evaluation, folder: Path, key: str) -> Summary:
    """Writes an evaluation under a key; its statistics."""
    bound = Evaluation(
        found.method, found.images, found.values, found.subsets, {**found.recipe, "key": key}, found.failures
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    bound.write(folder, all_tables({bound.method: bound.summary()}))
    return bound.summary()


def measure_faces(
    load: Callable[[], FaceAutoencoder],
    batches: Callable[[], Iterable[LabelledBatch]],
    folder: Path,
    what: Mapping[str, Any],
    *,
    method: str,
    prior: MisfitPrior | None,
) -> Summary:
    """Statistics per subset of an autoencoder on synthetic faces; from the folder where they are there.

    Args:
        load: gives the autoencoder, with its mask.
        batches: gives the faces.
        what: all that the numbers depend on, values for JSON.
    """
    key = digest(dict(what))
    there = known(folder, key)
    if there is not None:
        return there
    found = evaluate(load(), batches(), method=method, prior=prior, recipe=dict(what))
    return keep(found, folder, key)


def measure_photos(
    load: Callable[[], FaceAutoencoder],
    photos: Path,
    landmarks: Path | None,
    folder: Path,
    what: Mapping[str, Any],
    *,
    method: str,
) -> Summary:
    """Statistics of an autoencoder on real photographs, as `measure_faces`."""
    key = digest(dict(what))
    there = known(folder, key)
    if there is not None:
        return there
    found = evaluate_photos(load(), photos, landmarks=landmarks, method=method)
    return keep(found, folder, key)


def get_prior(runner: Runner, job: Job, faces: int, device: str) -> MisfitPrior:
    """E_MP of the R_syn that a job trained, over `faces` others (Eq. 11); measured once."""
    path = runner.folder(job) / PRIOR_FILE
    recipe = {"job": job.key, "faces_asked": faces}
    try:
        found = MisfitPrior.load(path)
        if all(found.recipe.get(name) == value for name, value in recipe.items()):
            return found
    except (OSError, ValueError):
        pass
    model = runner.face_model
    autoencoder = FaceAutoencoder.load(runner.networks(job, "model"), face_model=model).to(device)
    drawn = SyntheticFaces(faces, job.settings.size, job.settings.seed + UNSEEN, model=model, kinds=())
    found = measure_prior(autoencoder, drawn, recipe={**recipe, "settings": json.loads(job.settings.to_json())})
    found.save(path)
    return found
