"""neighbor_min_loss on Triton kernels, for the GPU.

A block of pixels is summed by one program, and the sums of the blocks by one more, so every sum has a fixed order. In
the backward a pixel collects from those whose nearest neighbour it is, in the order of the offsets.
"""

import torch
import triton
import triton.language as tl

from ..._triton import on
from .modes import MASK_MEAN, MEAN, NONE, Modes

BLOCK = 512
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def _color(image_ptr, mask_ptr, P, b, i, inside, MASKED: tl.constexpr, WIDE: tl.constexpr):
    """Pixels i of image b, times the mask where it masks the images; 0 where not `inside`."""
    at = image_ptr + 3 * P * b + i
    c0 = tl.load(at, inside, 0).to(WIDE)  # [BLOCK]
    c1 = tl.load(at + P, inside, 0).to(WIDE)  # [BLOCK]
    c2 = tl.load(at + 2 * P, inside, 0).to(WIDE)  # [BLOCK]
    if MASKED:
        mask = tl.load(mask_ptr + P * b + i, inside, 0).to(WIDE)  # [BLOCK]
        c0, c1, c2 = c0 * mask, c1 * mask, c2 * mask
    return c0, c1, c2


@triton.jit
def _distance(square, POWER: tl.constexpr):
    if POWER == 2:
        distance = square
    else:
        distance = tl.sqrt(square) if square.dtype.is_fp64() else tl.sqrt_rn(square)
    return distance


@triton.jit
def _slope(weight, d, square, POWER: tl.constexpr):
    """The gradient of weight * distance to a difference d of one channel."""
    if POWER == 2:
        slope = (weight + weight) * d
    else:
        distance = _distance(tl.where(square == 0, 1.0, square), POWER)
        part = d / distance if d.dtype.is_fp64() else tl.div_rn(d, distance)
        slope = tl.where(square == 0, 0.0, weight * part)  # a norm has no gradient at zero
    return slope


@triton.jit
def _forward(
    fixed_ptr,
    moving_ptr,
    mask_ptr,
    out_ptr,
    winner_ptr,
    H,
    W,
    map_W,
    pixels,
    blocks,
    WINDOW: tl.constexpr,
    MARGIN: tl.constexpr,
    POWER: tl.constexpr,
    MASKED: tl.constexpr,
    SUMS: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The map, or the sums of a block of it and of its mask, as float64."""
    program = tl.program_id(0).to(tl.int64)
    b, n = program // blocks, program % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = n < pixels
    y, x = n // map_W + MARGIN, n % map_W + MARGIN
    P = H.to(tl.int64) * W
    f0, f1, f2 = _color(fixed_ptr, mask_ptr, P, b, y * W + x, inside, MASKED, WIDE)
    best = tl.full([BLOCK], float("inf"), WIDE)
    winner = tl.full([BLOCK], -1, tl.int32)
    for row in range(WINDOW):
        near_y = y + (row - WINDOW // 2)
        for column in tl.static_range(WINDOW):
            near_x = x + (column - WINDOW // 2)
            exists = inside & (near_y >= 0) & (near_y < H) & (near_x >= 0) & (near_x < W)
            m0, m1, m2 = _color(moving_ptr, mask_ptr, P, b, near_y * W + near_x, exists, MASKED, WIDE)
            m0, m1, m2 = m0 - f0, m1 - f1, m2 - f2
            square = (m0 * m0 + m1 * m1) + m2 * m2
            better = exists & ((winner < 0) | (square < best) | ((square != square) & (best == best)))
            best = tl.where(better, square, best)
            winner = tl.where(better, row * WINDOW + column, winner)
    tl.store(winner_ptr + pixels * b + n, winner.to(tl.uint8), inside)
    mask = tl.load(mask_ptr + P * b + y * W + x, inside, 0).to(WIDE)  # [BLOCK]
    distance = _distance(tl.where(inside, best, 0.0), POWER)
    if not MASKED:
        distance = mask * distance
    if SUMS:
        tl.store(out_ptr + 2 * program, tl.sum(distance).to(tl.float64))
        tl.store(out_ptr + 2 * program + 1, tl.sum(mask).to(tl.float64))
    else:
        tl.store(out_ptr + pixels * b + n, distance, inside)


@triton.jit
def _reduce(
    parts_ptr, out_ptr, sums_ptr, B, blocks, count, PER_MASK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """One program: the blocks of each image, then the images."""
    total = tl.zeros([], tl.float64)
    for first in range(0, B, ROWS):
        b = (first + tl.arange(0, ROWS)).to(tl.int64)
        map_sum = tl.zeros([ROWS], tl.float64)
        mask_sum = tl.zeros([ROWS], tl.float64)
        for start in range(0, blocks, COLUMNS):
            k = start + tl.arange(0, COLUMNS)
            at = 2 * (b[:, None] * blocks + k[None, :])
            inside = (b[:, None] < B) & (k[None, :] < blocks)
            map_sum += tl.sum(tl.load(parts_ptr + at, inside, 0), 1)  # [ROWS, COLUMNS]
            mask_sum += tl.sum(tl.load(parts_ptr + at + 1, inside, 0), 1)  # [ROWS, COLUMNS]
        tl.store(sums_ptr + 2 * b, map_sum, b < B)
        tl.store(sums_ptr + 2 * b + 1, mask_sum, b < B)
        if PER_MASK:
            map_sum = map_sum / tl.where(mask_sum < 1, 1.0, mask_sum)
        total += tl.sum(map_sum)
    tl.store(out_ptr, total / count)


@triton.jit
def _backward(
    grad_ptr,
    fixed_ptr,
    moving_ptr,
    mask_ptr,
    winner_ptr,
    sums_ptr,
    grad_fixed_ptr,
    grad_moving_ptr,
    grad_mask_ptr,
    H,
    W,
    map_W,
    pixels,
    blocks,
    count,
    WINDOW: tl.constexpr,
    MARGIN: tl.constexpr,
    POWER: tl.constexpr,
    MASKED: tl.constexpr,
    PER_PIXEL: tl.constexpr,
    PER_MASK: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    b, i = program // blocks, program % blocks * BLOCK + tl.arange(0, BLOCK)
    P = H.to(tl.int64) * W
    inside = i < P
    y, x = i // W, i % W
    g = tl.zeros([BLOCK], WIDE)
    of_divisor = tl.zeros([BLOCK], WIDE)
    if not PER_PIXEL:
        scale = tl.load(grad_ptr).to(tl.float64) / count
        if PER_MASK:
            mask_sum = tl.load(sums_ptr + 2 * b + 1).to(tl.float64)
            scale = scale / tl.where(mask_sum < 1, 1.0, mask_sum)
            mean = tl.load(sums_ptr + 2 * b).to(tl.float64) / tl.where(mask_sum < 1, 1.0, mask_sum)
            of_divisor += tl.where(mask_sum < 1, 0.0, scale * mean).to(WIDE)
        g += scale.to(WIDE)

    s0 = tl.zeros([BLOCK], WIDE)
    s1 = tl.zeros([BLOCK], WIDE)
    s2 = tl.zeros([BLOCK], WIDE)
    if (grad_moving_ptr is not None) or (MASKED and (grad_mask_ptr is not None)):
        m0, m1, m2 = _color(moving_ptr, mask_ptr, P, b, i, inside, MASKED, WIDE)
        for row in range(WINDOW):
            from_y = y - (row - WINDOW // 2)
            for column in tl.static_range(WINDOW):
                from_x = x - (column - WINDOW // 2)
                compared = inside & (from_y >= MARGIN) & (from_y < H - MARGIN)
                compared = compared & (from_x >= MARGIN) & (from_x < W - MARGIN)
                n = pixels * b + (from_y - MARGIN) * map_W + (from_x - MARGIN)
                here = compared & (tl.load(winner_ptr + n, compared, 0) == row * WINDOW + column)  # [BLOCK]
                weight = g
                if PER_PIXEL:
                    weight = tl.load(grad_ptr + n, here, 0)  # [BLOCK]
                if not MASKED:
                    weight *= tl.load(mask_ptr + P * b + from_y * W + from_x, here, 0).to(WIDE)  # [BLOCK]
                f0, f1, f2 = _color(fixed_ptr, mask_ptr, P, b, from_y * W + from_x, here, MASKED, WIDE)
                d0, d1, d2 = m0 - f0, m1 - f1, m2 - f2
                square = (d0 * d0 + d1 * d1) + d2 * d2
                s0 += tl.where(here, _slope(weight, d0, square, POWER), 0.0)
                s1 += tl.where(here, _slope(weight, d1, square, POWER), 0.0)
                s2 += tl.where(here, _slope(weight, d2, square, POWER), 0.0)

    mask = tl.load(mask_ptr + P * b + i, inside, 0).to(WIDE)  # [BLOCK]
    at = 3 * P * b + i
    if grad_moving_ptr is not None:
        tl.store(grad_moving_ptr + at, s0 * mask if MASKED else s0, inside)
        tl.store(grad_moving_ptr + at + P, s1 * mask if MASKED else s1, inside)
        tl.store(grad_moving_ptr + at + 2 * P, s2 * mask if MASKED else s2, inside)

    if (grad_fixed_ptr is not None) or (grad_mask_ptr is not None):
        compared = inside & (y >= MARGIN) & (y < H - MARGIN) & (x >= MARGIN) & (x < W - MARGIN)
        n = pixels * b + (y - MARGIN) * map_W + (x - MARGIN)
        winner = tl.load(winner_ptr + n, compared, 0).to(tl.int32)  # [BLOCK]
        near = (y + (winner // WINDOW - WINDOW // 2)) * W + x + (winner % WINDOW - WINDOW // 2)
        if PER_PIXEL:
            g = tl.load(grad_ptr + n, compared, 0)  # [BLOCK]
        m0, m1, m2 = _color(moving_ptr, mask_ptr, P, b, near, compared, MASKED, WIDE)
        f0, f1, f2 = _color(fixed_ptr, mask_ptr, P, b, i, compared, MASKED, WIDE)
        d0, d1, d2 = m0 - f0, m1 - f1, m2 - f2
        square = (d0 * d0 + d1 * d1) + d2 * d2
        weight = g if MASKED else g * mask
        e0 = tl.where(compared, 0.0 - _slope(weight, d0, square, POWER), 0.0)
        e1 = tl.where(compared, 0.0 - _slope(weight, d1, square, POWER), 0.0)
        e2 = tl.where(compared, 0.0 - _slope(weight, d2, square, POWER), 0.0)
        if grad_fixed_ptr is not None:
            tl.store(grad_fixed_ptr + at, e0 * mask if MASKED else e0, inside)
            tl.store(grad_fixed_ptr + at + P, e1 * mask if MASKED else e1, inside)
            tl.store(grad_fixed_ptr + at + 2 * P, e2 * mask if MASKED else e2, inside)
        if grad_mask_ptr is not None:
            if MASKED:
                f0, f1, f2 = _color(fixed_ptr, mask_ptr, P, b, i, inside, False, WIDE)
                m0, m1, m2 = _color(moving_ptr, mask_ptr, P, b, i, inside, False, WIDE)
                total = tl.where(compared, 0.0 - of_divisor, 0.0)
                total = (((total + e0 * f0) + e1 * f1) + e2 * f2) + ((s0 * m0 + s1 * m1) + s2 * m2)
            else:
                total = tl.where(compared, g * _distance(square, POWER) - of_divisor, 0.0)
            tl.store(grad_mask_ptr + P * b + i, total, inside)


def _ordered(target, rendered, modes: Modes):
    """The fixed image, or what belongs to it, and the moving one."""
    return (rendered, target) if modes.search else (target, rendered)


def _constants(target, modes: Modes):
    """WINDOW, MARGIN, POWER, MASKED."""
    return modes.window, modes.margin, modes.power, modes.masking == 1


def _count(modes: Modes, B: int, pixels: int) -> int:
    """What a sum is divided by beside the sums of the mask."""
    return max({MEAN: B * pixels, MASK_MEAN: B}.get(modes.reduction, 1), 1)


def _wide(target):
    return tl.float64 if target.dtype == torch.float64 else tl.float32


def forward(target, rendered, mask, modes, out, winner, sums):
    B, _, H, W = target.shape
    map_H, map_W = modes.map_size(H, W)
    blocks, mapped = triton.cdiv(map_H * map_W, BLOCK), modes.reduction == NONE
    parts = out if mapped else target.new_empty((B * blocks, 2), dtype=torch.float64)
    with on(target):
        if B * blocks:
            sizes = (H, W, map_W, map_H * map_W, blocks)
            constants = (*_constants(target, modes), not mapped, _wide(target), BLOCK)
            images = _ordered(target, rendered, modes)
            _forward[(B * blocks,)](*images, mask, parts, winner, *sizes, *constants, **OPTIONS)
        if not mapped:
            count = _count(modes, B, map_H * map_W)
            _reduce[(1,)](parts, out, sums, B, blocks, count, modes.reduction == MASK_MEAN, 16, 64, **OPTIONS)
        else:
            sums.zero_()  # nobody reads them


def backward(grad, target, rendered, mask, winner, sums, modes, grads):
    B, _, H, W = target.shape
    map_H, map_W = modes.map_size(H, W)
    blocks = triton.cdiv(H * W, BLOCK)
    if not B * blocks:
        return
    images = (*_ordered(target, rendered, modes), mask, winner, sums, *_ordered(*grads[:2], modes), grads[2])
    sizes = (H, W, map_W, map_H * map_W, blocks, _count(modes, B, map_H * map_W))
    reductions = (modes.reduction == NONE, modes.reduction == MASK_MEAN)
    constants = (*_constants(target, modes), *reductions, _wide(target), BLOCK)
    with on(target):
        _backward[(B * blocks,)](grad, *images, *sizes, *constants, **OPTIONS)
