"""Landmarks of folders: complete tables with reasons, the same after stops and in several processes."""

import csv
import os
from functools import partial

import numpy as np
import pytest
from photo_folders import small_photo
from PIL import Image
from typer.testing import CliRunner

import focus.data.prepare as prepare_module
from focus import read_landmarks_csv
from focus.cli import app
from focus.data import PhotoSource
from focus.data.prepare import FAILURES, JOURNAL, LANDMARKS, Prepared, prepare_folder, read_failures
from focus.landmarks import NoFaceError
from focus.processes import WorkerDiedError, in_processes, start_method

FORKS = start_method() == "fork"  # else worker processes do not know the detector of the tests
FACES, EMPTY = 5, 2


class Detector:
    """Finds the small demo photo's face where the first pixel is not black; stops at a photo as if by Ctrl-C."""

    seen = 0
    stop_after = 10**9

    def detect(self, image):
        if Detector.seen >= Detector.stop_after:
            raise KeyboardInterrupt
        Detector.seen += 1
        if image[0, 0].max() == 0:
            raise NoFaceError("no face here")
        return small_photo()[1] + float(image[0, 0, 0]) / 7


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five faces, two pictures without, one damaged; one of the faces in a folder."""
    monkeypatch.setattr(Detector, "seen", 0)
    monkeypatch.setattr(Detector, "stop_after", 10**9)
    monkeypatch.setattr(prepare_module, "make_detector", lambda kind: Detector())
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    image = small_photo()[0].copy()
    for index in range(FACES):
        image[0, 0] = index + 1
        Image.fromarray(image).save(folder / f"{'more/' * (index == 3)}{index}.png")
    for index in range(EMPTY):
        Image.fromarray(np.zeros_like(image)).save(folder / f"empty {index}, a.png")
    (folder / "bad.jpg").write_bytes(b"no picture")
    (folder / "0_visible_skin_mask.png").write_bytes((folder / "0.png").read_bytes())
    (folder / ".hidden.png").write_bytes((folder / "0.png").read_bytes())
    return folder


def run(folder, **options):
    return prepare_folder(folder, **{"detector": "dlib", "workers": 1} | options)


def tables(folder):
    return (folder / LANDMARKS).read_bytes(), (folder / FAILURES).read_bytes()


def test_tables_have_every_photo_with_landmarks_or_a_reason(folder):
    states = []
    assert run(folder, progress=states.append) == Prepared(8, 5, 3, 0)
    assert [state.done for state in states] == list(range(1, 9))
    found = read_landmarks_csv(folder / LANDMARKS)
    assert list(found) == ["0.png", "1.png", "2.png", "4.png", "more/3.png"]
    assert np.allclose(found["more/3.png"], small_photo()[1] + 4 / 7, atol=6e-4)
    assert read_failures(folder / FAILURES) == {
        "bad.jpg": "not a picture in a known format",
        "empty 0, a.png": "no face here",
        "empty 1, a.png": "no face here",
    }
    assert not (folder / JOURNAL).exists()
    assert len(PhotoSource(folder, size=32).batch(range(5), 0).image) == 5


@pytest.mark.skipif(not FORKS, reason="processes do not begin as copies here")
def test_processes_write_what_one_writes(folder):
    run(folder)
    expected = tables(folder)
    for path in (LANDMARKS, FAILURES):
        (folder / path).unlink()
    assert run(folder, workers=2) == Prepared(8, 5, 3, 0)
    assert tables(folder) == expected


@pytest.mark.parametrize("stop", [0, 1, 4, 7])
def test_a_run_that_was_stopped_goes_on(folder, monkeypatch, stop):
    run(folder)
    expected, calls = tables(folder), Detector.seen
    for path in (LANDMARKS, FAILURES):
        (folder / path).unlink()
    monkeypatch.setattr(Detector, "seen", 0)
    monkeypatch.setattr(Detector, "stop_after", stop)
    if stop < calls:
        with pytest.raises(KeyboardInterrupt):
            run(folder)
        assert not (folder / LANDMARKS).exists() and not (folder / FAILURES).exists()
    monkeypatch.setattr(Detector, "stop_after", 10**9)
    run(folder)
    assert Detector.seen == calls
    assert tables(folder) == expected


def test_a_journal_that_was_cut_off_is_good_to_its_last_line(folder, monkeypatch):
    monkeypatch.setattr(Detector, "stop_after", 3)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    journal = folder / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    monkeypatch.setattr(Detector, "stop_after", 10**9)
    monkeypatch.setattr(Detector, "seen", 0)
    assert run(folder) == Prepared(8, 5, 3, 2)
    whole = tables(folder)
    for path in (LANDMARKS, FAILURES):
        (folder / path).unlink()
    run(folder)
    assert tables(folder) == whole


def test_a_later_run_does_what_is_new_and_forgets_what_is_gone(folder, monkeypatch):
    run(folder)
    before = tables(folder)
    monkeypatch.setattr(Detector, "seen", 0)
    assert run(folder) == Prepared(8, 5, 3, 8) and Detector.seen == 0
    assert tables(folder) == before
    (folder / "1.png").rename(folder / "new.png")
    assert run(folder) == Prepared(8, 5, 3, 7) and Detector.seen == 1
    assert "1.png" not in read_landmarks_csv(folder / LANDMARKS)
    assert run(folder, again=True) == Prepared(8, 5, 3, 5) and Detector.seen == 1 + EMPTY


def test_faces_that_cannot_be_aligned_are_failures(folder, monkeypatch):
    monkeypatch.setattr(Detector, "detect", lambda self, image: np.full((68, 2), 9.0))
    run(folder)
    assert "at least 8 px apart" in read_failures(folder / FAILURES)["0.png"]
    assert (folder / LANDMARKS).read_text().count("\n") == 1  # the header, and it can be read again
    assert run(folder).found == 0


def test_other_tables_are_not_replaced(folder):
    (folder / LANDMARKS).write_text("image,occlusion,x0\n")
    with pytest.raises(ValueError, match="is not of `focus data prepare` and would be replaced; move it away"):
        run(folder)
    assert (folder / LANDMARKS).read_text() == "image,occlusion,x0\n"


def test_wrong_arguments_are_told(folder, tmp_path):
    (tmp_path / "none").mkdir()
    for options, message in (
        ({"folder": tmp_path / "nowhere"}, "expected folder to be a folder, got .*nowhere"),
        ({"folder": tmp_path / "none"}, "expected pictures in .*none, found none"),
        ({"workers": 0}, "expected workers to be >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**{"folder": folder} | options)
    (folder / FAILURES).write_text("nonsense\n")
    with pytest.raises(ValueError, match="expected columns image, reason"):
        run(folder)


def test_the_command_tells_what_came_of_it(folder):
    result = CliRunner().invoke(app, ["data", "prepare", str(folder), "--workers", "1", "--detector", "dlib"])
    assert result.exit_code == 1
    assert "8 photos: 5 with landmarks in" in result.output and "2  no face here" in result.output
    for name in ("bad.jpg", "empty 0, a.png", "empty 1, a.png"):
        (folder / name).unlink()
    result = CliRunner().invoke(app, ["data", "prepare", str(folder), "--workers", "1", "--detector", "dlib"])
    assert result.exit_code == 0 and "5 photos, 5 of them known from before: 5 with landmarks" in result.output


def test_the_command_tells_errors_in_a_line(folder, tmp_path, monkeypatch):
    def invoke(*arguments):
        return CliRunner().invoke(app, ["data", "prepare", *map(str, arguments)])

    result = invoke(tmp_path / "nowhere")
    assert result.exit_code == 2 and "error: prepare_folder(): expected folder" in result.output
    result = invoke(folder, "--detector", "magic")
    assert result.exit_code == 2 and "--detector: expected one of auto, face-alignment, dlib" in result.output
    monkeypatch.setattr(Detector, "stop_after", 2)
    result = invoke(folder, "--workers", 1)
    assert result.exit_code == 130 and "the same command goes on where this one was" in result.output


def test_synth_writes_a_folder_that_can_be_trained_on(tmp_path):
    out = tmp_path / "faces"
    arguments = ["data", "synth", "--size", "32", "--level", "0", "--seed", "5", "--workers", "1", "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--count", "2", "--kinds", "hand,hair", "--unoccluded", "0"])
    assert result.exit_code == 0 and "2 faces written, 0 there before" in result.output
    with (out / LANDMARKS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {part for row in rows for part in row["occlusion"].split("+")} <= {"hand", "hair", ""}
    source = PhotoSource(out, size=32, masks=out / "masks")
    assert len(source) == 2 and source.batch([0, 1], 0).visible.max() == 1
    result = CliRunner().invoke(app, [*arguments, "--count", "3", "--kinds", "none"])
    assert result.exit_code == 2 and "kinds" in result.output  # another recipe
    result = CliRunner().invoke(app, [*arguments, "--count", "3", "--kinds", "hand,hair", "--unoccluded", "0"])
    assert result.exit_code == 0 and "1 faces written, 2 there before" in result.output


def add(state, item):
    if item == "raise":
        raise LookupError("of the work")
    if item == "die":
        os._exit(3)
    return state + item


def broken_state():
    raise OSError("no weights")


@pytest.mark.parametrize("workers", [1, 2])
def test_work_in_processes(workers):
    assert sorted(in_processes(add, range(20), partial(int, "7"), workers)) == [(k, k + 7) for k in range(20)]
    with pytest.raises(LookupError, match="of the work"):
        list(in_processes(add, [1, "raise", 2], partial(int, 7), workers))
    with pytest.raises(OSError, match="no weights"):
        list(in_processes(add, [1], broken_state, workers))


def test_a_process_that_dies_is_told():
    with pytest.raises(WorkerDiedError, match="one of 2 processes ended unexpectedly"):
        list(in_processes(add, ["die", 1, 2], partial(int, 7), 2))
    with pytest.raises(ValueError, match="expected workers to be >= 1, got 0"):
        list(in_processes(add, [1], int, 0))
