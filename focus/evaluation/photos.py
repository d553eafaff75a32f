"""Evaluation on photographs: landmarks of a table, true masks, and subsets of the column "occlusion"."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..autoencoder import FaceAutoencoder
from .evaluate import OCCLUDED, UNOCCLUDED, LabelledBatch, Progress, evaluate
from .results import Evaluation

if TYPE_CHECKING:
    from ..data import PhotoSource
    from ..data.source import Skipped

OCCLUSION = "occlusion"


def evaluate_photos(
    autoencoder: FaceAutoencoder,
    folder: str | os.PathLike[str],
    *,
    landmarks: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    batch_size: int = 8,
    method: str = "FOCUS",
    progress: Progress | None = None,
) -> Evaluation:
    """`evaluate` on a folder of photographs.

    Subsets, where the table of landmarks has a column "occlusion": occluded and unoccluded, and for each word in it the
    photographs that have it ("with glasses").

    Args:
        folder, landmarks, masks: of `focus.data.PhotoSource`; with masks only the photographs that have one.
        batch_size: photographs at a time.
        method, progress: as for `evaluate`.

    Returns:
        Evaluation; photographs that cannot be read or have no usable landmarks are among its failures.

    Raises:
        ValueError: batch_size < 1, nothing usable in the folder, and as `evaluate`.
    """
    from ..data import PhotoSource
    from ..data.photos import LANDMARKS

    source = PhotoSource(folder, landmarks, size=autoencoder.size, masks=masks, cache_bytes=0)
    skipped = list(source.skipped)
    labels = read_occlusions(Path(folder) / LANDMARKS if landmarks is None else landmarks)
    recipe: dict[str, Any] = {"data": "photos", "folder": Path(folder).name, "size": autoencoder.size}
    found = evaluate(
        autoencoder,
        _batches(source, labels, batch_size, skipped),
        method=method,
        recipe=recipe,
        total=len(source),
        progress=progress,
    )
    failures = {**{item.name: item.reason for item in skipped}, **found.failures}
    return Evaluation(found.method, found.images, found.values, found.subsets, found.recipe, failures)


def _batches(
    source: PhotoSource, labels: dict[str, str], batch_size: int, skipped: list[Skipped]
) -> Iterator[LabelledBatch]:
    from ..data.source import in_order

    for indices, batch in in_order(source, batch_size, skipped):
        names = [source.names[index] for index in indices]
        yield LabelledBatch(batch, names, [subsets_of(labels.get(name)) for name in names])


def read_occlusions(table: str | os.PathLike[str]) -> dict[str, str]:
    """Photo -> what the column "occlusion" of a table of landmarks says; empty where there is no such column."""
    with Path(table).open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if OCCLUSION not in header:
        return {}
    column = header.index(OCCLUSION)
    return {row[0].strip(): row[column].strip() for row in rows[1:] if len(row) > column}


def subsets_of(occlusion: str | None) -> tuple[str, ...]:
    """The subsets of one photo: ("unoccluded",), or "occluded" and what by; none where nothing is known."""
    if occlusion is None:
        return ()
    words = [word for word in re.split(r"[+,;|\s]+", occlusion) if word]
    return (OCCLUDED, *dict.fromkeys(f"with {word}" for word in words)) if words else (UNOCCLUDED,)
