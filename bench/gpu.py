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

from .clock import CLOCK
from .conftest import machine
from .peers import has
from .race import ON_GPU, PARAMETERS, Place, Race
from .shapes import MAIN
from .targets import Report

Suite = list[tuple[Callable, list[tuple[str, int]]]]


def suite() -> Suite:
    """The functions of bench_*.py with the meshes and batches that they name for a GPU, the judged ones first."""
    found: Suite = []
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        module = import_module(f"{__package__}.{path.stem}")
        for name, function in vars(module).items():
            if not name.startswith("test_") or any(mark.name == "slow" for mark in function.pytestmark):
                continue
            (parameters,) = (mark for mark in function.pytestmark if mark.name == "parametrize")
            names, rows = parameters.args
            on_gpu = [tuple(row[1:]) for row in rows if names == PARAMETERS and row[0].device == "cuda"]
            if on_gpu:
                found.append((function, sorted(on_gpu, key=lambda row: row not in MAIN)))
    return sorted(found, key=lambda pair: not set(MAIN) & set(pair[1]))


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
        for mesh, batch in rows:
            name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}, {mesh}, batch {batch}"
            race = Race(Rounds(), report, place)
            try:
                function(race, place, mesh, batch)
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
