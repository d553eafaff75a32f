"""`index.html` and `results.csv`: what became of every photo of a run."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from .atomic import write_atomic
from .export import errors
from .fitting import FitResult

TEMPLATE = "report.html.j2"  # in focus/assets
NUMBERS = ("rmse_inlier", "rmse_all", "inlier_fraction", "landmark_error_px", "seconds")


class Named(Protocol):
    """An item of a page; `photo` is its name, as the user gave it."""

    @property
    def photo(self) -> str: ...


@dataclass(frozen=True)
class ReportItem:
    """One photo of a run: fitted, with its folder and numbers, or failed, with the reason."""

    photo: str  # as the user named it
    folder: str | None = None  # beside index.html, holds what focus.export.export_fit wrote; None when it failed
    numbers: dict[str, float | None] = field(default_factory=dict)  # NUMBERS
    landmarks_photo: np.ndarray | None = None  # [68, 2] px in the crop, half-pixel centres
    landmarks_projected: np.ndarray | None = None
    error: str | None = None

    @classmethod
    def fitted(cls, photo: str, folder: str, result: FitResult, seconds: float | None = None) -> "ReportItem":
        """`seconds` for the whole photo; None takes those of the fit alone."""
        numbers = {**errors(result), "seconds": round(result.seconds if seconds is None else seconds, 2)}
        return cls(photo, folder, numbers, result.landmarks_photo, result.landmarks_projected)

    @classmethod
    def failed(cls, photo: str, error: str) -> "ReportItem":
        return cls(photo, error=error)


def medians(items: Sequence[ReportItem]) -> dict[str, float | None]:
    """The median of each of NUMBERS over the fitted photos that have it."""
    columns = {name: [v for item in items if (v := item.numbers.get(name)) is not None] for name in NUMBERS}
    return {name: median(values) if values else None for name, values in columns.items()}


def short_names(items: Sequence[Named]) -> tuple[str, list[str]]:
    """The folder that all photos share, "." where they share none, and each photo's name without it."""
    parents = {str(Path(item.photo).parent) for item in items}
    parent = parents.pop() if len(parents) == 1 else "."
    return parent, [item.photo if parent == "." else Path(item.photo).name for item in items]


def write_report(out_dir: str | os.PathLike[str], items: Sequence[ReportItem], *, note: str = "") -> Path:
    """Write `index.html` and `results.csv` into `out_dir`, atomically, and give back the path of the page.

    Args:
        out_dir: the folder that holds the items' folders; the page refers to them by relative names only.
        items: the photos; the page sorts them by name.
        note: a sentence for the page's head, as on a run that was interrupted.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    items = sorted(items, key=lambda item: item.photo)
    fitted = [item for item in items if item.error is None]
    failures = [item for item in items if item.error is not None]
    environment = Environment(
        loader=PackageLoader("focus", "assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["dots"] = _dots
    page = environment.get_template(TEMPLATE).render(
        fitted=list(zip(short_names(fitted)[1], fitted, strict=True)),
        failures=list(zip(short_names(failures)[1], failures, strict=True)),
        medians=medians(items),
        note=note,
    )
    write_atomic(out_dir / "results.csv", _table(items))
    path = out_dir / "index.html"
    write_atomic(path, page)
    return path


def _table(items: Sequence[ReportItem]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["photo", "folder", *NUMBERS, "error"])
    for item in items:
        values = [item.numbers.get(name) for name in NUMBERS]
        writer.writerow([item.photo, item.folder or "", *("" if v is None else v for v in values), item.error or ""])
    return text.getvalue()


def _dots(points: np.ndarray) -> str:
    """SVG path data that a round line cap turns into one dot for each point."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
