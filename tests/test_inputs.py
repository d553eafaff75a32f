"""Which photos the arguments name, where their results go, and which landmarks are theirs."""

from pathlib import Path

import numpy as np
import pytest

from focus.inputs import LandmarkMatchError, find_photos, folder_names, match_landmarks, printable


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.png",
        "a.jpg",
        "notes.txt",
        ".hidden.jpg",
        "a_visible_skin_mask.png",
        "deep/a.jpg",
        "deep/er/c.JPG",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    "arguments, names",
    [
        (["."], ["a.jpg", "b.png"]),
        (["b.png", "."], ["b.png", "a.jpg"]),
        (["**/*.jpg", "deep/er"], ["a.jpg", "deep/a.jpg", "deep/er/c.JPG"]),
        (["a_visible_skin_mask.png"], ["a_visible_skin_mask.png"]),  # a mask, but one asked for it
        (["notes.txt"], ["notes.txt"]),  # named by hand: reading it will say what is wrong
        (["missing.jpg", "*.webp"], ["missing.jpg", "*.webp"]),
        (["a.jpg", "./a.jpg", "deep/../a.jpg"], ["a.jpg"]),
    ],
)
def test_files_folders_and_globs(arguments, names, tree):
    assert [str(path) for path in find_photos(arguments)] == names


def test_a_file_whose_name_looks_like_a_glob(tree):
    (tree / "x[1].jpg").touch()
    assert [path.name for path in find_photos(["x[1].jpg"])] == ["x[1].jpg"]


def test_absolute_globs(tree):
    assert [path.name for path in find_photos([f"{tree}/*.jpg"])] == ["a.jpg"]


def test_folder_names_never_meet(tree):
    photos = [Path(n) for n in ("a/x.jpg", "b/x.jpg", "b/X.png", "x-2.jpg", "index.html.jpg", ".y.jpg")]
    names = folder_names(photos)
    assert names == ["x", "x-2", "X-3", "x-2-2", "index.html-2", "y"]
    assert len({name.casefold() for name in names}) == len(names)


def test_printable_paths_are_short_and_always_text(tree):
    assert printable(tree / "deep/a.jpg") == "deep/a.jpg"
    assert printable("/x.jpg") == "/x.jpg"
    printable("caf\udce9.jpg").encode()


def points(*names):
    return {name: np.full((68, 2), float(index)) for index, name in enumerate(names)}


def matched(photos, table):
    found = match_landmarks(photos, table)
    return [str(item) if isinstance(item, LandmarkMatchError) else int(item[0, 0]) for item in found]


def test_rows_are_found_by_the_end_of_the_path(tree):
    photos = [Path("a.jpg"), Path("deep/a.jpg"), tree / "deep/er/c.JPG", Path("b.png")]
    table = points("a.jpg", "deep/a.jpg", "deep\\er\\c.JPG", f"{tree}/b.png")
    assert matched(photos, table) == [0, 1, 2, 3]


def test_a_row_that_fits_several_photos_is_refused_for_each(tree):
    first, second, third = matched([Path("a.jpg"), Path("deep/a.jpg"), Path("b.png")], points("a.jpg", "b.png"))
    assert first == second == "the landmarks of 'a.jpg' fit 2 of the photos; give relative paths in the table"
    assert third == 1


def test_whole_folder_names_only(tree):
    (text,) = matched([Path("deep/a.jpg")], points("eep/a.jpg"))
    assert "near misses: eep/a.jpg" in text


@pytest.mark.parametrize(
    "names, hint",
    [
        (["other/a.jpg", "zzz.jpg"], "near misses: other/a.jpg"),
        (["a.png", "zzz.jpg"], "near misses: a.png"),
        (["A.JPG"], "near misses: A.JPG"),
        (["photograph.tif"], "nothing alike among its 1 rows"),
    ],
)
def test_a_missing_row_names_what_comes_near(names, hint, tree):
    (text,) = matched([Path("a.jpg")], points(*names))
    assert text.startswith("no landmarks for it in the table") and hint in text
