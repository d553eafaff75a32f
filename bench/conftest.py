"""Fixtures of the benchmarks, what a result file says about the machine, and the tables at the end of a run."""

import os
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import torch

from focus_kernels import info
from focus_kernels._extension import _C

from .clock import CLOCK
from .race import Race
from .targets import Report
from .yardstick import UNIT, as_times

REPORT = pytest.StashKey[Report]()
BASELINES = pytest.StashKey[list]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    config.stash[REPORT], config.stash[BASELINES] = Report(), []
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("the benchmarks need pytest-benchmark: pip install -e '.[bench]'")
    if config.option.benchmark_columns is None:
        config.option.benchmark_columns = ["min", "median", "max", "rounds"]
    if config.option.benchmark_sort == "min":
        config.option.benchmark_sort = "name"


def pytest_collection_modifyitems(items):
    for item in items:
        if "race" in item.fixturenames:
            op, what = item.module.__name__.rpartition("bench_")[2], item.originalname.removeprefix("test_")
            group = f"{op}: {what.replace('_', ' ')}, one call"
            item.add_marker(pytest.mark.benchmark(timer=CLOCK, group=group))
            item.add_marker(pytest.mark.filterwarnings("ignore:Arrays of 2-dimensional:DeprecationWarning"))  # deodr


@pytest.fixture
def place(request):
    """A device and a number of threads; afterwards torch has its own number again."""
    before = torch.get_num_threads()
    if request.param.device == "cpu" and request.param.threads > (os.cpu_count() or 1):
        pytest.skip(f"{request.param} on {os.cpu_count()} core")
    torch.set_num_threads(request.param.threads)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def race(benchmark, place, request):
    """Times a call, next to its peers."""
    return Race(benchmark, request.config.stash[REPORT], place)


def machine() -> dict:
    """What a time cannot be compared without."""
    facts = {
        "cpu_name": info._cpu_name(),
        "cores": os.cpu_count(),
        "isa": _C.cpu_isa() if _C else "no extension",
        "threads_engine": _C.threads_engine if _C else "no extension",
        "torch": torch.__version__,
        "triton": _version("triton"),
        "cuda": torch.version.cuda,
        "gpus": [f"{name}, driver {driver}" for name, driver, _ in info._gpus()],
        "commit": _commit(),
    }
    if hasattr(os, "getloadavg"):
        facts["load"] = round(os.getloadavg()[0], 1)
    return facts


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    root = Path(__file__).resolve().parents[1]
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info["focus_kernels"] = machine()


def pytest_benchmark_update_json(config, benchmarks, output_json):
    output_json["targets"] = config.stash[REPORT].rows(_isa())


def pytest_benchmark_compare_machine_info(config, compared_benchmark):
    """Called for each file to compare with, when it is read."""
    if compared_benchmark.get("unit") == UNIT:
        config.stash[BASELINES].append(compared_benchmark)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    """Before pytest-benchmark compares: a baseline of ratios becomes times by the yardsticks of this run."""
    done = [bench for bench in session.config._benchmarksession.benchmarks if "yardstick" in bench.extra_info]
    for compared in session.config.stash[BASELINES]:
        as_times(compared, {bench.fullname: bench.extra_info["yardstick"] for bench in done})
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    report = config.stash[REPORT]
    if not report.races:
        return
    terminalreporter.section("numbers to reach")
    terminalreporter.write_line("; ".join(f"{key}: {value}" for key, value in machine().items()))
    terminalreporter.write_line("")
    for line in report.lines(_isa()):
        terminalreporter.write_line(line)


def _isa() -> str:
    return _C.cpu_isa() if _C else "plain torch"
