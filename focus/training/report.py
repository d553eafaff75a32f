"""`report.html` of a run of training: curves, pictures and settings in one file that needs no other."""

from __future__ import annotations

import base64
import math
import os
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..atomic import write_atomic
from .log import METRICS, SAMPLES, read_metrics
from .schedule import Schedule
from .settings import TrainSettings

TEMPLATE, REPORT = "training.html.j2", "report.html"
WIDTH, HEIGHT, MARGIN = 480, 150, 6  # of a curve, in SVG units
MOST_POINTS = 400  # of a curve; neighbours are averaged
MOST_SHOWN = 6  # grids of pictures, validations
KINDS = {
    "initialisation": "Initialisation",
    "pretraining": "Pre-training of the segmentation",
    "segmentation": "EM: S-steps",
    "reconstruction": "EM: R-steps",
    "validation": "Validation",
}
ADMINISTRATION = ("images_per_second", "waiting", "skipped", "unreadable", "rate")


Item = TypeVar("Item")


class Curve(NamedTuple):
    """One number over the iterations, as SVG path data in a box of WIDTH by HEIGHT."""

    name: str
    path: str
    low: float
    high: float
    last: float
    gaps: int  # values that were not finite


def write_report(
    out: str | os.PathLike[str], settings: TrainSettings, schedule: Schedule, iteration: int, ended: str
) -> Path:
    """Writes report.html into the folder of a run, from its metrics.jsonl and samples.

    Args:
        out: folder of the run.
        settings, schedule: of the run.
        iteration: how many iterations are done.
        ended: "finished", "interrupted" or "diverged".

    Raises:
        OSError: it cannot be written; an old one stays.
    """
    out = Path(out)
    lines = read_metrics(out / METRICS)
    groups = [(title, _curves(lines, kind, schedule.total)) for kind, title in KINDS.items()]
    environment = Environment(
        loader=PackageLoader("focus", "assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["short"] = _short
    speeds = [line["images_per_second"] for line in lines if line.get("images_per_second")]
    waits = [line["waiting"] for line in lines if line.get("waiting") is not None]
    page = environment.get_template(TEMPLATE).render(
        title=f"{settings.name}: {iteration} of {schedule.total} iterations",
        ended=ended,
        groups=[(title, curves) for title, curves in groups if curves],
        stages=[(end, stage, 100 * end / schedule.total) for end, stage in schedule.ends.items()],
        grids=_grids(out / SAMPLES),
        validation=_validations(lines),
        facts={
            "images/s, median": _short(sorted(speeds)[len(speeds) // 2]) if speeds else "–",
            "waiting for data": f"{100 * sum(waits) / len(waits):.1f} %" if waits else "–",
            "skipped steps": str(_latest(lines, "skipped")),
            "unreadable photos": str(_latest(lines, "unreadable")),
            "batch": str(settings.preset.batch_size),
            "photos": f"{settings.size} px",
        },
        settings=settings.to_json(),
        width=WIDTH,
        height=HEIGHT,
    )
    path = out / REPORT
    write_atomic(path, page)
    return path


def _latest(lines: list[dict[str, Any]], name: str) -> Any:
    return next((line[name] for line in reversed(lines) if name in line), 0)


def _curves(lines: list[dict[str, Any]], kind: str, total: int) -> list[Curve]:
    mine = [line for line in lines if line.get("kind") == kind]
    names = [name for line in mine for name in line if name not in ("iteration", "kind", *ADMINISTRATION)]
    return [
        curve(name, [(line["iteration"], line[name]) for line in mine if name in line], total)
        for name in dict.fromkeys(names)
    ]


def curve(name: str, points: list[tuple[int, float | None]], total: int) -> Curve:
    """A curve of (iteration, value); None and what is not finite interrupts it."""
    good = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
    if not good:
        return Curve(name, "", math.nan, math.nan, math.nan, len(points))
    low, high = min(y for _, y in good), max(y for _, y in good)
    step = math.ceil(len(points) / MOST_POINTS)
    path, pen = [], "M"
    for first in range(0, len(points), step):
        part = [(x, y) for x, y in points[first : first + step] if y is not None and math.isfinite(y)]
        if not part:
            pen = "M"
            continue
        x = WIDTH * sum(x for x, _ in part) / len(part) / max(total, 1)
        share = (sum(y for _, y in part) / len(part) - low) / (high - low) if high > low else 0.5
        path.append(f"{pen}{x:.1f} {HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN):.1f}")
        pen = "L"
    if len(path) == 1:
        path.append("h0")  # a dot
    return Curve(name, "".join(path), low, high, good[-1][1], len(points) - len(good))


def _grids(folder: Path) -> list[tuple[int, str]]:
    """(iteration, data URI) of the newest pictures and some before them, evenly."""
    paths = sorted(path for path in folder.glob("*.png") if path.stem.isdecimal()) if folder.is_dir() else []
    data = [(int(path.stem), base64.b64encode(path.read_bytes()).decode()) for path in reversed(_some(paths))]
    return [(iteration, f"data:image/png;base64,{text}") for iteration, text in data]


def _validations(lines: list[dict[str, Any]]) -> tuple[list[int], list[list[str]]]:
    """Iterations and rows of a table: a measure each, at the last validation and at some before it, evenly."""
    mine = _some([line for line in lines if line.get("kind") == "validation"])
    names = dict.fromkeys(name for line in mine for name in line if name not in ("iteration", "kind"))
    rows = [[name, *(_short(line.get(name)) for line in mine)] for name in names]
    return [line["iteration"] for line in mine], rows


def _some(items: list[Item]) -> list[Item]:
    """At most MOST_SHOWN of them, evenly, the first and the last among these."""
    if len(items) <= MOST_SHOWN:
        return items
    return [items[round(i * (len(items) - 1) / (MOST_SHOWN - 1))] for i in range(MOST_SHOWN)]


def _short(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
