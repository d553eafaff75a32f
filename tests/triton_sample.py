"""A room with one Triton kernel, to try the Triton harness on: out = scale * x + shift, and the sum of each row."""

import sys
from types import ModuleType

import torch
import triton
import triton.language as tl
from torch import Tensor

from focus_kernels import _triton


def why_not(a: Tensor, *rest) -> list[str]:
    if not a.is_cuda and not _triton.INTERPRETED:
        return [f"device={a.device.type} (supported: cuda, or cpu with TRITON_INTERPRET=1)"]
    return []


@triton.jit
def _scaled(x, scale, shift):
    return x * scale + shift


@triton.jit
def _forward(x_ptr, shift_ptr, scale, out_ptr, sum_ptr, N, BLOCK: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, N, BLOCK):
        n = start + tl.arange(0, BLOCK)
        mask = n < N
        x = tl.load(x_ptr + b * N + n, mask, 0).to(tl.float32)  # [BLOCK]
        shift = tl.load(shift_ptr + n, mask, 0).to(tl.float32)  # [BLOCK]
        out = _scaled(x, scale, shift)
        tl.store(out_ptr + b * N + n, out, mask)
        total += out
    tl.store(sum_ptr + b, tl.sum(total))


def forward(x: Tensor, shift: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """x [B, N], shift [N] -> out [B, N], sum [B] in float32."""
    B, N = x.shape
    out, total = torch.empty_like(x), x.new_empty(B, dtype=torch.float32)
    if B:
        _forward[(B,)](x, shift, scale, out, total, N, 256, num_warps=2, enable_fp_fusion=False)
    return out, total


BACKENDS: dict[str, ModuleType] = {"triton": sys.modules[__name__]}
