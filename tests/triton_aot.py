"""Triton kernels are compiled for GPUs that are not there.

A launch under `compiling(arch)` compiles its kernel, with the types, constants and options that this very call has,
and runs nothing. So nothing about a kernel is declared twice: CALLS names the calls, at the sizes of the real model.
"""

import contextlib
import io
import itertools
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
import triton
import triton_sample
from neighbors import AUTHORS_NEIGHBOR
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

import focus_kernels as fk
from focus_kernels import _backends, _triton

ROOT = Path(__file__).resolve().parents[1]
DEVICES = itertools.count()
# tl.fma, and the fused operations of the libraries, in LLVM's code; and all that the PTX has. bfloat16 is left out: its
# plain product is an fma on sm_80.
ASKED = re.compile(r"call .*@llvm\.(?:nvvm\.)?(?:fma|fmuladd)\.(?:v(\d+))?")
FUSED = re.compile(r"\bfma\.rn\.(?:ftz\.)?f(?:16|32|64)")


@dataclass(frozen=True)
class Launch:
    """One kernel, compiled as one call launches it."""

    function: JITFunction
    options: dict[str, Any]  # what the launch passes by name
    compiled: Any
    log: str  # of ptxas -v

    def __str__(self) -> str:
        constants = {self.function.arg_names[path[0]]: value for path, value in self.compiled.src.constants.items()}
        types = self.compiled.src.signature.items()
        words = [f"{name}={constants[name]}" if name in constants else kind for name, kind in types]
        return f"{self.function.__name__}({', '.join(words)}, num_warps={self.compiled.metadata.num_warps})"


class _Absent:
    """What Triton asks of a GPU in order to compile for it."""

    def __init__(self, arch: int):
        self.arch = arch
        self.name = f"sm_{arch} #{next(DEVICES)}"  # compiled kernels are kept under it

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> str:
        return self.name

    def get_current_stream(self, device: str) -> int:
        return 0


@contextlib.contextmanager
def compiling(arch: int) -> Iterator[list[Launch]]:
    """Calls take the Triton backend, whose launches compile for sm_<arch> and do not run; yields the list of these."""
    run, launches = JITFunction.run, []

    def compile_only(self, *args, grid, warmup, **options):
        log = io.StringIO()
        with contextlib.redirect_stdout(log):
            compiled = run(self, *args, grid=grid, warmup=True, **options)
        if all(compiled is not launch.compiled for launch in launches):
            launches.append(Launch(self, options, compiled, log.getvalue()))

    knobs = triton.knobs
    with contextlib.ExitStack() as stack:
        for scope in (knobs.cache.scope, knobs.nvidia.scope):
            stack.enter_context(scope())
        stack.enter_context(patch.object(_backends, "FORCED", "triton"))
        knobs.cache.dir = stack.enter_context(tempfile.TemporaryDirectory())
        knobs.nvidia.dump_ptxas_log = True
        stack.enter_context(patch.object(_triton, "INTERPRETED", True))  # has `why_not` take tensors of the CPU
        stack.enter_context(patch.object(JITFunction, "run", compile_only))
        stack.callback(driver.set_active, None)  # the next use finds the driver of this machine
        driver.set_active(_Absent(arch))
        yield launches


def _sample() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.empty(12, 50176, dtype=dtype)
        _backends.choose("triton_sample", triton_sample.BACKENDS, x).forward(x, x[0], 0.5)


def _masked_pixel_loss() -> None:
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        images = [torch.zeros(12, channels, 224, 224, dtype=dtype, requires_grad=True) for channels in (3, 3, 1)]
        target, rendered, mask = images[0].detach(), *images[1:]
        modes = [("squared", "mask_mean"), ("l2", "batch_mask_mean"), ("gaussian_inlier", "mean")]
        for kind, reduction in modes if dtype == torch.float32 else modes[1:2]:
            fk.masked_pixel_loss(target, rendered, mask, kind=kind, reduction=reduction).backward()
        fk.masked_pixel_loss(*images, kind="l1", threshold=0.1, reduction="none").sum().backward()
        fk.inlier_mask(*images)


def _neighbor_min_loss() -> None:
    paper, authors = {}, AUTHORS_NEIGHBOR
    rows = [(dtype, paper, (0, 1, 2)) for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)]
    rows += [(torch.float32, paper, (2,)), (torch.float32, {**authors, "reduction": "mask_mean"}, (1, 2))]
    rows += [(torch.bfloat16, {**authors, "reduction": "none"}, (1, 2)), (torch.float32, {"window": 7}, (1, 2))]
    for dtype, options, wanted in rows:
        inputs = [torch.empty(12, channels, 224, 224, dtype=dtype) for channels in (3, 3, 1)]
        for k in wanted:
            inputs[k].requires_grad_()
        out = fk.neighbor_min_loss(*inputs, **options)
        torch.autograd.grad(out, [inputs[k] for k in wanted], torch.ones_like(out))


def _blend() -> None:
    f32, bf16, f16, f64 = torch.float32, torch.bfloat16, torch.float16, torch.float64
    K, V = 224, 53149
    for B, dtype, basis in ((12, f32, f32), (32, f32, f32), (32, f32, bf16), (32, f32, f16), (1, f64, f64)):
        mean, coeffs = torch.empty(V, 3, dtype=dtype), torch.empty(B, K, dtype=dtype)
        tensors = mean, torch.empty(K, V, 3, dtype=basis), coeffs
        fk.blend(*(x.requires_grad_() for x in tensors)).sum().backward()


# Room -> its calls, forward and backward, in every dtype. Each room with a triton.py must be here.
CALLS: dict[str, Callable[[], None]] = {
    "triton_sample": _sample,
    "masked_pixel_loss": _masked_pixel_loss,
    "neighbor_min_loss": _neighbor_min_loss,
    "blend": _blend,
}


def rooms() -> dict[str, ModuleType]:
    """Every room with Triton kernels, and the sample."""
    ops = sorted(path.parent.name for path in (ROOT / "focus_kernels/ops").glob("*/triton.py"))
    return {op: import_module(f"focus_kernels.ops.{op}.triton") for op in ops} | {"triton_sample": triton_sample}


@lru_cache
def launches(room: str, arch: int) -> list[Launch]:
    """All launches of a room, compiled for sm_<arch>."""
    with compiling(arch) as made:
        CALLS[room]()
    return made


def problems(launch: Launch) -> list[str]:
    """What is wrong with a launch, whatever its kernel computes."""
    found = []
    if launch.options.get("enable_fp_fusion") is not False:
        found.append(f"{launch} is launched without enable_fp_fusion=False: its results depend on Triton's version")
    asked = sum(int(lanes or 1) for lanes in ASKED.findall(launch.compiled.asm["llir"]))
    if len(FUSED.findall(launch.compiled.asm["ptx"])) > asked:
        found.append(f"{launch} multiplies and adds in one rounding where tl.fma does not say so")
    return found


def never_launched(module: ModuleType, made: list[Launch]) -> list[str]:
    """Kernels of a room that no call compiled, neither launched nor called by one that was."""
    functions = {name: value for name, value in vars(module).items() if isinstance(value, JITFunction)}
    reached = [launch.function for launch in made]
    for function in reached:
        reached += [f for name, f in functions.items() if f not in reached and f"{name}(" in function.src]
    return [name for name, function in functions.items() if function not in reached]


def resources(archs: tuple[int, ...], parse: Callable[[str], dict]) -> dict[str, Any]:
    """Room -> kernel -> sm_NN -> what ptxas said, and the shared memory that the launch asks for."""
    table: dict[str, Any] = {}
    for room in rooms():
        for arch in archs:
            for launch in launches(room, arch):
                (used,) = parse(launch.log).values()
                if shared := launch.compiled.metadata.shared:
                    used["shared"] = shared
                kernel = table.setdefault(room, {}).setdefault(str(launch), {})
                # Launches that differ in what Triton knows of its arguments (multiples of 16) only: the most of each.
                before = kernel.setdefault(f"sm_{arch}", {})
                before |= {field: max(amount, before.get(field, 0)) for field, amount in used.items()}
    return table
