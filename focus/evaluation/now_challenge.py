"""The NoW challenge over a folder of its data and a folder of predictions: what its own programs answer, per subset."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..atomic import staged_folder, write_atomic
from .mesh_distance import Array
from .mesh_files import read_mesh, read_now_landmarks
from .now import MILLIMETRES, now_error
from .results import OVERALL, Evaluation, Statistic
from .tables import now_table

LISTS = {"val": "imagepathsvalidation.txt", "test": "imagepathstest.txt"}
CURVE = np.linspace(0, 7, 141)  # mm, where the cumulative curve is written
NUMBERS = ("vertices", "median", "mean", "std", "scale", "steps")


class NowImage(NamedTuple):
    """One image of the challenge; its files are called subject/challenge/stem."""

    subject: str
    challenge: str
    stem: str

    @property
    def name(self) -> str:
        return f"{self.subject}/{self.challenge}/{self.stem}"


@dataclass(frozen=True, eq=False)
class NowResult:
    """Errors of one method.

    Attributes:
        evaluation: per image the numbers of vertices, median, mean and std of their distances (mm), the scale found and
            the steps taken; subsets are the challenges; failures tells images without a prediction, and why.
        distances: for each image in that order its [N] float32 mm.
        missing: images without prediction files; the errors of a method that lacks some cannot be compared.
    """

    evaluation: Evaluation
    distances: tuple[Array, ...]
    missing: int

    def summary(self) -> dict[str, dict[str, Statistic]]:
        """Subset -> median, mean and std over all vertices of its images together, as the challenge reports them."""
        table = {}
        for name, inside in self.evaluation.subsets.items():
            chosen = [d for d, wanted in zip(self.distances, inside, strict=True) if wanted]
            if chosen:
                pooled = np.concatenate(chosen).astype(np.float64)
                numbers = {"median": np.median(pooled), "mean": pooled.mean(), "std": pooled.std()}
                table[name] = {key: Statistic(float(value), 0.0, len(chosen)) for key, value in numbers.items()}
        return table

    def curve(self, subset: str = OVERALL) -> Array:
        """Percent [141] of a subset's vertices whose error is at most 0, 0.05, ..., 7 mm."""
        chosen = [d for d, wanted in zip(self.distances, self.evaluation.subsets[subset], strict=True) if wanted]
        pooled = np.sort(np.concatenate([np.empty(0, np.float32), *chosen]).astype(np.float64))
        return 100 * np.searchsorted(pooled, CURVE, side="right") / max(len(pooled), 1)

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Writes now.json, now.md, images.csv, curve.csv and distances.npy; all or none.

        distances.npy holds all distances after one another, [N] float32, and images.csv how many each image has. It is
        no dict as that of NoW's programs, which numpy can only pickle.

        Raises:
            OSError: the folder cannot be written.
        """
        found = self.summary()
        content = {
            "format": "focus-now",
            "version": 1,
            "method": self.evaluation.method,
            "recipe": dict(self.evaluation.recipe),
            "images": len(self.distances),
            "missing": self.missing,
            "subsets": {
                name: {"images": row["mean"].images, **{key: value.mean for key, value in row.items()}}
                for name, row in found.items()
            },
            "failures": dict(self.evaluation.failures),
        }
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["error_mm", *found])
        curves = [self.curve(name) for name in found]
        for index, limit in enumerate(CURVE):
            table.writerow([f"{limit:.2f}", *(f"{curve[index]:.4f}" for curve in curves)])
        packed = io.BytesIO()
        pooled = np.concatenate([np.empty(0, np.float32), *self.distances])
        np.lib.format.write_array(packed, pooled, allow_pickle=False)
        Path(folder).mkdir(parents=True, exist_ok=True)
        with staged_folder(folder) as stage:
            write_atomic(stage / "now.json", json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
            write_atomic(stage / "now.md", self.table())
            write_atomic(stage / "images.csv", self.evaluation.to_csv())
            write_atomic(stage / "curve.csv", text.getvalue())
            write_atomic(stage / "distances.npy", packed.getvalue())

    def table(self) -> str:
        """The paper's table of this method, and a sentence on missing files, as Markdown."""
        kind = "metrical" if self.evaluation.recipe.get("unit") else "non-metrical"
        text = f"## NoW, {kind}: distance from scan to mesh (mm)\n\n"
        text += now_table({self.evaluation.method: self.summary()}) + "\n"
        if self.evaluation.failures:
            count = len(self.evaluation.failures)
            text += f"\n{count} images have no error, {self.missing} of them for want of a file: not comparable.\n"
        return text


def read_image_list(path: str | os.PathLike[str]) -> list[NowImage]:
    """The images of a list of NoW: a line each, ending in subject/challenge/image.

    Raises:
        ValueError: a line of another form, or no lines. OSError: the file cannot be read.
    """
    images = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        parts = line.strip().replace("\\", "/").split("/")
        if len(parts) < 3 or any(part in ("", ".", "..") for part in parts[-3:]):
            raise ValueError(f"{path}, line {number}: expected subject/challenge/image, got {line.strip()!r}")
        images.append(NowImage(parts[-3], parts[-2], Path(parts[-1]).stem))
    if not images:
        raise ValueError(f"{path}: expected images, got an empty list")
    return images


def evaluate_now(
    dataset: str | os.PathLike[str],
    predictions: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] = "val",
    unit: str | None = None,
    challenges: Sequence[str] | None = None,
    method: str = "FOCUS",
    progress: Callable[[int, int], None] | None = None,
) -> NowResult:
    """The errors of predicted meshes on NoW's scans (`now_error`).

    Args:
        dataset: NoW's folder: scans/SUBJECT/*.obj, scans_lmks_onlypp/SUBJECT/*.pp and the image lists.
        predictions: SUBJECT/CHALLENGE/IMAGE.obj or .ply with landmarks IMAGE.npy or .txt, the first of each where both
            are there.
        images: "val", "test", or the file of a list.
        unit: of the predictions, for the metrical evaluation.
        challenges: only these (multiview_neutral, multiview_expressions, multiview_occlusions, selfie).
        method: its name in tables.
        progress: called as progress(images done, images in all).

    Returns:
        NowResult. A missing or damaged prediction is a failure of that image; the others go on.

    Raises:
        ValueError: another unit, an unreadable list, a challenge that no image has, a damaged scan.
        OSError: no list, or no scan of a subject.
        ModuleNotFoundError: libigl is not installed.
    """
    if unit is not None and unit not in MILLIMETRES:
        raise ValueError(f"evaluate_now(): expected unit to be one of {', '.join(MILLIMETRES)}, got {unit!r}")
    dataset, predictions = Path(dataset), Path(predictions)
    listed = dataset / LISTS[images] if isinstance(images, str) and images in LISTS else Path(images)
    wanted = read_image_list(listed)
    known = list(dict.fromkeys(image.challenge for image in wanted))
    for challenge in challenges or ():
        if challenge not in known:
            raise ValueError(f"evaluate_now(): expected challenges among {', '.join(known)}, got {challenge!r}")
    wanted = [image for image in wanted if challenges is None or image.challenge in challenges]
    scans: dict[str, tuple[Array, Array]] = {}
    rows: list[dict[str, float]] = []
    done: list[NowImage] = []
    distances: list[Array] = []
    failures: dict[str, str] = {}
    missing = 0
    for count, image in enumerate(wanted, 1):
        if image.subject not in scans:
            scans = {image.subject: _read_scan(dataset, image.subject)}  # a list names a subject's images together
        try:
            error = now_error(*scans[image.subject], *_read_prediction(predictions, image), unit=unit)
        except FileNotFoundError as problem:
            missing += 1
            failures[image.name] = str(problem)
        except (ValueError, OSError) as problem:
            failures[image.name] = str(problem)
        else:
            d = error.distances
            numbers = (len(d), np.median(d), d.mean(), d.std(), error.placement.scale, error.steps)
            rows.append({key: float(value) for key, value in zip(NUMBERS, numbers, strict=True)})
            done.append(image)
            distances.append(d.astype(np.float32))
        if progress is not None:
            progress(count, len(wanted))
    values = {key: np.array([row.get(key, math.nan) for row in rows]) for key in NUMBERS}
    subsets = {name: np.array([image.challenge == name for image in done], bool) for name in known}
    recipe: dict[str, Any] = {"data": "NoW", "images": listed.name, "unit": unit}
    names = tuple(image.name for image in done)
    return NowResult(Evaluation(method, names, values, subsets, recipe, failures), tuple(distances), missing)


def _read_scan(dataset: Path, subject: str) -> tuple[Array, Array]:
    """A scan's vertices [S, 3] and its landmarks [7, 3], mm."""
    found = []
    for folder, pattern in (("scans", "*.obj"), ("scans_lmks_onlypp", "*.pp")):
        files = sorted((dataset / folder / subject).glob(pattern))
        if not files:
            raise FileNotFoundError(
                f"evaluate_now(): expected {dataset / folder / subject} to hold {pattern}, got none"
            )
        found.append(files[0])
    return read_mesh(found[0], need_faces=False).vertices, read_now_landmarks(found[1])


def _read_prediction(folder: Path, image: NowImage) -> tuple[Any, Array]:
    base = folder / image.subject / image.challenge

    def first(what: str, *endings: str) -> Path:
        for ending in endings:
            if (path := base / f"{image.stem}{ending}").is_file():
                return path
        raise FileNotFoundError(f"no {what}: {image.stem}{' or '.join(endings)}")

    mesh, landmarks = first("mesh", ".obj", ".ply"), first("landmarks", ".npy", ".txt")
    return read_mesh(mesh), read_now_landmarks(landmarks)
