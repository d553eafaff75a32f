"""What a duration is, per device and number of threads; and pytest-benchmark made to use it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

CPU, WALL, CUDA = "CPU time", "wall time", "CUDA events"
HEAD_STARTS = (1_000_000, 4_000_000, 16_000_000)  # cycles of the GPU for the host to run ahead; the first that will do
LONG = 0.02  # seconds, beyond which launches do not matter


class Clock:
    """A timer for pytest-benchmark that moves only while `run` measures.

    One CPU thread is measured by the CPU time of the process, which other programs on the machine disturb little;
    several by wall time; a GPU by events around each call, which is queued before the GPU may start, so that launches
    cost nothing.
    """

    __name__ = "bench.clock"

    def __init__(self) -> None:
        self.now = 0.0
        self.kind = CPU

    def __call__(self) -> float:
        return self.now

    def choose(self, device: str, threads: int) -> None:
        self.kind = CUDA if device == "cuda" else CPU if threads == 1 else WALL

    def time(self, *calls: Callable[[], object]) -> float:
        """Seconds of the calls, one after the other."""
        if self.kind == CUDA:
            return sum(map(_gpu_seconds, calls))
        read = time.process_time if self.kind == CPU else time.perf_counter
        start = read()
        for call in calls:
            call()
        return read() - start

    def run(self, *calls: Callable[[], object]) -> None:
        self.now += self.time(*calls)


CLOCK = Clock()


class Others:
    """How many cores other programs used since this was made; 0 where the system does not tell."""

    def __init__(self) -> None:
        self.start = self._read()

    def cores(self) -> float:
        busy, own, wall = (end - start for end, start in zip(self._read(), self.start, strict=True))
        return max(busy - own, 0.0) / wall if busy else 0.0

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Seconds that all cores were busy, that this process was, and of the wall clock."""
        stat, busy = Path("/proc/stat"), 0.0
        if stat.exists():
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
            busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return busy, time.process_time(), time.perf_counter()


def _gpu_seconds(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    seconds = 0.0
    for cycles in HEAD_STARTS:
        torch.cuda._sleep(cycles)
        start.record()
        call()
        ahead = not start.query()
        end.record()
        end.synchronize()
        seconds = start.elapsed_time(end) / 1e3
        if ahead or seconds > LONG:
            break
    return seconds
