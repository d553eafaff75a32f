"""Times one call, and peers in turn with it: in each round first the peers and the yardstick, then ours.

A ratio is taken within a round, in which the machine is in one mood, and its median over the rounds is reported.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import pytest
import torch

from focus_kernels._extension import _C

from . import traffic
from .clock import CLOCK, WALL, Others
from .peers import Peer
from .targets import ONE_THREAD, Report
from .yardstick import statistics, yardstick

ROUNDS = 5
PARAMETERS = ("place", "mesh", "batch")


@dataclass(frozen=True)
class Place:
    """Where a benchmark runs, in how many threads."""

    device: str
    threads: int = 1

    def __str__(self) -> str:
        return self.device if self.device == "cuda" else f"{self.threads} thread{'s'[: self.threads > 1]}"


# Without kernels for it, a GPU would run the definition in plain torch, which nobody wants timed.
ON_GPU = torch.cuda.is_available() and _C is not None and _C.cuda_archs is not None
ONE, TWO = Place("cpu", 1), Place("cpu", 2)
PLACES = [ONE, TWO, *[Place("cuda")] * ON_GPU]


def cases(shapes: list[tuple[str, int]], in_two_threads: list[tuple[str, int]] | None = None) -> pytest.MarkDecorator:
    """Parameters place, mesh and batch: each shape in each place, or other shapes in two threads."""
    in_two = shapes if in_two_threads is None else in_two_threads
    rows = [(place, *shape) for place in PLACES for shape in (in_two if place == TWO else shapes)]
    ids = [f"{str(place).replace(' ', '_')}-{mesh}-{batch}" for place, mesh, batch in rows]
    return pytest.mark.parametrize(PARAMETERS, rows, indirect=["place"], ids=ids)


@dataclass
class Race:
    """The fixture of the benchmarks; `__call__` is used once in each."""

    benchmark: object
    report: Report
    place: Place
    ratios: dict[str, float] = field(default_factory=dict)
    median: float | None = None  # ms per image
    disturbance: float = 0.0  # cores that other programs used, where it matters

    def __call__(
        self,
        name: str,
        calls: list[Callable[[], object]],
        images: int,
        peers: dict[str, Peer] | None = None,
        rounds: int = ROUNDS,
        warmup: int = 1,
        scaling: bool = True,
    ) -> None:
        """`calls` run one after the other, each the work of `images` images; `scaling`: several threads race one."""
        peers = dict(peers or {})

        if self.place.threads > 1 and scaling:
            peers[ONE_THREAD] = Peer(images * len(calls), lambda: lambda: _in_one_thread(calls))
        bandwidth = traffic.bandwidth(self.place.device, self.place.threads)
        CLOCK.choose(self.place.device, self.place.threads)
        times: dict[str, list[float]] = {peer: [] for peer in peers}
        yards: list[float] = []

        def run_peers():
            for peer, (count, prepare) in peers.items():
                call = prepare()
                times[peer].append(1e3 * CLOCK.time(call) / count)
            yards.append(CLOCK.time(yardstick(self.place.device)))

        others = Others()
        self.benchmark.pedantic(CLOCK.run, tuple(calls), setup=run_peers, rounds=rounds, warmup_rounds=warmup)
        if self.benchmark.stats is None:  # --benchmark-disable: the result was checked, nothing is timed
            return
        data = self.benchmark.stats.stats.data
        own = [1e3 * seconds / (images * len(calls)) for seconds in data]
        yards = yards[-len(own) :]
        entry = {"title": name, "place": str(self.place), "clock": CLOCK.kind, "images": images}
        entry |= {"median": median(own), "min": min(own), "cores_of_others": round(others.cores(), 2), "peers": {}}
        entry |= {
            "yardstick": median(yards),
            "in_yardsticks": statistics([us / y for us, y in zip(data, yards, strict=True)]),
        }
        bytes_ = traffic.of(calls[0])
        at_least = bytes_.least / bandwidth
        entry |= {"bytes_moved": bytes_.moved, "bytes_least": bytes_.least, "bandwidth": bandwidth}
        entry |= {"share": 1e3 * at_least / (images * median(own))}
        self.disturbance = entry["cores_of_others"] if CLOCK.kind == WALL else 0.0
        for peer, theirs in times.items():
            theirs = theirs[-len(own) :]  # without the warm-up
            ratios = [them / us for them, us in zip(theirs, own, strict=True)]
            self.ratios[peer] = median(ratios)
            entry["peers"][peer] = {"median": median(theirs), "min": min(theirs)}
            entry["peers"][peer] |= {"ratio": median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios)}
        self.median = entry["median"]
        self.benchmark.extra_info |= entry
        self.report.races.append(entry)

    def reach(self, key: str, value: float | None, note: str = "") -> None:
        if value is not None:
            self.report.reach(key, value, note, self.disturbance)

    def reach_least(self, key: str, value: float | None, note: str) -> None:
        """Of several benchmarks the one that reaches least counts."""
        before = self.report.targets[key].reached
        if value is not None and (before is None or value < before):
            self.reach(key, value, f"the least: {note}")


def _in_one_thread(calls: list[Callable[[], object]]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for call in calls:
            call()
    finally:
        torch.set_num_threads(threads)
