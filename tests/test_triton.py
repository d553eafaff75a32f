"""Triton kernels without a GPU: the interpreter's battery, and every launch compiled for each architecture."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed (there is none for this platform)", allow_module_level=True)

import torch
import triton
import triton.language as tl
import triton_aot
import triton_sample

from focus_kernels import _triton

if _triton.INTERPRETED:
    pytest.skip("TRITON_INTERPRET=1 leaves nothing to compile", allow_module_level=True)

ARCHS = (80, 90, 100)
VERSION = tuple(map(int, triton.__version__.split(".")[:2]))
TESTS = Path(__file__).resolve().parent


def interpreted(*arguments):
    """The summary of a pytest in a process of its own: Triton chooses the interpreter when it is imported."""
    if VERSION < (3, 7):
        pytest.skip("the interpreter of Triton < 3.7 does not run with numpy >= 2.4")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=TESTS.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_the_interpreter_catches_planted_bugs():
    assert re.match(r"\d\d passed", interpreted("tests/test_triton_interpreter.py"))


@pytest.mark.slow
def test_ops_pass_the_battery_interpreted():
    if set(triton_aot.rooms()) == {"triton_sample"}:
        pytest.skip("no op has Triton kernels yet")
    assert re.match(r"\d+ passed", interpreted("-m", "", "-k", "triton-cpu", "tests"))


def test_every_room_has_calls():
    assert set(triton_aot.CALLS) == set(triton_aot.rooms()), "add the room's calls to CALLS in tests/triton_aot.py"


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("room", triton_aot.rooms())
def test_every_launch_compiles(room, arch):
    launches = triton_aot.launches(room, arch)
    assert not [problem for launch in launches for problem in triton_aot.problems(launch)]
    assert not triton_aot.never_launched(triton_aot.rooms()[room], launches)
    assert all(f".target sm_{arch}" in launch.compiled.asm["ptx"] for launch in launches)


def compiled(arch, **options):
    x = torch.empty(4, 300)
    with triton_aot.compiling(arch) as launches:
        triton_sample._forward[(4,)](x, x[0], 0.5, x, x[:, 0], 300, 256, **options)
    (launch,) = launches
    return launch


@pytest.mark.parametrize("arch", ARCHS)
def test_products_and_sums_are_fused_only_on_request(arch):
    off, on = compiled(arch, enable_fp_fusion=False), compiled(arch, enable_fp_fusion=True)
    assert not triton_aot.FUSED.findall(off.compiled.asm["ptx"])
    assert triton_aot.FUSED.findall(on.compiled.asm["ptx"])
    assert not triton_aot.problems(off)
    assert [problem.partition("num_warps=4) ")[2].split()[0] for problem in triton_aot.problems(on)] == [
        "is",
        "multiplies",
    ]


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION is unset")  # Triton 3.9 says so as well
def test_a_launch_that_leaves_the_fusion_to_triton_is_a_problem():
    (problem, *_) = triton_aot.problems(compiled(90))
    assert "is launched without enable_fp_fusion=False" in problem


@triton.jit
def _asks_for_fma(x_ptr, out_ptr):
    n = tl.arange(0, 64)
    x = tl.load(x_ptr + n)
    tl.store(out_ptr + n, tl.fma(x, x, x))


def test_an_fma_that_the_kernel_asks_for_is_none():
    with triton_aot.compiling(90) as launches:
        _asks_for_fma[(1,)](torch.empty(64), torch.empty(64), enable_fp_fusion=False)
    (launch,) = launches
    assert triton_aot.FUSED.findall(launch.compiled.asm["ptx"])
    assert not triton_aot.problems(launch)


def test_a_kernel_that_no_call_launches_is_named():
    assert triton_aot.never_launched(triton_sample, []) == ["_scaled", "_forward"]
    assert triton_aot.never_launched(triton_sample, [compiled(80, enable_fp_fusion=False)]) == []


def test_nothing_is_left_behind():
    """After compiling, a launch goes to a real driver again, or fails for want of one."""
    before = _triton.INTERPRETED, triton.knobs.cache.dir, triton.runtime.jit.JITFunction.run
    compiled(80, enable_fp_fusion=False)
    assert before == (_triton.INTERPRETED, triton.knobs.cache.dir, triton.runtime.jit.JITFunction.run)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="0 active drivers"):
            triton_sample._forward[(1,)](*map(torch.empty, [4, 4]), 0.5, *map(torch.empty, [4, 4]), 4, 16)
