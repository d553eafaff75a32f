"""rasterize and depth peeling."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import torch
from torch import Tensor

from ... import _checks, rasterize_clip
from . import _common
from .settings import RasterizeCudaContext, RasterizeGLContext, context


def rasterize(
    glctx: RasterizeCudaContext | RasterizeGLContext,
    pos: Tensor,
    tri: Tensor,
    resolution: Sequence[int],
    ranges: Tensor | None = None,
    grad_db: bool = True,
) -> tuple[Tensor, Tensor]:
    """The nearest triangle at each pixel centre, with its barycentrics, their derivatives and z/w.

    Row 0 of the image is y = -1, column 0 is x = -1: the centre of column px and row py is at
    ((2 px + 1) / W - 1, (2 py + 1) / H - 1) after the division by w. Triangles are clipped to the frustum
    (-w <= x, y, z <= w), never culled, and covered by the top-left rule on positions snapped to 1/16 pixel; the
    smallest z/w wins, then the highest face number. See `focus_kernels.rasterize_clip`.

    Args:
        glctx: a context of this module.
        pos: [B, V, 4] clip-space positions (instanced mode), or [V, 4] (range mode), float32 or float64.
        tri: [F, 3] integer vertex numbers.
        resolution: (height, width).
        ranges: in range mode int32 [B, 2] on the CPU: the first face and the number of faces of each image. Not read
            in instanced mode.
        grad_db: whether the second output passes gradients to pos.

    Returns:
        ``(rast [B, H, W, 4], rast_db [B, H, W, 4])``: u, v (perspective-correct weights of the face's vertices 0 and
        1), z/w, face number + 1; and du/dX, du/dY, dv/dX, dv/dY for a step of one pixel. All are 0 at background.
        rast_db is [B, H, W, 0] in a `RasterizeGLContext` with output_db=False. u, v and rast_db are once differentiable
        in pos, with visibility held fixed; z/w and the face number have no gradient, as upstream. In range mode the
        gradients of the images add up.

        Face numbers beyond what a float32 can count (2^24) are coded by the bits of the float: the k-th float after
        2^24 stands for 2^24 + k. The operations of this module read that; float64 holds all numbers as they are.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or size, range mode without ranges, several devices, or a number out of range.
        RuntimeError: a `DepthPeeler` is open in this context.

    Differences from upstream:
        * CPU tensors, float64, tri in any integer dtype and tensors that are not contiguous are served, in any size.
        * Positions are divided and rounded to 1/16 pixel as doubles: where float32 falls on the other side of a half, a
          pixel on a border may differ.
        * The depths that are compared are doubles, upstream's 32-bit fixed point: faces that are nearer to each other
          than its step may be ordered differently.
        * Small triangles that upstream can lose, and faces with coordinates that are not finite (dropped here, with
          zero gradient), are no special case.
        * Gradients are the same at every run; upstream adds them up in any order.
        * A vertex number out of range is an error; upstream drops the face.
    """
    if context("rasterize", glctx).peeler is not None:
        raise RuntimeError("rasterize(): a DepthPeeler is open in this context; call its rasterize_next_layer()")
    arguments = _checked("rasterize", glctx, pos, tri, resolution, ranges, grad_db)
    return _layer(None, *arguments)[:2]


class DepthPeeler:
    """Several depth layers of one scene, as a context manager.

    ``with DepthPeeler(glctx, pos, tri, resolution) as peeler: rast, rast_db = peeler.rasterize_next_layer()``. The
    first layer is what `rasterize` sees; at each pixel the next one is the nearest surface strictly behind the last
    (surfaces at exactly the same z/w are peeled together). When nothing is left, layers are all background.

    The arguments and the errors are those of `rasterize`. While it is open, `rasterize` and other peelers are refused
    in the same context (RuntimeError). Each layer is differentiable as `rasterize` is.

    Differences from upstream: those of `rasterize`.
    """

    def __init__(
        self,
        glctx: RasterizeCudaContext | RasterizeGLContext,
        pos: Tensor,
        tri: Tensor,
        resolution: Sequence[int],
        ranges: Tensor | None = None,
        grad_db: bool = True,
    ) -> None:
        self._context = context("DepthPeeler", glctx)
        self._arguments = _checked("DepthPeeler", glctx, pos, tri, resolution, ranges, grad_db)
        self._behind: Tensor | None = None

    def __enter__(self) -> DepthPeeler:
        if self._context.peeler is not None:
            raise RuntimeError("DepthPeeler: another one is open in this context")
        self._context.peeler = self
        self._behind = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._context.peeler is self:
            self._context.peeler = None
        self._behind = None

    def rasterize_next_layer(self) -> tuple[Tensor, Tensor]:
        """``(rast, rast_db)`` of the next layer, as `rasterize` gives them. RuntimeError outside of the `with`."""
        if self._context.peeler is not self:
            raise RuntimeError("DepthPeeler.rasterize_next_layer(): to be called inside of `with`")
        rast, rast_db, self._behind = _layer(self._behind, *self._arguments)
        return rast, rast_db


def _checked(op, glctx, pos, tri, resolution, ranges, grad_db) -> tuple:
    context(op, glctx)
    (pos,) = _checks.floats(op, pos=pos)
    grad_db = _checks.flag(op, "grad_db", grad_db)
    if isinstance(resolution, (Tensor, str)) or not hasattr(resolution, "__iter__"):
        _checks.fail(TypeError, op, "resolution", "a pair (height, width) of ints", type(resolution).__name__)
    # tensors of one integer are taken too
    resolution = tuple(
        int(side) if isinstance(side, Tensor) and side.dim() == 0 and not side.is_floating_point() else side
        for side in resolution
    )
    try:
        size = _checks.size(op, resolution)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("expected size", "expected resolution")) from None
    if pos.dim() == 2:
        _checks.shape(op, "pos", pos, (-1, 4))
        topology = _common.topology(op, tri, pos.shape[0])
        if ranges is None:
            _checks.fail(ValueError, op, "ranges", "int32 [B, 2], as pos is [V, 4] (range mode)", "None")
        ranges = _ranges(op, ranges, topology.num_faces)
        pos = pos.expand(ranges.shape[0], -1, -1)
    else:
        _checks.shape(op, "pos", pos, (-1, -1, 4))
        topology = _common.topology(op, tri, pos.shape[1])
        ranges = None
    _checks.on(op, "tri", topology.device, "pos", pos.device)
    return pos, topology, size, ranges, glctx.output_db, grad_db


def _ranges(op: str, ranges: Tensor, num_faces: int) -> Tensor:
    _checks.tensor(op, "ranges", ranges)
    if ranges.dtype != torch.int32:
        _checks.fail(TypeError, op, "ranges", "int32", str(ranges.dtype).removeprefix("torch."))
    _checks.shape(op, "ranges", ranges, (-1, 2))
    if ranges.device.type != "cpu":
        _checks.fail(ValueError, op, "ranges", "on the CPU", str(ranges.device))
    for first, count in ranges.tolist():
        if first < 0 or count < 0 or first + count > num_faces:
            _checks.fail(ValueError, op, "ranges", f"within the {num_faces} faces of tri", f"{first} + {count}")
    return ranges


def _layer(behind, pos, topology, size, ranges, output_db, grad_db) -> tuple[Tensor, Tensor, Tensor]:
    raster = rasterize_clip(pos, topology, size, ranges=ranges, derivatives=output_db, behind=behind)
    rest = torch.stack([raster.depth.detach(), _common.as_floats(raster.face_index, pos.dtype)], -1)
    rast = torch.cat([raster.barycentrics, rest], -1)
    if raster.derivatives is None:
        rast_db = rast.new_zeros(*rast.shape[:3], 0)
    else:
        rast_db = raster.derivatives if grad_db else raster.derivatives.detach()
    return rast, rast_db, raster.nearest
