"""What the command line names, as tasks: photos and videos, a folder for the results of each, their landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from focus.images import SUFFIXES as PHOTO_SUFFIXES
from focus.inputs import RESERVED, LandmarkMatchError, folder_names, match_landmarks, printable
from focus.landmarks import read_landmarks_csv

from .frames import SUFFIXES as VIDEO_SUFFIXES
from .now import now_path
from .run import NOW_FOLDER, Task

SUFFIXES = PHOTO_SUFFIXES + VIDEO_SUFFIXES


def find_tasks(paths: Sequence[Path], table: Path | None = None, *, now: bool = False) -> list[Task]:
    """A task for each path; those that cannot be begun (no such file, no landmarks in the table) say why.

    Args:
        paths: photos and videos, of `focus.inputs.find_photos`.
        table: a CSV of landmarks for the photos; None asks the detector.
        now: the photos must have places in NoW's layout, and different ones.

    Raises:
        ValueError: with `now`, two photos for one place, or a video; or a table that cannot be read.
    """
    photos = [path for path in paths if not _is_video(path)]
    points: dict[Path, np.ndarray | LandmarkMatchError] = {}
    if table is not None:
        points = dict(zip(photos, match_landmarks(photos, read_landmarks_csv(table)), strict=True))
    if now:
        _check_now(paths)
    tasks = []
    for path, folder in zip(paths, folder_names(paths, (*RESERVED, NOW_FOLDER)), strict=True):
        found = points.get(path)
        error = str(found) if isinstance(found, LandmarkMatchError) else None
        if not path.exists():
            error = "no such file"
        landmarks = None if isinstance(found, LandmarkMatchError) else found
        tasks.append(Task(printable(path), folder, path, landmarks, _is_video(path), error))
    return tasks


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _check_now(paths: Sequence[Path]) -> None:
    places: dict[Path, Path] = {}
    for path in paths:
        if _is_video(path):
            raise ValueError(f"--now: expected photos, got the video {printable(path)}")
        place = now_path(path)
        if place in places:
            raise ValueError(
                f"--now: {printable(places[place])} and {printable(path)} would both be {place}; give one of them"
            )
        places[place] = path
