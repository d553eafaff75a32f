"""interpolate: vertex attributes at pixels, and their derivatives in the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import Raster, Topology, _checks
from ... import interpolate as _interpolate
from . import _common


def interpolate(
    attr: Tensor,
    rast: Tensor,
    tri: Tensor,
    rast_db: Tensor | None = None,
    diff_attrs: str | Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Vertex attributes at pixels: u a0 + v a1 + (1 - u - v) a2, exactly 0 at background.

    Args:
        attr: [B, V, C], [1, V, C] (shared by the batch) or [V, C] (range mode: numbers in tri are not offset for each
            image), float32 or float64.
        rast: [B, H, W, 4], the first output of `rasterize`, in the dtype of attr: u, v, z/w, face number + 1.
        tri: [F, 3] integer vertex numbers. A face number that it does not have counts as background.
        rast_db: [B, H, W, 4], the second output of `rasterize`: du/dX, du/dY, dv/dX, dv/dY for each pixel step.
        diff_attrs: which attributes to derive: "all" or a sequence of channel numbers, in any order.

    Returns:
        ``(out [B, H, W, C], out_da [B, H, W, 2 D])``. For each of the D channels of diff_attrs, out_da holds d/dX and
        d/dY; it is [B, H, W, 0] unless both rast_db and diff_attrs are given. Both are once differentiable in attr, in
        u and v of rast and in rast_db; z/w and the face number get zero gradient. Gradients are deterministic.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, several devices, or a channel or vertex number out of range.

    Differences from upstream:
        * CPU tensors, float64, tri in any integer dtype and tensors that are not contiguous are served.
        * A vertex number out of range is an error; upstream reads 0 there.
    """
    attr, rast = _checks.floats("interpolate", attr=attr, rast=rast)
    _common.rast_of("interpolate", rast)
    B = rast.shape[0]
    if attr.dim() == 2:
        attr = attr.expand(B, -1, -1)
    _checks.shape("interpolate", "attr", attr, (-1, -1, -1))
    if attr.shape[0] != B:
        if attr.shape[0] != 1:
            _checks.fail(ValueError, "interpolate", "attr", f"of batch 1 or {B} as rast", str(attr.shape[0]))
        attr = attr.expand(B, -1, -1)
    topology = _common.topology("interpolate", tri, attr.shape[1])
    _checks.on("interpolate", "tri", topology.device, "attr", attr.device)
    faces = _common.as_numbers(rast[..., 3])
    out = _weighted(attr, faces, rast[..., 0], rast[..., 1], 1, topology)
    if rast_db is None or diff_attrs is None:
        if diff_attrs is not None:
            _channels(diff_attrs, attr.shape[2])
        return out, out.new_zeros(*out.shape[:3], 0)

    _, rast_db = _checks.floats("interpolate", attr=attr, rast_db=rast_db)
    _checks.shape("interpolate", "rast_db", rast_db, (*rast.shape[:3], 4))
    channels = _channels(diff_attrs, attr.shape[2])
    if channels is not None:
        attr = torch.stack([attr[..., channel] for channel in channels], -1) if channels else attr[..., :0]
    u_x, u_y, v_x, v_y = rast_db.unbind(-1)
    # the third weight 1 - u - v has derivative -(u' + v')
    by_x, by_y = _weighted(attr, faces, u_x, v_x, 0, topology), _weighted(attr, faces, u_y, v_y, 0, topology)
    return out, torch.stack([by_x, by_y], -1).flatten(3)


def _weighted(attr: Tensor, faces: Tensor, u: Tensor, v: Tensor, total: int, topology: Topology) -> Tensor:
    """[B, H, W, C] of attr [B, V, C], weighted by u, v and total - u - v."""
    raster = Raster(faces, torch.stack([u, v, total - u - v], -1), u)
    return _interpolate(attr, raster, topology).permute(0, 2, 3, 1).contiguous()


def _channels(diff_attrs: str | Sequence[int], count: int) -> list[int] | None:
    """None for all of them."""
    if isinstance(diff_attrs, str):
        if diff_attrs != "all":
            _checks.fail(ValueError, "interpolate", "diff_attrs", "'all' or channel numbers", repr(diff_attrs))
        return None
    try:
        channels = [int(channel.__index__()) for channel in diff_attrs]
    except (AttributeError, TypeError):
        _checks.fail(TypeError, "interpolate", "diff_attrs", "'all' or channel numbers", repr(diff_attrs))
    for channel in channels:
        if not 0 <= channel < count:
            _checks.fail(ValueError, "interpolate", "diff_attrs", f"in [0, {count})", str(channel))
    return channels
