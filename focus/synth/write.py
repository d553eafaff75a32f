"""A folder of synthetic faces: PNG images and masks, parameters as safetensors, landmarks as CSV. Resumable."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from ..atomic import write_atomic
from ..images import write_png
from ..landmarks import HALF_PIXEL, NUM_LANDMARKS
from ..processes import in_processes
from .dataset import Sample, SyntheticFaces, unstack
from .scenes import FaceParameters

RECIPE, LANDMARKS = "recipe.json", "landmarks.csv"
IMAGES, VISIBLE, FACES, PARAMETERS = "images", "masks", "faces", "parameters"


class StoredParameters(NamedTuple):
    """What `write_samples` stores beside the pictures of an item.

    Attributes:
        parameters: of the face, single.
        landmarks: [68, 2] float32 px, half-pixel centres.
        occluders: the kinds that cover the face, the lowest first.
    """

    parameters: FaceParameters
    landmarks: Tensor
    occluders: tuple[str, ...]


def write_samples(
    dataset: SyntheticFaces,
    folder: str | os.PathLike[str],
    *,
    batch: int = 32,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Writes all items of a dataset; those that a folder has already, of the same recipe, are kept.

    folder/images/000000.png, 8-bit RGB; masks/, the visible face, and faces/, the face with what covers it, 8-bit grey
    (255 where a pixel is all face); parameters/000000.safetensors, of `read_parameters`; recipe.json, the arguments of
    the dataset; and at the end landmarks.csv, of `focus.read_landmarks_csv`. Vertices are `model.shape` of the
    parameters and are not stored. Every file is there completely or not at all, an item's image last, so that a run
    that was stopped goes on where it was. A larger `count` than before adds items.

    Args:
        batch: items made at a time.
        workers: processes that make them; what they write does not depend on their number.
        progress: called as progress(items there, items in all) after every batch.

    Returns:
        The number of items written, without those that were there.

    Raises:
        ValueError: batch or workers < 1; the folder holds another recipe's items, and the message says what differs; or
            a recipe or parameters that cannot be read.
        OSError: a file cannot be written; what is written stays, and the next call goes on.
        WorkerDiedError: a process was killed, or had too little memory.
    """
    for name, value in (("batch", batch), ("workers", workers)):
        if value < 1:
            raise ValueError(f"write_samples(): expected {name} to be >= 1, got {value}")
    folder = Path(folder)
    for name in (IMAGES, VISIBLE, FACES, PARAMETERS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _check_recipe(folder / RECIPE, dataset.recipe())
    write_atomic(folder / RECIPE, json.dumps(dataset.recipe(), indent=2) + "\n")
    todo = [index for index in range(len(dataset)) if not _path(folder, IMAGES, index).exists()]
    parts = [todo[first : first + batch] for first in range(0, len(todo), batch)]
    done = len(dataset) - len(todo)
    for indices, _ in in_processes(_write_batch, parts, partial(_Job, dataset, folder), min(workers, len(parts) or 1)):
        done += len(indices)
        if progress is not None:
            progress(done, len(dataset))
    _write_landmarks(folder, len(dataset))
    return len(todo)


def read_parameters(path: str | os.PathLike[str]) -> StoredParameters:
    """The parameters of one item. ValueError for a file that is not one of `write_samples`, OSError if unreadable."""
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            metadata = file.metadata() or {}
            fields = [file.get_tensor(name) for name in FaceParameters._fields]
            names = metadata.get("occluders", "")
            return StoredParameters(
                FaceParameters(*fields), file.get_tensor("landmarks"), tuple(names.split("+") if names else ())
            )
    except SafetensorError as error:
        raise ValueError(f"read_parameters(): expected {path} to be a file of write_samples, got {error}") from error


class _Job(NamedTuple):
    dataset: SyntheticFaces
    folder: Path


def _write_batch(job: _Job, indices: list[int]) -> None:
    for index, sample in zip(indices, unstack(job.dataset.batch(indices)), strict=True):
        _write_sample(job.folder, index, sample)


def _path(folder: Path, kind: str, index: int) -> Path:
    return folder / kind / f"{index:06d}.{'safetensors' if kind == PARAMETERS else 'png'}"


def _write_sample(folder: Path, index: int, sample: Sample) -> None:
    arrays = {name: np.ascontiguousarray(value.numpy()) for name, value in sample.parameters._asdict().items()}
    arrays["landmarks"] = np.ascontiguousarray(sample.landmarks.numpy())
    write_atomic(_path(folder, PARAMETERS, index), save(arrays, {"occluders": "+".join(sample.occluders)}))  # type: ignore[arg-type]
    for kind, planes in ((VISIBLE, sample.visible), (FACES, sample.face), (IMAGES, sample.image)):
        pixels = (planes * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        write_png(_path(folder, kind, index), pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _check_recipe(path: Path, recipe: dict[str, object]) -> None:
    """ValueError where a folder was begun with another recipe; a different count is none."""
    if not path.exists():
        return
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"write_samples(): expected {path} to be a recipe in JSON, got {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"write_samples(): expected {path} to be a recipe in JSON, got {type(found).__name__}")
    recipe = json.loads(json.dumps(recipe))
    keys = [key for key in {**recipe, **found} if key != "count" and recipe.get(key) != found.get(key)]
    if keys:
        have = ", ".join(f"{key} {found.get(key)!r}" for key in keys)
        want = ", ".join(f"{key} {recipe.get(key)!r}" for key in keys)
        raise ValueError(f"write_samples(): expected {path.parent} to be empty or to hold items of {want}, got {have}")


def _write_landmarks(folder: Path, count: int) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "occlusion", *(f"{axis}{k}" for k in range(NUM_LANDMARKS) for axis in "xy")])
    for index in range(count):
        stored = read_parameters(_path(folder, PARAMETERS, index))
        values = (stored.landmarks.double().numpy() - HALF_PIXEL).reshape(-1)
        name = f"{IMAGES}/{_path(folder, IMAGES, index).name}"
        table.writerow([name, "+".join(stored.occluders), *(f"{value:.4f}" for value in values)])
    write_atomic(folder / LANDMARKS, text.getvalue())
