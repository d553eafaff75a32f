"""`index.html` and `results.csv` of a run of `focus reconstruct`."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from jinja2 import Environment, PackageLoader, StrictUndefined

from focus.atomic import write_atomic
from focus.report import short_names

from .export import NUMBERS
from .video import VideoResult

TEMPLATE = "reconstruct.html.j2"  # in focus/assets


@dataclass(frozen=True)
class PageItem:
    """One photo or video of a run: reconstructed, with its folder and numbers, or failed, with the reason."""

    photo: str  # as the user named it
    folder: str | None = None  # beside index.html; None when it failed
    numbers: dict[str, float | None] = field(default_factory=dict)  # NUMBERS; of videos the medians
    video: VideoResult | None = None
    error: str | None = None


def medians(items: Sequence[PageItem]) -> dict[str, float | None]:
    """The median of each of NUMBERS over the photos and videos that have it."""
    columns = {name: [v for item in items if (v := item.numbers.get(name)) is not None] for name in NUMBERS}
    return {name: median(values) if values else None for name, values in columns.items()}


def write_page(out: str | os.PathLike[str], items: Sequence[PageItem], *, note: str = "") -> Path:
    """Write `index.html` and `results.csv` into `out`, atomically, and give back the path of the page.

    Args:
        out: the folder that holds the items' folders; the page refers to them by relative names only.
        items: the photos and videos; the page sorts them by name.
        note: a sentence for the page's head, as on a run that was interrupted.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    items = sorted(items, key=lambda item: item.photo)
    done = [item for item in items if item.error is None]
    failures = [item for item in items if item.error is not None]
    environment = Environment(
        loader=PackageLoader("focus", "assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template(TEMPLATE).render(
        done=list(zip(short_names(done)[1], done, strict=True)),
        failures=list(zip(short_names(failures)[1], failures, strict=True)),
        medians=medians(items),
        note=note,
    )
    write_atomic(out / "results.csv", _table(items))
    path = out / "index.html"
    write_atomic(path, page)
    return path


def _table(items: Sequence[PageItem]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["photo", "folder", *NUMBERS, "frames", "frames_with_face", "error"])
    for item in items:
        values = [item.numbers.get(name) for name in NUMBERS]
        frames = (item.video.frames, item.video.frames_with_face) if item.video else (None, None)
        cells = ["" if value is None else value for value in (*values, *frames)]
        writer.writerow([item.photo, item.folder or "", *cells, item.error or ""])
    return text.getvalue()
