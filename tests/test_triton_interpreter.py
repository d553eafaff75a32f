"""The battery's fixtures and the interpreter's checks on the sample kernel, and bugs that the checks must catch.

Runs under TRITON_INTERPRET=1 only, which Triton reads when it is imported: test_triton.py runs it so.
"""

import os
import sys

import pytest

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs TRITON_INTERPRET=1 (test_triton.py runs it so)", allow_module_level=True)

import torch
import triton
import triton.language as tl
import triton_sample
from meshes import generator
from tolerances import assert_same_bits
from triton_interpreter import KernelError

sys.modules["focus_kernels.ops.triton_interpreter.op"] = triton_sample  # where the fixture `kernel` looks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", [(3, 1000), (1, 1), (2, 257), (4, 0), (0, 5)], ids=str)
def test_sample_agrees_with_torch(kernel, dtype, size):
    x = torch.randn(size, generator=generator(0)).to(dtype)
    shift = torch.randn(size[1], generator=generator(1)).to(dtype)
    out, total = triton_sample.BACKENDS[kernel.name].forward(x, shift, 0.5)
    expected = x.float() * 0.5 + shift.float()
    assert torch.equal(out, expected.to(dtype))
    torch.testing.assert_close(total, expected.sum(1), rtol=1e-5, atol=1e-4)


@triton.jit
def _narrow(x_ptr, out_ptr, N, BLOCK: tl.constexpr):
    n = tl.arange(0, BLOCK)
    tl.store(out_ptr + n, tl.load(x_ptr + n, n < N, 0), n < N)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_rounded_to_nearest_even(dtype):
    halves = torch.randn(200, generator=generator(3)).to(dtype)
    ties = (halves.float() + halves.view(torch.int16).add(1).view(dtype).float()) / 2
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, -torch.nan, 3.4e38, -3.4e38, 65519.99, 65520])
    x = torch.cat([ties, ties.nextafter(halves.float()), ties.nextafter(2 * ties), special])
    out = torch.empty(len(x), dtype=dtype)
    _narrow[(1,)](x, out, len(x), 1024, enable_fp_fusion=False)
    assert_same_bits(out, x.to(dtype))
    halves = torch.arange(-512, 512).to(torch.int16).view(dtype)  # subnormals among them
    out = torch.empty(len(halves))
    _narrow[(1,)](halves, out, len(halves), 1024, enable_fp_fusion=False)
    assert torch.equal(out.nan_to_num(), halves.float().nan_to_num())


@triton.jit
def _copy(x_ptr, out_ptr, N, CASE: tl.constexpr, BLOCK: tl.constexpr):
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if CASE == "right":
        tl.store(out_ptr + n, tl.load(x_ptr + n, n < N), n < N)
    if CASE == "reads one too far":
        tl.store(out_ptr + n, tl.load(x_ptr + n, n <= N), n < N)
    if CASE == "writes one too far":
        tl.store(out_ptr + n, tl.load(x_ptr + n, n < N), n <= N)
    if CASE == "writes below":
        tl.store(out_ptr + n - 1, tl.load(x_ptr + n, n < N), n < N)
    if CASE == "two programs write":
        tl.store(out_ptr + n % BLOCK, tl.load(x_ptr + n, n < N), n < N)
    if CASE == "reads what another program writes":
        tl.store(out_ptr + n, tl.load(out_ptr + (n + BLOCK) % N, n < N), n < N)
    if CASE == "plain and atomic":
        tl.atomic_add(out_ptr, tl.load(out_ptr + tl.program_id(0)))
    if CASE == "atomic":
        tl.atomic_add(out_ptr, tl.sum(tl.load(x_ptr + n, n < N, 0)))
    if CASE == "one store, two values":
        tl.store(out_ptr + n // 2, tl.load(x_ptr + n, n < N), n < N)
    if CASE == "sums lanes that were not loaded":
        tl.store(out_ptr + tl.program_id(0), tl.sum(tl.load(x_ptr + n, n < N)))


def copy(case, n=50, block=16):
    x, out = torch.arange(1.0, n + 1), torch.zeros(n)
    _copy[(triton.cdiv(n, block),)](x, out, n, case, block, enable_fp_fusion=False)
    return x, out


@pytest.mark.parametrize(
    "case, message",
    [
        ("reads one too far", r"_copy reads element 50 of x_ptr, which is outside of it \(program 3\)"),
        ("writes one too far", r"_copy writes element 50 of out_ptr, which is outside of it \(program 3\)"),
        ("writes below", r"_copy writes element -1 of out_ptr, which is outside of it \(program 0\)"),
        ("two programs write", r"_copy: two programs at element 0 of out_ptr, one of which writes"),
        ("reads what another program writes", r"_copy: two programs at element \d+ of out_ptr, one of which writes"),
        ("plain and atomic", r"_copy: two programs at element 0 of out_ptr, one of which writes"),
        ("one store, two values", r"_copy: one store of two values at element \d+ of out_ptr"),
    ],
)
def test_planted_bug_is_caught(case, message):
    with pytest.raises(KernelError, match=message):
        copy(case)


def test_right_kernels_pass():
    x, out = copy("right")
    assert torch.equal(out, x)
    assert copy("atomic")[1][0] == x.sum()


def test_lanes_that_were_not_loaded_are_nan():
    _, out = copy("sums lanes that were not loaded")
    assert not out[:3].isnan().any()
    assert out[3].isnan()


def test_programs_run_in_another_order_each_time():
    x = torch.randn(1000, generator=generator(2)) * 1e3
    sums = set()
    for _ in range(5):
        out = torch.zeros(1000)
        _copy[(125,)](x, out, 1000, "atomic", 8, enable_fp_fusion=False)
        sums.add(out[0].item())
    assert len(sums) > 1
