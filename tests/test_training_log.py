"""What a run writes and shows: lines, pictures, speed, curves."""

import errno
import json
import math
import re
from pathlib import Path

import numpy as np
import torch

from focus.training.log import METRICS, RunLog, read_metrics, sample_grid
from focus.training.progress import RunProgress
from focus.training.report import HEIGHT, MARGIN, MOST_POINTS, WIDTH, curve


def test_lines_and_going_on(tmp_path):
    """Lines after the checkpoint, and one that a killed process left unfinished, are dropped."""
    log = RunLog(tmp_path, 0, print)
    for iteration in (2, 4, 6):
        log.scalars(iteration, "em", {"loss": iteration / 3, "bad": math.inf, "count": 3})
    log.close()
    assert read_metrics(tmp_path / METRICS)[0] == {
        "iteration": 2,
        "kind": "em",
        "loss": 0.666667,
        "bad": None,
        "count": 3,
    }
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"iteration": 8, "los')
    RunLog(tmp_path, 5, print).close()
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 4]
    RunLog(tmp_path, 0, print).close()  # a new run in an old folder
    assert read_metrics(tmp_path / METRICS) == [] and read_metrics(tmp_path / "none") == []


def test_full_disk_is_told_once(tmp_path, monkeypatch):
    told = []
    log = RunLog(tmp_path, 0, told.append)

    def full(*arguments, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        log.scalars(1, "em", {"loss": 1.0})
        log.scalars(2, "em", {"loss": 1.0})
    log.scalars(3, "em", {"loss": 1.0})
    log.close()
    assert log.failures == 2 and len(told) == 1 and "No space left on device" in told[0]
    assert [line["iteration"] for line in read_metrics(tmp_path / METRICS)] == [3]


def test_grid():
    """Five faces: two groups, each of photo, render over photo, mask, and what the mask leaves out in red."""
    photos = torch.full((5, 3, 2, 2), 0.5)
    rendered, mask, raster = torch.full((5, 3, 2, 2), 2.0), torch.zeros(5, 1, 2, 2), torch.zeros(5, 1, 2, 2)
    raster[:, :, 0] = 1  # the upper row is face; its left pixel is seen
    mask[:, :, 0, 0] = 1
    grid = sample_grid(photos, rendered, mask, raster)
    assert grid.shape == (2 * 4 * 2, 4 * 2, 3) and grid.dtype == np.uint8
    for y, x in ((0, 0), (0, 6), (8, 0)):
        photo, over, seen, marked = (grid[y + 2 * kind : y + 2 * kind + 2, x : x + 2] for kind in range(4))
        assert (photo == 128).all() and (over[0] == 255).all() and (over[1] == 128).all()
        assert (seen == np.array([[255, 0], [0, 0]])[:, :, None]).all()
        assert (marked[0, 0] == 128).all() and (marked[1] == 128).all()
        red = [0.35 * 0.5 + 0.65 * value for value in (0.9, 0.1, 0.1)]
        assert np.abs(marked[0, 1] - 255 * np.array(red)).max() <= 0.51
    assert (grid[8:, 2:] == 0).all()  # no sixth face


def test_speed_and_remaining_time(capfd):
    now = [100.0]
    progress = RunProgress(40, 10, 6, clock=lambda: now[0])
    assert progress.images_per_second == 0
    for done in range(11, 31):  # two iterations a second
        now[0] += 0.5
        progress.advance(done, "em")
    assert abs(progress.images_per_second - 12) < 1e-9
    progress.report(30, "em", 0.125)
    assert capfd.readouterr().err == ""  # a line every half minute
    now[0] += 31
    progress.advance(31, "em")
    progress.report(31, "em", 0.125)
    told = capfd.readouterr().err
    assert re.fullmatch(r"em: 31/40 \(78 %\), [\d.]+ images/s, 0:\d\d left, loss 0.125\n", told), told


def test_a_quiet_run_says_nothing(capfd):
    with RunProgress(4, 0, 2, shown=False) as progress:
        progress.advance(4, "em")
        progress.report(4, "em", 1.0)
        progress.tell("something")
    assert capfd.readouterr() == ("", "")


def numbers(path):
    return [tuple(map(float, point.split())) for point in re.findall(r"[ML]([\d.]+ [\d.]+)", path)]


def test_curve():
    found = curve("loss", [(0, 4.0), (50, 2.0), (100, 3.0)], 100)
    assert (found.low, found.high, found.last, found.gaps) == (2, 4, 3, 0)
    assert numbers(found.path) == [(0, MARGIN), (WIDTH / 2, HEIGHT - MARGIN), (WIDTH, HEIGHT / 2)]


def test_curve_with_gaps():
    found = curve("loss", [(0, 1.0), (1, None), (2, math.nan), (3, 2.0), (4, 1.5)], 4)
    assert found.gaps == 2 and [letter for letter in found.path if letter.isalpha()] == ["M", "M", "L"]
    nothing = curve("loss", [(0, None)], 4)
    assert nothing.path == "" and math.isnan(nothing.last)
    assert curve("loss", [(1, 5.0)], 4).path.endswith("h0")


def test_long_curves_are_averaged():
    found = curve("loss", [(i, float(i % 2)) for i in range(10 * MOST_POINTS)], 10 * MOST_POINTS)
    points = numbers(found.path)
    assert len(points) == MOST_POINTS and {y for _, y in points} == {HEIGHT / 2}
