"""`python -m bench.memory`: bytes that rasterize takes beyond its outputs, at the peak of a call, as JSON.

A process of its own, in which nothing was kept from earlier calls. Scratch stays with its thread, so each number
includes what the calls before it left behind.
"""

import gc
import json
from pathlib import Path

import torch

import focus_kernels as fk

from . import shapes


def main() -> None:
    scene = shapes.scene("53k")
    positions = scene.camera.project(scene.vertices)
    # A small picture of one triangle loads code and starts both threads, and leaves hardly any scratch behind.
    triangle = torch.tensor([[[0.0, 0, 1], [0, 3, 1], [3, 0, 1]]])
    torch.set_num_threads(2)
    fk.rasterize(triangle.repeat(2, 1, 1), fk.Topology(torch.tensor([[0, 1, 2]]), 3), (4, 4))
    kept, measured = 0, {}
    for name, threads, batch in (("batch 1", 1, 1), ("batch 32", 1, 32), ("batch 32, two threads", 2, 32)):
        torch.set_num_threads(threads)
        kept += _beyond_outputs(positions[:batch], scene.topology)
        measured[name] = kept
    print(json.dumps(measured))


def _beyond_outputs(positions: torch.Tensor, topology: fk.Topology) -> int:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = _status("VmRSS")
    raster = fk.rasterize(positions, topology, shapes.SIZE)
    return _status("VmHWM") - before - sum(x.numel() * x.element_size() for x in raster)


def _status(key: str) -> int:
    """Bytes, from the line `key: N kB`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


if __name__ == "__main__":
    main()
