"""`PYTHONPATH=tests python -m bench.gpu --json FILE`: the benchmarks on a GPU, without pytest-benchmark.

It runs the functions of the bench_*.py files, which check their results before they time anything, and adds to each
time what the memory of this GPU allows: the bytes that its ops take and give, at the speed of a large copy. The file is
written after every benchmark.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import bench_blend, bench_compat, bench_interpolate, bench_rasterize, bench_render_sh, bench_shade_sh, shapes
from . import bench_vertex_normals as bench_normals
from .clock import CLOCK
from .conftest import machine
from .peers import has
from .race import ON_GPU, Place, Race

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")  # of torch, which blend is made of
COPIED = 1 << 30  # bytes
ALL = sorted(shapes.ALL, key=lambda shape: shape not in shapes.MAIN)  # the judged one first

SUITE = [
    (bench_render_sh.test_forward, ALL),
    (bench_render_sh.test_forward_backward, ALL),
    (bench_render_sh.test_backward, shapes.MAIN),
    (bench_rasterize.test_forward, shapes.FEW),
    (bench_rasterize.test_forward_backward, shapes.FEW),
    (bench_interpolate.test_forward, shapes.FEW),
    (bench_interpolate.test_forward_backward, shapes.FEW),
    (bench_normals.test_forward, shapes.FEW),
    (bench_normals.test_forward_backward, shapes.FEW),
    (bench_shade_sh.test_forward, shapes.FEW),
    (bench_shade_sh.test_forward_backward, shapes.FEW),
    (bench_blend.test_forward, [("53k", batch) for batch in shapes.BATCHES]),
    (bench_blend.test_forward_backward, [("53k", batch) for batch in shapes.BATCHES]),
    (bench_render_sh.test_composed_of_unfused_ops, shapes.MAIN),
    (bench_compat.test_focus, [("53k", 12)]),
    (bench_compat.test_pytorch3d, [("53k", 12)]),
    (bench_render_sh.test_plain_torch, shapes.SMALL),
]


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


class Traffic(TorchDispatchMode):
    """Adds up the tensors that our ops, and torch's products, take and give: what has to be moved at least."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.namespace == "focus_kernels" or func.overloadpacket.__name__ in PRODUCTS:
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
            self.bytes += sum({x.data_ptr(): x.numel() * x.element_size() for x in tensors}.values())
        return out


@dataclass
class MeasuredRace(Race):
    """A race that also says what its own call could take at the speed of a copy."""

    bandwidth: float = field(kw_only=True)  # bytes per second

    def __call__(self, name: str, calls: list[Callable[[], object]], images: int, *args, **options) -> None:
        with Traffic() as traffic:
            calls[0]()
        super().__call__(name, calls, images, *args, **options)
        entry = self.report.races[-1]
        us, least = 1e3 * images * entry["median"], 1e6 * traffic.bytes / self.bandwidth
        entry |= {"us_per_call": us, "us_per_image": us / images, "bytes": traffic.bytes}
        entry |= {"us_at_bandwidth": least, "share": least / us}


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a copy within the GPU."""
    source, target = (torch.zeros(COPIED, dtype=torch.uint8, device="cuda") for _ in range(2))
    CLOCK.choose("cuda", 1)
    return 2 * COPIED / median(CLOCK.time(lambda: target.copy_(source)) for _ in range(7))


def run(suite: list[tuple[Callable, list]], place: Place, bandwidth: float, write: Callable[[dict], None]) -> dict:
    """Every benchmark of the suite; what fails is told, and the next one goes on."""
    from .targets import Report

    report = Report()
    result = {"machine": machine(), "copy_GBps": bandwidth / 1e9, "races": report.races, "failed": []}
    result["left_out"] = {module: "does not import" for module in ("nvdiffrast", "pytorch3d") if not has(module)}
    for function, rows in suite:
        for mesh, batch in rows:
            name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}, {mesh}, batch {batch}"
            given = (bench_blend.coefficients(),) if function.__module__.endswith("bench_blend") else ()
            race = MeasuredRace(Rounds(), report, place, bandwidth=bandwidth)
            try:
                function(race, place, *given, mesh, batch)
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
            print(f"{race['name']}: {race['us_per_call']:.1f} us", flush=True)

    result = run(SUITE, Place("cuda"), copy_bandwidth(), write)
    for failed in result["failed"]:
        print(f"{failed['name']} failed\n{failed['error']}", file=sys.stderr)
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
