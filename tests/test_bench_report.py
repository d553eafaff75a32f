"""What a run of the benchmarks is turned into: bytes, ratios to compare with later, a table and a picture."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from meshes import sphere, topology

import focus_kernels as fk

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import report, traffic, yardstick

NUMBER = 4  # bytes


def test_bytes_are_those_of_what_the_ops_take_and_give():
    vertices, faces = sphere(6)
    mesh = topology(faces, len(vertices))
    leaf, seed = vertices.float()[None].requires_grad_(), torch.ones(1, len(vertices), 3)
    found = traffic.of(lambda: torch.autograd.grad(fk.vertex_normals(leaf, mesh), leaf, seed))
    coordinates, tables = 3 * len(vertices), 3 * len(faces) + (len(vertices) + 1) + 3 * len(faces)
    assert found.moved == NUMBER * ((coordinates + tables + coordinates) + (3 * coordinates + tables))
    assert found.least == NUMBER * (
        coordinates + tables + coordinates + coordinates
    )  # in: vertices, seed; out: gradient


def test_views_move_nothing_and_expanded_tensors_have_the_bytes_they_have():
    x = torch.ones(5, 4)
    assert traffic.of(lambda: x.T[1:].reshape(-1)[:3].view(3)) == traffic.Bytes(30 * NUMBER, 18 * NUMBER)
    assert traffic.of(lambda: x[:1].expand(7, 4) + 1).moved == (4 + 28) * NUMBER
    assert traffic.of(lambda: x.T) == traffic.Bytes(0, 0)


def test_what_is_made_and_dropped_within_a_call_is_moved_but_not_needed():
    x = torch.ones(8)
    assert traffic.of(lambda: (x + 1) * 2) == traffic.Bytes(4 * 8 * NUMBER, 2 * 8 * NUMBER)


ratios = yardstick.statistics([2.0, 4.0, 6.0, 8.0])
PEERS = {"plain torch": {"ratio": 20.0, "ratio_low": 18.0, "ratio_high": 25.0, "median": 2.0, "min": 1.9}}
EXTRA = {
    "title": "op forward, 10k",
    "place": "2 threads",
    "clock": "wall time",
    "images": 12,
    "median": 0.1,
    "min": 0.09,
}
EXTRA |= {"peers": PEERS, "bytes_moved": 300, "bytes_least": 200, "bandwidth": 2e10, "share": 0.25, "yardstick": 0.01}
STATS = {"rounds": 4, "iterations": 1, "outliers": "0;0", "median": 0.05, "mean": 0.05, "q1": 0.04, "data": [0.02]}
BENCH = {"group": "op", "name": "test_a", "fullname": "bench/b.py::test_a", "params": None, "param": None}
BENCH |= {"stats": STATS, "extra_info": EXTRA | {"in_yardsticks": ratios}}
MACHINE = {"cpu_name": "A", "cores": 2, "isa": "avx2", "torch": "2.13.0", "gpus": [], "commit": "abc"}
RUN = {"machine_info": {"focus_kernels": MACHINE}, "commit_info": {}, "datetime": "today", "version": "5"}
RUN |= {"benchmarks": [BENCH, BENCH | {"fullname": "bench/b.py::test_checked_only", "extra_info": {}}]}
RUN["targets"] = [
    {"what": "a", "target": ">= 2 times", "reached": 3.0, "unit": "times", "verdict": "reached", "note": "n"}
]


def test_statistics():
    assert ratios == pytest.approx({"min": 2, "max": 8, "mean": 5, "median": 5, "stddev": 2.5819889, "iqr": 3})
    assert yardstick.statistics([3.0])["iqr"] == yardstick.statistics([3.0])["stddev"] == 0


def test_a_baseline_has_ratios_and_becomes_times_of_another_run():
    base = json.loads(json.dumps(yardstick.baseline(RUN)))
    (bench,) = base["benchmarks"]
    kept = {name: bench["stats"].pop(name) for name in ratios}
    assert kept == pytest.approx(ratios, rel=5e-4)
    assert bench["stats"] == {"rounds": 4, "iterations": 1, "outliers": "0;0"}  # and no time
    bench["stats"] |= kept
    yardstick.as_times(base, {"bench/b.py::test_a": 0.5, "bench/b.py::another": 3.0})
    assert bench["stats"]["median"] == 2.5 and bench["stats"]["max"] == 4 and bench["stats"]["ops"] == 1 / 2.5


def squeezed(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def test_table_and_files(tmp_path, capsys):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    arguments = [str(tmp_path / "run.json"), "--baseline", str(tmp_path / "base.json")]
    if importlib.util.find_spec("matplotlib"):
        arguments += ["--plot", str(tmp_path / "run.png")]
    assert report.main(arguments) == 0
    printed = squeezed(capsys.readouterr().out)
    assert (
        "cpu_name: A; cores: 2; isa: avx2; torch: 2.13.0; commit: abc; a copy reads and writes 2 threads: 20 GB/s"
        in printed
    )
    assert "| op forward, 10k | 2 threads, wall time | 0.1 | plain torch: 20 (18 - 25) | 1.50 | 25 % |" in printed
    assert "| a | >= 2 times | 3 times | reached; n |" in printed
    assert json.loads((tmp_path / "base.json").read_text())["unit"] == yardstick.UNIT
    if "--plot" in arguments:
        assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("text", ["no JSON", "{}", "[]", '{"benchmarks": [], "machine_info": {"focus_kernels": {}}}'])
def test_another_file_is_an_error(tmp_path, capsys, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(SystemExit):
        report.main([str(tmp_path / "run.json")])
    assert "run.json" in capsys.readouterr().err


def test_only_what_was_raced():
    alone = BENCH | {"extra_info": EXTRA | {"peers": {"one thread": PEERS["plain torch"]}}}
    run = report.Run.of(RUN | {"benchmarks": [alone, BENCH]})
    assert len(run.races) == 2 and len(run.raced().races) == 1


def test_only_what_has_these_texts_in_its_name():
    other = BENCH | {"extra_info": EXTRA | {"title": "op forward, 53k"}}
    run = report.Run.of(RUN | {"benchmarks": [BENCH, other]})
    titles = lambda *texts: [race["title"] for race in run.with_texts(texts).races]
    assert titles("forward", "2 threads") == ["op forward, 10k", "op forward, 53k"]
    assert titles("53k", "2 threads") == ["op forward, 53k"] and titles("53k", "1 thread,") == []
