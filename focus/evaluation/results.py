"""What an evaluation found: numbers per image, their means and standard deviations per subset, and the files of it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..atomic import staged_folder, write_atomic

Array = np.ndarray[Any, Any]

OVERALL = "overall"
FORMAT, VERSION = "focus-evaluation", 1


class Statistic(NamedTuple):
    """Of the images that have a number.

    Attributes:
        mean. std: over the images, of the population (divided by their number). images: how many.
    """

    mean: float
    std: float
    images: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Numbers of one method on one set of images.

    Attributes:
        method: its name in tables.
        images: their names, N.
        values: measure -> [N] float64, NaN where an image has none.
        subsets: name -> [N] bool; "overall", all images, is added where it is missing.
        recipe: what was evaluated and how, as values for JSON.
        failures: images that could not be evaluated, with the reason.
    """

    method: str
    images: tuple[str, ...]
    values: Mapping[str, Array]
    subsets: Mapping[str, Array] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.images)
        object.__setattr__(self, "subsets", {**self.subsets, OVERALL: np.ones(count, bool)})
        for group in (self.values, self.subsets):
            for name, value in group.items():
                if np.shape(value) != (count,):
                    shape = list(np.shape(value))
                    raise ValueError(f"Evaluation(): expected {name} to be shape [{count}], got {shape}")

    def statistic(self, measure: str, subset: str = OVERALL) -> Statistic:
        """Mean and standard deviation of one measure over a subset; NaN and 0 images where none has a number.

        Raises:
            KeyError: no such measure or subset.
        """
        values = np.asarray(self.values[measure], np.float64)[self.subsets[subset]]
        values = values[~np.isnan(values)]
        if len(values) == 0:
            return Statistic(math.nan, math.nan, 0)
        return Statistic(float(values.mean()), float(values.std()), len(values))

    def summary(self) -> dict[str, dict[str, Statistic]]:
        """Subset -> measure -> its statistic, without the measures that no image of a subset has."""
        table = {name: {measure: self.statistic(measure, name) for measure in self.values} for name in self.subsets}
        return {name: {key: value for key, value in row.items() if value.images} for name, row in table.items()}

    def means(self, subset: str = OVERALL) -> dict[str, float]:
        """Measure -> mean over a subset; what a training run logs as its validation."""
        return {measure: value.mean for measure, value in self.summary()[subset].items()}

    def to_json(self) -> str:
        """Recipe, statistics, failures and numbers of images as JSON text; NaN never stands in it."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "method": self.method,
            "images": len(self.images),
            "recipe": dict(self.recipe),
            "subsets": {
                name: {"images": int(np.sum(self.subsets[name])), **{key: v._asdict() for key, v in row.items()}}
                for name, row in self.summary().items()
            },
            "failures": dict(self.failures),
        }
        return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    def to_csv(self) -> str:
        """One line per image: its name, its subsets, and every measure (empty where it has none)."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["image", "subsets", *self.values])
        names = [name for name in self.subsets if name != OVERALL]
        for row, image in enumerate(self.images):
            inside = "+".join(name for name in names if self.subsets[name][row])
            numbers = [float(value[row]) for value in self.values.values()]
            table.writerow([image, inside, *("" if math.isnan(number) else f"{number:.6g}" for number in numbers)])
        return text.getvalue()

    def write(self, folder: str | os.PathLike[str], tables: str) -> None:
        """Writes evaluation.json, images.csv and, with the text of the tables, evaluation.md; all or none.

        Raises:
            OSError: the folder cannot be written.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        with staged_folder(folder) as stage:
            write_atomic(stage / "evaluation.json", self.to_json())
            write_atomic(stage / "images.csv", self.to_csv())
            write_atomic(stage / "evaluation.md", tables)


def read_statistics(path: str | os.PathLike[str]) -> dict[str, dict[str, Statistic]]:
    """Subset -> measure -> statistic of an evaluation.json, as for tables of several runs.

    Raises:
        ValueError: not such a file. OSError: it cannot be read.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise KeyError("format")
        return {
            name: {key: Statistic(**value) for key, value in row.items() if isinstance(value, dict)}
            for name, row in content["subsets"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"read_statistics(): expected {path} to be an evaluation.json, got {error!r}") from error


def merged(parts: Sequence[Evaluation]) -> Evaluation:
    """Several evaluations of one method on different images as one; measures that a part lacks are NaN there.

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError("merged(): expected one evaluation or more, got none")

    def joined(group: str, empty: float | bool) -> dict[str, Array]:
        names = list(dict.fromkeys(name for part in parts for name in getattr(part, group)))
        columns = [[getattr(p, group).get(name, np.full(len(p.images), empty)) for p in parts] for name in names]
        return {name: np.concatenate(column) for name, column in zip(names, columns, strict=True)}

    return Evaluation(
        parts[0].method,
        tuple(image for part in parts for image in part.images),
        joined("values", math.nan),
        joined("subsets", False),
        parts[0].recipe,
        {key: value for part in parts for key, value in part.failures.items()},
    )
