"""What the command line names: photos, a folder for the results of each, and their landmarks."""

import difflib
import glob
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from .images import SUFFIXES

MASK_ENDING = "_visible_skin_mask"  # of the names of pictures that are no photos, without the suffix
RESERVED = ("index.html", "results.csv")  # files of the report beside the folders of the photos


class LandmarkMatchError(LookupError):
    """The table has no landmarks for a photo, or no clear ones."""


def find_photos(
    arguments: Iterable[str | Path], *, suffixes: Collection[str] = SUFFIXES, recursive: bool = False
) -> list[Path]:
    """The photos that files, folders and globs name, in the order given, each once.

    A folder stands for the pictures directly in it (with `recursive` also those in its folders), sorted by name. A name
    with *, ? or [ that is no file is a glob (** for folders of any depth). A file that does not exist is kept, so that
    the caller can say so. Of folders and globs, only files of the given suffixes (lower case) are taken, and no masks
    of the visible face (`NAME_visible_skin_mask.png`).
    """
    photos: dict[str, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found = _pictures(path.rglob("*") if recursive else path.iterdir(), suffixes)
        elif not path.exists() and glob.has_magic(str(argument)):
            # Not Path.glob, which takes no absolute patterns.
            names = glob.glob(str(argument), recursive=True)  # noqa: PTH207
            found = _pictures((Path(name) for name in names), suffixes) or [path]
        else:
            found = [path]
        for photo in found:
            photos.setdefault(os.path.realpath(photo), photo)
    return list(photos.values())


def _pictures(paths: Iterable[Path], suffixes: Collection[str]) -> list[Path]:
    return sorted(p for p in paths if p.suffix.lower() in suffixes and not _passed_over(p) and p.is_file())


def _passed_over(path: Path) -> bool:
    return path.name.startswith(".") or path.stem.lower().endswith(MASK_ENDING)


def printable(path: str | Path) -> str:
    """A path for messages: relative to the working folder where that is shorter, readable whatever its bytes are."""
    text = os.fspath(path)
    if Path(text).is_absolute():
        text = min(text, os.path.relpath(text), key=len)
    return os.fsencode(text).decode("utf-8", "replace")


def folder_names(photos: Sequence[Path], reserved: Collection[str] = RESERVED) -> list[str]:
    """A folder name for each photo: its name without the ending, numbered -2, -3, ... where names repeat."""
    taken = {name.casefold() for name in reserved}
    names = []
    for photo in photos:
        stem = printable(photo.stem).lstrip(".") or "photo"
        name, number = stem, 1
        while name.casefold() in taken:  # some file systems do not tell upper from lower case
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def match_landmarks(photos: Sequence[Path], table: Mapping[str, np.ndarray]) -> list[np.ndarray | LandmarkMatchError]:
    """For each photo the landmarks [68, 2] of its row, or the error that says why it has none.

    A row belongs to a photo when the photo's path ends with the row's name, by whole folder names: a file name, a
    relative or an absolute path. Of several such rows the longest counts. A row that fits several of the photos is an
    error for each of them: faces must not be fitted to the landmarks of others.
    """
    rows = {_parts(name): name for name in table}
    chosen = [_longest_ending(_parts(str(photo.absolute())), rows) for photo in photos]
    uses = Counter(row for row in chosen if row is not None)
    result: list[np.ndarray | LandmarkMatchError] = []
    for photo, row in zip(photos, chosen, strict=True):
        if row is None:
            result.append(LandmarkMatchError(f"no landmarks for it in the table{_near_misses(photo, table)}"))
        elif uses[row] > 1:
            text = f"the landmarks of {row!r} fit {uses[row]} of the photos; give relative paths in the table"
            result.append(LandmarkMatchError(text))
        else:
            result.append(table[row])
    return result


def _parts(name: str) -> tuple[str, ...]:
    path = PurePosixPath(os.path.normpath(name).replace("\\", "/"))
    return path.parts


def _longest_ending(parts: tuple[str, ...], rows: Mapping[tuple[str, ...], str]) -> str | None:
    for start in range(len(parts)):
        if parts[start:] in rows:
            return rows[parts[start:]]
    return None


def _near_misses(photo: Path, table: Mapping[str, np.ndarray], most: int = 3) -> str:
    """Names of the table that look alike: first the same file name elsewhere, then the same stem, then similar ones."""
    names = {name: PurePosixPath(name.replace("\\", "/")) for name in table}
    near = [name for name, path in names.items() if path.name.casefold() == photo.name.casefold()]
    near += [name for name, path in names.items() if path.stem.casefold() == photo.stem.casefold()]
    by_name = {path.name: name for name, path in names.items()}
    near += [by_name[match] for match in difflib.get_close_matches(photo.name, by_name, n=most, cutoff=0.75)]
    near = list(dict.fromkeys(near))[:most]
    return f"; near misses: {', '.join(near)}" if near else f"; nothing alike among its {len(table)} rows"
