"""masked_pixel_loss on Triton kernels, for the GPU.

A block of pixels is summed by one program, and the sums of the blocks by one more, so every sum has a fixed order. The
numbers of the rule are constants of the compiled kernel: as arguments they would be float32.
"""

import torch
import triton
import triton.language as tl

from ..._triton import on
from .rule import BATCH_MASK_MEAN, MASK_MEAN, MEAN, NONE, outputs

BLOCK = 1024
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def _difference(target_ptr, rendered_ptr, at, inside, WIDE: tl.constexpr):
    rendered = tl.load(rendered_ptr + at, inside, 0).to(WIDE)  # [BLOCK]
    return rendered - tl.load(target_ptr + at, inside, 0).to(WIDE)


@triton.jit
def _pixel(
    target_ptr, rendered_ptr, mask_ptr, P, b, x, inside, CUT: tl.constexpr, THRESHOLD: tl.constexpr, WIDE: tl.constexpr
):
    at = 3 * P * b + x
    d0 = _difference(target_ptr, rendered_ptr, at, inside, WIDE)
    d1 = _difference(target_ptr, rendered_ptr, at + P, inside, WIDE)
    d2 = _difference(target_ptr, rendered_ptr, at + 2 * P, inside, WIDE)
    r2 = (d0 * d0 + d1 * d1) + d2 * d2
    mask = tl.load(mask_ptr + P * b + x, inside, 0).to(WIDE)  # [BLOCK]
    inlier = inside
    if CUT:
        inlier = inside & (r2 < tl.full([], THRESHOLD, WIDE))
    return d0, d1, d2, r2, tl.where(inlier, mask, 0.0), inlier


@triton.jit
def _root(r2):
    return tl.sqrt(r2) if r2.dtype.is_fp64() else tl.sqrt_rn(r2)


@triton.jit
def _distance(d0, d1, d2, r2, KIND: tl.constexpr, SCALE: tl.constexpr, OFFSET: tl.constexpr):
    if KIND == 1:  # l2
        value = _root(r2)
    elif KIND == 2:  # l1
        value = (tl.abs(d0) + tl.abs(d1)) + tl.abs(d2)
    else:
        value = r2 * tl.full([], SCALE, r2.dtype) + tl.full([], OFFSET, r2.dtype)
    return value


@triton.jit
def _sign(d):
    return tl.where(d > 0, 1.0, tl.where(d < 0, -1.0, d))


@triton.jit
def _map(
    target_ptr,
    rendered_ptr,
    mask_ptr,
    out_ptr,
    P,
    blocks,
    KIND: tl.constexpr,
    SCALE: tl.constexpr,
    OFFSET: tl.constexpr,
    CUT: tl.constexpr,
    THRESHOLD: tl.constexpr,
    WIDE: tl.constexpr,
    SUMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The cost of each pixel, or the sums of a block: (cost, weight) as float64."""
    program = tl.program_id(0).to(tl.int64)
    b, x = program // blocks, program % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = x < P
    d0, d1, d2, r2, mask, inlier = _pixel(target_ptr, rendered_ptr, mask_ptr, P, b, x, inside, CUT, THRESHOLD, WIDE)
    cost = tl.where(inlier, mask * _distance(d0, d1, d2, r2, KIND, SCALE, OFFSET), 0.0)
    if SUMS:
        tl.store(out_ptr + 2 * program, tl.sum(cost).to(tl.float64))
        tl.store(out_ptr + 2 * program + 1, tl.sum(mask).to(tl.float64))
    else:
        tl.store(out_ptr + P * b + x, cost, inside)


@triton.jit
def _reduce(
    parts_ptr,
    loss_ptr,
    sums_ptr,
    B,
    blocks,
    count,
    PER_IMAGE: tl.constexpr,
    MASKED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One program: the blocks of each image, the images, the loss."""
    loss = tl.zeros([], tl.float64)
    weight = tl.zeros([], tl.float64)
    for first in range(0, B, ROWS):
        b = (first + tl.arange(0, ROWS)).to(tl.int64)
        cost_of = tl.zeros([ROWS], tl.float64)
        weight_of = tl.zeros([ROWS], tl.float64)
        for start in range(0, blocks, COLUMNS):
            k = start + tl.arange(0, COLUMNS)
            at = 2 * (b[:, None] * blocks + k[None, :])
            inside = (b[:, None] < B) & (k[None, :] < blocks)
            cost_of += tl.sum(tl.load(parts_ptr + at, inside, 0), 1)  # [ROWS, COLUMNS]
            weight_of += tl.sum(tl.load(parts_ptr + at + 1, inside, 0), 1)  # [ROWS, COLUMNS]
        if PER_IMAGE:
            tl.store(sums_ptr + 2 * b, cost_of, b < B)
            tl.store(sums_ptr + 2 * b + 1, weight_of, b < B)
            loss += tl.sum(cost_of / tl.where(weight_of < 1, 1.0, weight_of))
        else:
            loss += tl.sum(cost_of)
            weight += tl.sum(weight_of)
    if MASKED and not PER_IMAGE:
        tl.store(sums_ptr, loss)
        tl.store(sums_ptr + 1, weight)
        loss = loss / tl.where(weight < 1, 1.0, weight)
    tl.store(loss_ptr, loss / count)


@triton.jit
def _backward(
    grad_ptr,
    target_ptr,
    rendered_ptr,
    mask_ptr,
    sums_ptr,
    grad_target_ptr,
    grad_rendered_ptr,
    grad_mask_ptr,
    P,
    blocks,
    count,
    KIND: tl.constexpr,
    SCALE: tl.constexpr,
    OFFSET: tl.constexpr,
    CUT: tl.constexpr,
    THRESHOLD: tl.constexpr,
    WIDE: tl.constexpr,
    PER_PIXEL: tl.constexpr,
    PER_IMAGE: tl.constexpr,
    MASKED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    b, x = program // blocks, program % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = x < P
    d0, d1, d2, r2, mask, inlier = _pixel(target_ptr, rendered_ptr, mask_ptr, P, b, x, inside, CUT, THRESHOLD, WIDE)
    if PER_PIXEL:
        g = tl.load(grad_ptr + P * b + x, inside, 0)  # [BLOCK]
        of_weight = tl.zeros([], WIDE)
    else:
        of_sum = tl.load(grad_ptr).to(tl.float64) / count
        shift = tl.zeros([], tl.float64)
        if MASKED:
            row = b if PER_IMAGE else b * 0
            cost = tl.load(sums_ptr + 2 * row)
            weight = tl.load(sums_ptr + 2 * row + 1)
            below = tl.where(weight < 1, 1.0, weight)
            of_sum = of_sum / below
            shift = tl.where(weight >= 1, of_sum * (cost / below), 0.0)
        g = tl.zeros([BLOCK], WIDE) + of_sum.to(WIDE)
        of_weight = shift.to(WIDE)
    if grad_mask_ptr is not None:
        grad_mask = g * _distance(d0, d1, d2, r2, KIND, SCALE, OFFSET) - of_weight
        tl.store(grad_mask_ptr + P * b + x, tl.where(inlier, grad_mask, 0.0), inside)
    if (grad_target_ptr is not None) or (grad_rendered_ptr is not None):
        g = g * mask
        some = inlier
        if KIND == 2:  # l1
            d0, d1, d2 = _sign(d0), _sign(d1), _sign(d2)
        elif KIND == 1:  # l2
            some = inlier & (r2 != 0)  # a norm has no gradient at zero
            root = _root(tl.where(r2 == 0, 1.0, r2))
            g = g / root if g.dtype.is_fp64() else tl.div_rn(g, root)
        else:
            g = g * tl.full([], 2 * SCALE, WIDE)
        at = 3 * P * b + x
        for c in tl.static_range(3):
            d = d0 if c == 0 else (d1 if c == 1 else d2)
            grad = tl.where(some, g * d, 0.0)
            if grad_rendered_ptr is not None:
                tl.store(grad_rendered_ptr + at + c * P, grad, inside)
            if grad_target_ptr is not None:
                tl.store(grad_target_ptr + at + c * P, -grad, inside)


@triton.jit
def _inliers(
    target_ptr,
    rendered_ptr,
    mask_ptr,
    out_ptr,
    P,
    blocks,
    THRESHOLD: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    b, x = program // blocks, program % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = x < P
    _, _, _, _, mask, _ = _pixel(target_ptr, rendered_ptr, mask_ptr, P, b, x, inside, True, THRESHOLD, WIDE)
    tl.store(out_ptr + P * b + x, mask, inside)


def _sizes(target):
    B, _, H, W = target.shape
    return B, H * W, triton.cdiv(H * W, BLOCK)


def _constants(target, kind, scale, offset, threshold):
    """KIND, SCALE, OFFSET, CUT, THRESHOLD, WIDE."""
    wide = tl.float64 if target.dtype == torch.float64 else tl.float32
    return kind, scale, offset, threshold is not None, 0.0 if threshold is None else threshold, wide


def _count(reduction, B, P):
    """What a sum is divided by beside its denominators."""
    return max({MEAN: B * P, MASK_MEAN: B}.get(reduction, 1), 1)


def forward(target, rendered, mask, kind, scale, offset, threshold, reduction):
    B, P, blocks = _sizes(target)
    loss, sums = outputs(target, reduction)
    constants = _constants(target, kind, scale, offset, threshold)
    per_pixel = reduction == NONE
    out = loss if per_pixel else target.new_empty((B * blocks, 2), dtype=torch.float64)
    with on(target):
        if B * blocks:
            grid = (B * blocks,)
            _map[grid](target, rendered, mask, out, P, blocks, *constants, not per_pixel, BLOCK, **OPTIONS)
        if not per_pixel:
            modes = (reduction == MASK_MEAN, reduction in (MASK_MEAN, BATCH_MASK_MEAN))
            _reduce[(1,)](out, loss, sums, B, blocks, _count(reduction, B, P), *modes, 16, 32, **OPTIONS)
    return loss, sums


def backward(
    grad,
    target,
    rendered,
    mask,
    sums,
    kind,
    scale,
    offset,
    threshold,
    reduction,
    to_target,
    to_rendered,
    to_mask,
):
    B, P, blocks = _sizes(target)
    wanted = ((target, to_target), (rendered, to_rendered), (mask, to_mask))
    grads = [torch.empty_like(image) if want else None for image, want in wanted]
    constants = _constants(target, kind, scale, offset, threshold)
    modes = (reduction == NONE, reduction == MASK_MEAN, reduction in (MASK_MEAN, BATCH_MASK_MEAN))
    if B * blocks:
        with on(target):
            tensors = (grad, target, rendered, mask, sums, *grads)
            sizes = (P, blocks, _count(reduction, B, P))
            _backward[(B * blocks,)](*tensors, *sizes, *constants, *modes, BLOCK, **OPTIONS)
    return [grad for grad in grads if grad is not None]


def inliers(target, rendered, mask, threshold):
    B, P, blocks = _sizes(target)
    out = torch.empty_like(mask)
    if B * blocks:
        wide = _constants(target, 0, 1.0, 0.0, threshold)[-1]
        with on(target):
            _inliers[(B * blocks,)](target, rendered, mask, out, P, blocks, threshold, wide, BLOCK, **OPTIONS)
    return out
