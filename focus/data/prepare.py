"""Landmarks for a folder of photographs: detected in several processes, resumable, failures listed with reasons."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..alignment import AlignmentError, crop_matrix
from ..atomic import write_atomic
from ..images import SUFFIXES, ImageError, read_image, shrink
from ..inputs import MASK_ENDING
from ..landmarks import (
    HALF_PIXEL,
    NUM_LANDMARKS,
    Detector,
    LandmarkFileError,
    NoFaceError,
    landmark_rows,
    make_detector,
)
from ..processes import default_workers, in_processes

LANDMARKS, FAILURES, JOURNAL = "landmarks.csv", "failures.csv", ".landmarks.partial.csv"
DETECTOR_SIDE = 1600  # px; larger photos are shrunk for the detector
OK, FAILED = "ok", "failed"
HEADER = ["image", *(f"{axis}{k}" for k in range(NUM_LANDMARKS) for axis in "xy")]

Progress = Callable[["Prepared"], None]


class Prepared(NamedTuple):
    """How far `prepare_folder` is.

    Attributes:
        photos: in the folder.
        found: of them with landmarks.
        failed: of them without.
        kept: of all these, known from before.
    """

    photos: int
    found: int
    failed: int
    kept: int

    @property
    def done(self) -> int:
        return self.found + self.failed


class _Result(NamedTuple):
    """What came of a photo: its landmarks [68, 2] px (half-pixel centres), or the reason why there are none."""

    points: np.ndarray | None
    reason: str = ""


def prepare_folder(
    folder: str | os.PathLike[str],
    *,
    detector: str = "auto",
    workers: int | None = None,
    again: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Detects the 68 landmarks of the largest face in every picture in a folder and in the folders in it.

    folder/landmarks.csv gets `image,x0,y0,...,x67,y67`, a row per photograph with a face that can be aligned, the path
    relative to the folder, pixels with centres at integers (`focus.read_landmarks_csv`). folder/failures.csv lists the
    others with `image,reason`. Both appear at the end, each complete or not at all. Meanwhile a hidden file in the
    folder keeps what is done, so that a run that was stopped, however, goes on where it was. Photographs that either
    table knows from before are kept as they are; rows of photographs that are gone are dropped.

    Pictures whose names begin with a dot or end with "_visible_skin_mask" before the suffix are passed over.

    Args:
        detector: of `focus.make_detector`.
        workers: processes; None for as many as there are cores.
        again: try those of failures.csv again.
        progress: called after every photograph.

    Raises:
        ValueError: no such folder or no pictures in it, a table in it that cannot be read, workers < 1.
        DetectorUnavailableError: as `focus.make_detector`.
        OSError: the tables cannot be written.
        WorkerDiedError: a process was killed, or had too little memory.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"prepare_folder(): expected folder to be a folder, got {folder}")
    workers = default_workers() if workers is None else workers
    if workers < 1:
        raise ValueError(f"prepare_folder(): expected workers to be >= 1, got {workers}")
    names = list(_pictures(folder))
    if not names:
        raise ValueError(f"prepare_folder(): expected pictures in {folder}, found none")
    known = _known(folder, again)
    results = {name: known[name] for name in names if name in known}
    kept = len(results)
    found = sum(result.points is not None for result in results.values())
    todo = [name for name in names if name not in results]
    if todo:
        make = partial(make_detector, _resolved(detector))
        with _Journal(folder / JOURNAL, results if (folder / JOURNAL).exists() else {}) as journal:
            for name, result in in_processes(_detect, todo, partial(_begin, folder, make), min(workers, len(todo))):
                results[name] = result
                journal.add(name, result)
                found += result.points is not None
                if progress is not None:
                    progress(Prepared(len(names), found, len(results) - found, kept))
    _write_tables(folder, {name: results[name] for name in names})
    (folder / JOURNAL).unlink(missing_ok=True)
    return Prepared(len(names), found, len(results) - found, kept)


def read_failures(path: str | os.PathLike[str]) -> dict[str, str]:
    """The table of failures: name -> reason. ValueError where it is none; empty where there is no such file."""
    path = Path(path)
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: is not a CSV text file ({error})") from error
    if not rows or rows[0] != ["image", "reason"] or any(len(row) != 2 for row in rows):
        raise ValueError(f"{path}: expected columns image, reason")
    return {row[0]: row[1] for row in rows[1:]}


def _pictures(folder: Path) -> Iterator[str]:
    """Names of the pictures, relative, with /, sorted."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(name)
            if path.suffix.lower() in SUFFIXES and name[0] != "." and not path.stem.lower().endswith(MASK_ENDING):
                found.append((Path(place) / name).relative_to(folder).as_posix())
    return iter(sorted(found))


def _known(folder: Path, again: bool) -> dict[str, _Result]:
    """What the tables and the journal of a run that was stopped say."""
    known: dict[str, _Result] = {}
    if not again:
        known |= {name: _Result(None, reason) for name, reason in read_failures(folder / FAILURES).items()}
    table = folder / LANDMARKS
    if table.exists():
        first, _, rest = table.read_text("utf-8", "replace").partition("\n")
        if first.strip() != ",".join(HEADER):
            raise LandmarkFileError(f"{table}: is not of `focus data prepare` and would be replaced; move it away")
        for row in landmark_rows(table) if rest.strip() else ():
            if row.points is None:
                raise LandmarkFileError(f"{table}, line {row.line}: {row.error}; mend or remove the file")
            known[row.name] = _Result(row.points)
    return known | dict(_journal_entries(folder / JOURNAL))


def _resolved(kind: str) -> str:
    """The detector that "auto" stands for here; it fetches what it needs once, before the processes begin."""
    detector = make_detector(kind)
    if kind != "auto":
        return kind
    return "dlib" if type(detector).__name__ == "DlibDetector" else "face-alignment"


def _begin(folder: Path, make: Callable[[], Detector]) -> tuple[Path, Detector]:
    return folder, make()


def _detect(state: tuple[Path, Detector], name: str) -> _Result:
    folder, detector = state
    try:
        name.encode()
        image = read_image(folder / name)
        small, factor = shrink(image, DETECTOR_SIDE)
        points = detector.detect(small) / factor  # half-pixel centres scale about the corner
        crop_matrix(points, image.shape)
        return _Result(points)
    except (ImageError, NoFaceError, AlignmentError) as error:
        return _Result(None, str(error).removeprefix("align_face(): "))
    except UnicodeEncodeError:
        return _Result(None, "its name is not UTF-8")
    except MemoryError:
        return _Result(None, "too little memory for it")


class _Journal:
    """A file that grows by a line per photo; a line that was cut off by a crash is passed over when it is read."""

    def __init__(self, path: Path, entries: dict[str, _Result]) -> None:
        write_atomic(path, "".join(_line(name, result) for name, result in entries.items()))
        self._file = path.open("a", encoding="utf-8", errors="surrogateescape", newline="")

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str, result: _Result) -> None:
        self._file.write(_line(name, result))
        self._file.flush()


def _line(name: str, result: _Result) -> str:
    if result.points is None:
        return _row([FAILED, name, result.reason.replace("\n", " ")])
    return _row([OK, name, *_coordinates(result.points)])


def _journal_entries(path: Path) -> Iterator[tuple[str, _Result]]:
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    for line in text.split("\n")[:-1]:  # what follows the last end of a line was cut off
        row = next(csv.reader([line]), [])
        if len(row) == 3 and row[0] == FAILED:
            yield row[1], _Result(None, row[2])
        elif len(row) == 2 + 2 * NUM_LANDMARKS and row[0] == OK:
            try:
                yield row[1], _Result(np.array(row[2:], np.float64).reshape(NUM_LANDMARKS, 2) + HALF_PIXEL)
            except ValueError:
                continue


def _write_tables(folder: Path, results: dict[str, _Result]) -> None:
    rows = [HEADER]
    rows += [[name, *_coordinates(result.points)] for name, result in results.items() if result.points is not None]
    failures = [["image", "reason"]]
    failures += [[name, result.reason] for name, result in results.items() if result.points is None]
    write_atomic(folder / FAILURES, _text(failures))
    write_atomic(folder / LANDMARKS, _text(rows))


def _coordinates(points: np.ndarray) -> list[str]:
    return [f"{value:.3f}" for value in (points - HALF_PIXEL).reshape(-1)]


def _row(values: Iterable[str]) -> str:
    return _text([values])


def _text(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
