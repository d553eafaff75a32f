"""`python -m bench.memory rasterize|neighbor_min_loss|masked_pixel_loss`: bytes at the peak of a call, as JSON.

A process of its own, in which nothing was kept from earlier calls. Scratch stays with its thread, so each number
includes what the calls before it left behind.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import focus_kernels as fk

from . import shapes

GRADIENTS = {"to rendered": "r", "to mask": "m", "to rendered and mask": "rm", "to all": "trm"}


def measured(what: str) -> dict[str, int]:
    """What `main` prints, from a process of its own; empty where there is no account to read."""
    if not Path("/proc/self/clear_refs").exists():
        return {}
    root = Path(__file__).resolve().parents[1]
    # Freed blocks go back to the system at once, else the next ones would be taken from them unseen.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "bench.memory", what]
    answer = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(answer.stdout)


def main() -> None:
    (what,) = sys.argv[1:]
    print(json.dumps(_rasterize() if what == "rasterize" else _loss(getattr(fk, what))))


def _rasterize() -> dict[str, int]:
    """Beyond the outputs."""
    scene = shapes.scene("53k")
    positions = scene.camera.project(scene.vertices)
    # A small picture of one triangle loads code and starts both threads, and leaves hardly any scratch behind.
    triangle = torch.tensor([[[0.0, 0, 1], [0, 3, 1], [3, 0, 1]]])
    torch.set_num_threads(2)
    fk.rasterize(triangle.repeat(2, 1, 1), fk.Topology(torch.tensor([[0, 1, 2]]), 3), (4, 4))
    kept, found = 0, {}
    for name, threads, batch in (("batch 1", 1, 1), ("batch 32", 1, 32), ("batch 32, two threads", 2, 32)):
        torch.set_num_threads(threads)
        peak, raster = _peak(lambda b=batch: fk.rasterize(positions[:b], scene.topology, shapes.SIZE))
        kept += peak - sum(x.numel() * x.element_size() for x in raster)
        found[name] = kept
    return found


def _loss(loss: Callable[..., torch.Tensor]) -> dict[str, int]:
    """Forward and backward at batch 12, gradients included; and the bytes of the images."""
    shape = (shapes.BATCHES[1], 3, *shapes.SIZE)
    images = {"t": torch.rand(shape), "r": torch.rand(shape), "m": torch.rand(shape[0], 1, *shapes.SIZE)}

    def both(leaves: dict[str, torch.Tensor], to: str):
        leaves = {name: x.detach().requires_grad_(name in to) for name, x in leaves.items()}
        return torch.autograd.grad(loss(*leaves.values()), [leaves[name] for name in to])

    torch.set_num_threads(2)
    for to in GRADIENTS.values():
        both({name: x[:, :, :16, :16].contiguous() for name, x in images.items()}, to)
    found = {name: _peak(lambda to=to: both(images, to))[0] for name, to in GRADIENTS.items()}
    return found | {"image batch": images["t"].numel() * images["t"].element_size()}


def _peak(call: Callable[[], object]) -> tuple[int, object]:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = _status("VmRSS")
    result = call()
    return _status("VmHWM") - before, result


def _status(key: str) -> int:
    """Bytes, from the line `key: N kB`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


if __name__ == "__main__":
    main()
