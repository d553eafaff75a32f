"""nvdiffrast's ``texture`` and ``texture_construct_mip``, 2D and cube, in torch.

Clean room: written from nvdiffrast's public documentation and the OpenGL specification.

torch's ``grid_sample`` is not used: it has no wrap mode, no mip levels and no cube maps, its backward pass is not
deterministic on CUDA, and it needs the texture once per image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ... import _checks
from . import cube

_FILTERS = {"auto": 0, "nearest": 1, "linear": 2, "linear-mipmap-nearest": 3, "linear-mipmap-linear": 4}
_BOUNDARIES = {"wrap": 0, "clamp": 1, "zero": 2, "cube": 3}


@dataclass(frozen=True, eq=False)
class MipStack:
    """What `texture_construct_mip` returns: opaque, for ``texture(mip=...)``."""

    shape: torch.Size  # of the texture
    levels: tuple[Tensor, ...]  # from level 1, without gradient


def texture(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None = None,
    mip_level_bias: Tensor | None = None,
    mip: MipStack | Sequence[Tensor] | None = None,
    filter_mode: str = "auto",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
) -> Tensor:
    """Sample a texture at every pixel.

    Texture coordinates span [0, 1]; (0, 0) is the corner of the first texel, and texel (i, j)'s centre is at
    ((j + 0.5) / Wt, (i + 0.5) / Ht). The mip level is log2 of the major axis, in texels, of the ellipse that `uv_da`
    makes of a pixel, plus `mip_level_bias`, limited to the levels there are.

    Args:
        tex: [B | 1, Ht, Wt, C], or [B | 1, 6, S, S, C] for a cube map with faces +x, -x, +y, -y, +z, -z oriented as
            in OpenGL. float32 or float64, as all other tensors.
        uv: [B, H, W, 2] texture coordinates, or [B, H, W, 3] directions of any length for a cube map.
        uv_da: [B, H, W, 4] or [B, H, W, 6], image-space derivatives of `uv` as `interpolate` gives them: (du/dX,
            du/dY, dv/dX, dv/dY, ...).
        mip_level_bias: [B, H, W], added to the mip level; without `uv_da` it is the mip level.
        mip: what `texture_construct_mip` made of `tex`, or a list of tensors like `tex`, from level 1 on, each half
            the size of the one before (1 stays 1). None makes the levels from `tex`.
        filter_mode: "nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear", or "auto": "linear" when
            neither `uv_da` nor `mip_level_bias` is given, else "linear-mipmap-linear".
        boundary_mode: "wrap" repeats the texture, "clamp" stops at the centres of its outermost texels, "zero"
            continues it with zeros, "cube" is for cube maps, which are filtered seamlessly: across an edge with the
            texels of the adjoining face, and at a corner with the mean of the three texels for the missing fourth.
        max_mip_level: the highest level made and used; None is the level of 1x1 texels. 0 uses only `tex`.

    Returns:
        [B, H, W, C]. Differentiable once in `tex`, `uv`, `uv_da`, `mip_level_bias` and the tensors of a `mip` list.
        Through levels that were made here or by `texture_construct_mip` the gradient reaches `tex`; tensors of a list
        receive their own. The backward pass is deterministic on the CPU, for any number of threads, and on CUDA.

    Samples whose `uv` is not finite are 0 with zero gradient, and so are, where they are used, those of a `uv_da` or
    `mip_level_bias` that is not finite. A cube map direction shorter than 1e-19 (float32) or 1.5e-154 (float64), or
    with derivatives whose ratio to its square is not finite, counts as not finite.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape, device or option, named; a mipmapping `filter_mode` without
            `uv_da` and `mip_level_bias`; a texture side other than 1 that is not divisible by 2 as often as levels
            are needed.

    Differences from upstream:
        * CPU tensors and float64 are served. Tensors need not be contiguous.
        * In nvdiffrast's documentation only invalid cube map directions give 0; here all that is not finite does.
    """
    op = "texture"
    mode = _checks.choice(op, "filter_mode", filter_mode, _FILTERS)
    is_cube = _checks.choice(op, "boundary_mode", boundary_mode, _BOUNDARIES) == _BOUNDARIES["cube"]
    if mode == _FILTERS["auto"]:
        mode = _FILTERS["linear" if uv_da is None and mip_level_bias is None else "linear-mipmap-linear"]
    mipmapped = mode >= _FILTERS["linear-mipmap-nearest"]
    if mipmapped and uv_da is None and mip_level_bias is None:
        _checks.fail(ValueError, op, "uv_da or mip_level_bias", f"given for filter_mode {filter_mode!r}", "None")
    highest = _highest(op, max_mip_level)

    optional = {"uv_da": uv_da, "mip_level_bias": mip_level_bias}
    tensors = {"tex": tex, "uv": uv} | {name: value for name, value in optional.items() if value is not None}
    num_others = len(tensors)
    if isinstance(mip, (list, tuple)):
        tensors |= {f"mip[{i}]": level for i, level in enumerate(mip)}
    checked = _checks.floats(op, **tensors)
    tex, uv = checked[:2]
    uv_da = None if uv_da is None else checked[2]
    bias = None if mip_level_bias is None else checked[num_others - 1]
    _check_texture(op, tex, is_cube)
    width = 3 if is_cube else 2
    _checks.shape(op, "uv", uv, (-1, -1, -1, width))
    pixels = uv.shape[:3]
    if uv_da is not None:
        _checks.shape(op, "uv_da", uv_da, (*pixels, 2 * width))
    if bias is not None:
        _checks.shape(op, "mip_level_bias", bias, pixels)
    if tex.shape[0] not in (1, pixels[0]):
        _checks.fail(ValueError, op, "tex", f"of batch size 1 or {pixels[0]} as uv", str(tex.shape[0]))
    levels = [tex]
    if mipmapped:
        levels += _levels(op, tex, mip, checked[num_others:], highest, is_cube)

    uv = uv.reshape(-1, width)
    jacobian = uv_da.reshape(-1, width, 2) if mipmapped and uv_da is not None else None
    bias = bias.reshape(-1) if mipmapped and bias is not None else None
    valid = cube.is_direction(uv) if is_cube else uv.detach().isfinite().all(-1)
    if jacobian is not None:
        extent = jacobian.detach().abs().flatten(1).amax(-1)
        if is_cube:  # whether the footprint on a face, and its gradient, are finite
            length = uv.detach().abs().amax(-1)
            extent = 16 * extent / length / length.clamp(max=1)
        valid = valid & extent.isfinite()
        jacobian = torch.where(valid[:, None, None], jacobian, 0)
    if bias is not None:
        valid = valid & bias.detach().isfinite()
        bias = torch.where(valid, bias, 0)
    uv = torch.where(valid[:, None], uv, 1)  # (1, 1, 1) is a direction, too

    face = None
    if is_cube:
        face, uv, jacobian = cube.project(uv, jacobian)
    batch = torch.arange(pixels[0], device=uv.device).repeat_interleave(pixels[1] * pixels[2])
    flat = torch.cat([level.flatten(0, -2) for level in levels]) if len(levels) > 1 else tex.flatten(0, -2)
    where = _Where(uv, face, batch, boundary_mode, mode == _FILTERS["nearest"])
    if len(levels) == 1:
        indices, weights = _taps(where, levels, None)
    else:
        level = _mip_level(jacobian, bias, levels)
        if mode == _FILTERS["linear-mipmap-nearest"]:
            indices, weights = _taps(where, levels, (level.detach() + 0.5).floor().long())
        else:
            lower = level.detach().floor()
            fraction = level - lower
            indices, weights = _taps(where, levels, lower.long())
            upper, upper_weights = _taps(where, levels, (lower.long() + 1).clamp(max=len(levels) - 1))
            indices = indices + upper
            weights = [w * (1 - fraction) for w in weights] + [w * fraction for w in upper_weights]
    weight = torch.where(valid, torch.stack(weights), 0)
    out = _WeightedSum.apply(flat, torch.stack(indices), weight)
    return torch.where(valid[:, None], out, 0).view(*pixels, tex.shape[-1])


def texture_construct_mip(tex: Tensor, max_mip_level: int | None = None, cube_mode: bool = False) -> MipStack:
    """The mip levels of a texture that stays the same, made once for many calls of `texture`.

    Each level is the mean of the 2x2 texels of the one before; a side of 1 stays 1.

    Args:
        tex: as in `texture`, float32 or float64.
        max_mip_level: the highest level to make; None goes on to 1x1 texels.
        cube_mode: whether `tex` is a cube map.

    Returns:
        An opaque stack for ``texture(tex, ..., mip=stack)``, through which gradients reach the `tex` of that call.

    Raises:
        TypeError, ValueError: a wrong type, dtype or shape, named; a side other than 1 that is not divisible by 2 as
            often as levels are needed.
    """
    op = "texture_construct_mip"
    (tex,) = _checks.floats(op, tex=tex)
    _check_texture(op, tex, _checks.flag(op, "cube_mode", cube_mode))
    # normal tensors even in inference mode: through others no gradient would reach the texture later
    with torch.inference_mode(False), torch.no_grad():
        return MipStack(tex.shape, tuple(_build(op, tex, _highest(op, max_mip_level))))


class _Where(NamedTuple):
    """Where to sample."""

    uv: Tensor  # [N, 2]
    face: Tensor | None  # [N], of a cube map
    batch: Tensor  # [N]
    boundary: str
    nearest: bool


class _WeightedSum(torch.autograd.Function):
    """out[n] = sum over k of weight[k, n] * flat[index[k, n]]; flat [T, C], index and weight [K, N]."""

    @staticmethod
    def forward(ctx, flat: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(flat, index, weight)
        out = flat.new_zeros((index.shape[1], flat.shape[1]))
        for rows, w in zip(index, weight, strict=True):
            out.addcmul_(flat.index_select(0, rows), w[:, None])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        flat, index, weight = ctx.saved_tensors
        grad_flat = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_flat = torch.zeros_like(flat)
            if flat.is_cuda:  # sorts, so that sums have one order; index_add does not
                terms = (weight[..., None] * grad).flatten(0, 1)
                grad_flat.index_put_((index.flatten(),), terms, accumulate=True)
            else:  # of one dimension it adds in order
                for channel, values in zip(grad_flat.unbind(-1), grad.unbind(-1), strict=True):
                    channel.index_add_(0, index.flatten(), (weight * values).flatten())
        if ctx.needs_input_grad[2]:
            grad_weight = torch.stack([(flat.index_select(0, rows) * grad).sum(-1) for rows in index])
        return grad_flat, None, grad_weight


class _AttachLevels(torch.autograd.Function):
    """The levels of a stack as if they were made of `tex` now."""

    @staticmethod
    def forward(ctx, tex: Tensor, *levels: Tensor) -> tuple[Tensor, ...]:
        ctx.shape = tex.shape
        return tuple(level.view_as(level) for level in levels)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        sizes = [ctx.shape, *(grad.shape for grad in grads)]
        total: Tensor | int = 0
        for grad, size in zip(reversed(grads), reversed(sizes[:-1]), strict=True):
            total = _spread(grad + total, size)
        return total, *(None for _ in grads)


def _check_texture(op: str, tex: Tensor, is_cube: bool) -> None:
    _checks.shape(op, "tex", tex, (-1, 6, -1, -1, -1) if is_cube else (-1, -1, -1, -1))
    height, width = tex.shape[-3:-1]
    if height < 1 or width < 1 or (is_cube and height != width):
        expected = "of square faces with at least one texel" if is_cube else "of at least one texel"
        _checks.fail(ValueError, op, "tex", expected, f"{height} x {width}")


def _highest(op: str, max_mip_level: int | None) -> float:
    if max_mip_level is None:
        return math.inf
    if isinstance(max_mip_level, (bool, Tensor)) or not hasattr(max_mip_level, "__index__"):
        _checks.fail(TypeError, op, "max_mip_level", "None or an int", type(max_mip_level).__name__)
    if max_mip_level < 0:
        _checks.fail(ValueError, op, "max_mip_level", "at least 0", str(max_mip_level))
    return max_mip_level.__index__()


def _halved(op: str, size: torch.Size, level: int) -> tuple[int, int]:
    height, width = size[-3:-1]
    if (height > 1 and height % 2) or (width > 1 and width % 2):
        expected = f"divisible by 2 or 1 on each side for mip level {level} (or max_mip_level={level - 1})"
        _checks.fail(ValueError, op, f"tex at level {level - 1}", expected, f"{height} x {width}")
    return max(height // 2, 1), max(width // 2, 1)


def _build(op: str, tex: Tensor, highest: float) -> list[Tensor]:
    """Levels 1 to `highest` of `tex` [..., Ht, Wt, C]."""
    levels: list[Tensor] = []
    while len(levels) < highest and max(tex.shape[-3:-1]) > 1:
        *front, height, width, channels = tex.shape
        rows, columns = _halved(op, tex.shape, len(levels) + 1)
        tex = tex.reshape(*front, rows, height // rows, columns, width // columns, channels).mean((-4, -2))
        levels.append(tex)
    return levels


def _spread(grad: Tensor, size: torch.Size) -> Tensor:
    """The transpose of one step of `_build`, to `size`."""
    *front, rows, columns, channels = grad.shape
    by_row, by_column = size[-3] // rows, size[-2] // columns
    grad = (grad / (by_row * by_column))[..., :, None, :, None, :]
    return grad.expand(*front, rows, by_row, columns, by_column, channels).reshape(size)


def _levels(op: str, tex: Tensor, mip, given: list[Tensor], highest: float, is_cube: bool) -> list[Tensor]:
    """Levels from 1 on, of `mip` or made of `tex`."""
    if mip is None:
        return _build(op, tex, highest)
    if isinstance(mip, MipStack):
        if mip.shape != tex.shape:
            _checks.fail(ValueError, op, "mip", f"made of a tex of shape {list(tex.shape)}", str(list(mip.shape)))
        levels = [level for i, level in enumerate(mip.levels) if i < highest]
        for level in levels:
            _checks.like(op, "mip", level, "tex", tex)
        return list(_AttachLevels.apply(tex, *levels)) if levels else []
    if not isinstance(mip, (list, tuple)):
        expected = "None, what texture_construct_mip returns, or a list of tensors"
        _checks.fail(TypeError, op, "mip", expected, type(mip).__name__)
    size = tex.shape
    for i, level in enumerate(given):
        rows, columns = _halved(op, size, i + 1)
        _checks.shape(op, f"mip[{i}]", level, (-1, *([6] if is_cube else []), rows, columns, tex.shape[-1]))
        if level.shape[0] != tex.shape[0]:
            _checks.fail(ValueError, op, f"mip[{i}]", f"of batch size {tex.shape[0]} as tex", str(level.shape[0]))
        if max(size[-3:-1]) == 1:
            _checks.fail(ValueError, op, "mip", f"of {i} levels, the last of 1x1 texels", f"{len(given)} levels")
        size = level.shape
    return [level for i, level in enumerate(given) if i < highest]


def _mip_level(jacobian: Tensor | None, bias: Tensor | None, levels: list[Tensor]) -> Tensor:
    """[N] in [0, len(levels) - 1]; gradients are 0 where it is limited."""
    level = bias
    if jacobian is not None:
        height, width = levels[0].shape[-3:-1]
        # `unit` keeps squares in range; neither the level nor its gradient depends on it
        unit = jacobian.detach().abs().flatten(1).amax(1).clamp(min=torch.finfo(jacobian.dtype).tiny)
        in_texels = jacobian / unit[:, None, None] * jacobian.new_tensor([[width], [height]])  # [N, 2, 2]
        dx, dy = in_texels.unbind(-1)
        # larger eigenvalue of J J^T, whose root is the longer half axis of the image of the unit circle
        half_difference = 0.5 * (dx.square().sum(-1) - dy.square().sum(-1))
        product = (dx * dy).sum(-1)
        circle = (half_difference == 0) & (product == 0)
        radius = torch.hypot(torch.where(circle, 1, half_difference), product)
        squared = 0.5 * (dx.square().sum(-1) + dy.square().sum(-1)) + torch.where(circle, 0, radius)
        point = squared == 0
        footprint = unit.log2() + 0.5 * torch.where(point, 1, squared).log2()
        footprint = torch.where(point, -torch.inf, footprint)
        level = footprint if bias is None else footprint + bias
    assert level is not None
    top = len(levels) - 1
    return level.clamp(0, top)


def _taps(where: _Where, levels: list[Tensor], level: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
    """Rows of the flattened levels, and their weights, [N] each; `level` int64 [N], or None for the first."""
    heights = [texels.shape[-3] for texels in levels]
    widths = [texels.shape[-2] for texels in levels]
    texels = [math.prod(t.shape[1:-1]) for t in levels]  # per image
    starts = [0]
    for t in levels[:-1]:
        starts.append(starts[-1] + math.prod(t.shape[:-1]))
    sizes: Sequence[Tensor | int] = (heights[0], widths[0], texels[0], 0)
    if level is not None:
        sizes = torch.tensor([heights, widths, texels, starts], device=level.device)[:, level].unbind(0)
    height, width, per_image, start = sizes
    if where.face is not None:
        indices, weights = cube.taps(where.face, where.uv, height, where.nearest)
    else:
        columns, x_weights = _along(where.uv[:, 0], width, where)
        rows, y_weights = _along(where.uv[:, 1], height, where)
        indices = [row * width + column for row in rows for column in columns]
        weights = [y * x for y in y_weights for x in x_weights]
    if levels[0].shape[0] > 1:
        start = start + where.batch * per_image
    return [index + start for index in indices], weights


def _along(coordinate: Tensor, size: Tensor | int, where: _Where) -> tuple[list[Tensor], list[Tensor]]:
    """Texels along one axis, and their weights: one or two of [N] each."""
    if where.boundary == "wrap":
        coordinate = coordinate - coordinate.detach().floor()
    position = coordinate * size - (0 if where.nearest else 0.5)
    if where.boundary != "wrap":  # also keeps it within the range of integers
        low, high = (0, size - 1) if where.boundary == "clamp" else (-1, size)
        position = torch.where(position < low, low, torch.where(position > high, high, position))
    cell = position.detach().floor()
    first = cell.long()
    if where.nearest:
        cells, weights = [first], [torch.ones_like(position)]
    else:
        cells, weights = [first, first + 1], [cell + 1 - position, position - cell]
    if where.boundary == "wrap":
        return [c.remainder(size) for c in cells], weights
    inside = [(c >= 0) & (c < size) for c in cells]
    if where.boundary == "zero":
        weights = [torch.where(i, w, 0) for i, w in zip(inside, weights, strict=True)]
    last = torch.as_tensor(size - 1, device=first.device)
    return [torch.minimum(c.clamp(min=0), last) for c in cells], weights
