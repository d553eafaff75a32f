"""What times are divided by, so that they can be compared with another day: a fixed piece of plain PyTorch.

It is timed in each round beside the benchmark. `baseline.json` holds times in yardsticks. A processor of another kind
has other ratios; the same one, busy or not, hot or cool, has nearly the same.
"""

from collections.abc import Callable
from functools import lru_cache
from statistics import fmean, median, quantiles, stdev

UNIT = "yardsticks"
COUNTS = ("rounds", "iterations", "outliers")
FIELDS = ("min", "max", "mean", "median", "stddev", "iqr")  # what --benchmark-compare-fail can ask for


@lru_cache
def yardstick(device: str) -> Callable[[], object]:
    """About ten milliseconds of one core: reads in no order, transcendental functions, products of matrices, a copy."""
    import torch  # here, because what prints a run needs none

    g = torch.Generator().manual_seed(0)
    table = torch.randn(1 << 20, generator=g).to(device)
    order = torch.randperm(1 << 20, generator=g).to(device)
    square = torch.randn(384, 384, generator=g).to(device)

    def call() -> object:
        picked = table[order]
        return (picked.exp() + picked.clone()).sum(), square @ square @ square

    return call


def statistics(values: list[float]) -> dict[str, float]:
    """The fields of pytest-benchmark's `stats` that a comparison reads."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    spread = stdev(values) if len(values) > 1 else 0.0
    found = (min(values), max(values), fmean(values), median(values), spread, high - low)
    return dict(zip(FIELDS, found, strict=True))


def baseline(run: dict) -> dict:
    """The JSON file of a run (`--benchmark-json`) as a file to compare with: ratios in place of times."""
    benchmarks = []
    for bench in run["benchmarks"]:
        if "in_yardsticks" in bench["extra_info"]:
            ratios = {name: float(f"{value:.4g}") for name, value in bench["extra_info"]["in_yardsticks"].items()}
            stats = {name: bench["stats"][name] for name in COUNTS} | ratios
            kept = {key: bench[key] for key in ("group", "name", "fullname", "params", "param")}
            benchmarks.append(kept | {"extra_info": {"unit": UNIT}, "stats": stats})
    told = {"machine_info": {"focus_kernels": run["machine_info"]["focus_kernels"]}, "commit_info": {}}
    return {"unit": UNIT} | told | {key: run[key] for key in ("datetime", "version")} | {"benchmarks": benchmarks}


def as_times(compared: dict, seconds: dict[str, float]) -> None:
    """Makes the ratios of a baseline times of this run, in place. `seconds`: the yardstick beside each benchmark."""
    for bench in compared["benchmarks"]:
        if bench["fullname"] in seconds:
            for name in FIELDS:
                bench["stats"][name] *= seconds[bench["fullname"]]
            bench["stats"]["ops"] = 1 / bench["stats"]["mean"]
