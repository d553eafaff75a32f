"""`PYTHONPATH=tests python -m bench.gpu --json FILE`: the benchmarks on a GPU, without pytest-benchmark.

It runs the functions of the bench_*.py files, which check their results before they time anything. The file is written
after every benchmark; `python -m bench.report FILE` prints it.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from .clock import CLOCK
from .conftest import machine
from .peers import has
from .race import ON_GPU, Place, Race
from .shapes import MAIN
from .targets import Report

Suite = list[tuple[Callable, list[dict]]]


def suite() -> Suite:
    """The functions of bench_*.py with the parameters that they name for a GPU, the judged ones first."""
    found: Suite = []
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        module = import_module(f"{__package__}.{path.stem}")
        for name, function in vars(module).items():
            marks = getattr(function, "pytestmark", [])
            if name.startswith("test_") and not any(mark.name == "slow" for mark in marks):
                rows = [row for row in _rows(marks) if "place" in row and row["place"].device == "cuda"]
                found += [(function, sorted(rows, key=lambda row: not _judged(row)))] if rows else []
    return sorted(found, key=lambda pair: not _judged(pair[1][0]))


def _rows(marks: list[pytest.Mark]) -> list[dict]:
    """What pytest calls a function with, given its marks."""
    rows: list[dict] = [{}]
    for mark in marks:
        if mark.name == "parametrize":
            names, values = mark.args[:2]
            names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
            given = [dict(zip(names, value if len(names) > 1 else [value], strict=True)) for value in values]
            rows = [row | own for row in rows for own in given]
    return rows


def _judged(row: dict) -> bool:
    return (row.get("mesh"), row.get("batch")) in MAIN


class Rounds:
    """What `Race` uses of pytest-benchmark."""

    def __init__(self) -> None:
        self.extra_info: dict = {}
        self.stats: SimpleNamespace | None = None

    def pedantic(self, run: Callable, args: tuple, setup: Callable, rounds: int, warmup_rounds: int) -> None:
        data = []
        for _ in range(warmup_rounds + rounds):
            setup()
            before = CLOCK.now
            run(*args)
            data.append(CLOCK.now - before)
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=data[warmup_rounds:]))


def run(suite: Suite, place: Place, write: Callable[[dict], None]) -> dict:
    """Every benchmark of the suite; what fails is told, and the next one goes on."""
    report = Report()
    result = {"machine": machine(), "races": report.races, "failed": []}
    result["left_out"] = {module: "does not import" for module in ("nvdiffrast", "pytorch3d") if not has(module)}
    for function, rows in suite:
        for row in rows:
            own = ", ".join(f"{key} {value}" for key, value in row.items() if key != "place")
            name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}, {own}"
            race = Race(Rounds(), report, place)
            try:
                function(race, **row | {"place": place})
            except ImportError as error:  # the smallest mesh needs the packages of the face model
                result["left_out"][name] = str(error)
            except Exception:
                result["failed"].append({"name": name, "error": traceback.format_exc(limit=-3)})
            result["targets"] = report.rows(result["machine"]["isa"])
            write(result)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    file = parser.parse_args().json
    if not ON_GPU:
        print("no GPU, or no CUDA kernels in focus_kernels._C", file=sys.stderr)
        return 2

    def write(result: dict) -> None:
        new = file.with_name(f".{file.name}.new")
        new.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        new.replace(file)
        for race in result["races"][-1:]:
            print(f"{race['title']}: {1e3 * race['images'] * race['median']:.1f} us", flush=True)

    result = run(suite(), Place("cuda"), write)
    for failed in result["failed"]:
        print(f"{failed['name']} failed\n{failed['error']}", file=sys.stderr)
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
