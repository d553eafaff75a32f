"""rasterize_clip: the public function, its autograd rule and its registration."""

from typing import NamedTuple

import torch
from torch import Tensor

from ... import _checks
from ..._backends import choose, kernels
from ..._library import register
from ...topology import Topology
from . import native, ref

BACKENDS = {"native": native, "ref": ref}


class ClipRaster(NamedTuple):
    """What is seen at each pixel.

    Attributes:
        face_index: [B, H, W] int32, the visible face, -1 at background.
        barycentrics: [B, H, W, 2], the perspective-correct weights u, v of its vertices 0 and 1, 0 at background.
        depth: [B, H, W], its z/w, in [-1, 1], 0 at background. Not differentiable.
        derivatives: [B, H, W, 4], du/dX, du/dY, dv/dX, dv/dY per pixel to the next column and row, 0 at background;
            None unless asked for.
        nearest: [B, H, W] float64, the depth that was compared, +inf at background. Not differentiable.
    """

    face_index: Tensor
    barycentrics: Tensor
    depth: Tensor
    derivatives: Tensor | None
    nearest: Tensor


def rasterize_clip(
    positions: Tensor,
    topology: Topology,
    size: tuple[int, int],
    *,
    ranges: Tensor | None = None,
    derivatives: bool = False,
    behind: Tensor | None = None,
) -> ClipRaster:
    """The nearest triangle at each pixel centre, from positions in clip space, by the rules of GPU rasterizers.

    The pixel in column j and row i is sampled at x/w = (2j + 1)/W - 1, y/w = (2i + 1)/H - 1, so row 0 is the bottom of
    the view. A triangle that is not wholly inside -w <= x, y, z <= w is clipped against it; neither winding is culled.
    Corners are rounded to 1/16 of a pixel about the middle of the image (half to even), which decides exactly which
    centres are covered: those inside, and of those on an edge the ones on top and left edges, rows counted downwards.
    The smallest z/w wins, affine over the rounded triangle, in float64; at equal depth the highest face number. A face
    is dropped when a coordinate is not finite or its rounded area is zero.

    What is returned at a pixel comes from the positions themselves, neither clipped nor rounded, in float64 and rounded
    once. Since rounding may move a centre into a face by 1/16 of a pixel, u and v are clamped to [0, 1] and then
    divided by max(u + v, 1). Where the centre lies so far outside of a face that a weight exceeds 256 (a face that is
    thinner than 1/4096 of a pixel), there is no gradient and the derivatives are 0; where float64 does not tell a face
    from a line, u = v = 0 as well.

    Args:
        positions: [B, V, 4]: x, y, z, w in clip space, float32 or float64 (half precision is widened inside autocast).
        topology: the faces; V is topology.num_vertices.
        size: (H, W) of the image, each in [1, 2^23], H * W <= 2^44.
        ranges: [B, 2] int32, the first face and the number of faces of each image; None draws all faces. On the CPU
            they are checked; on a GPU nothing waits for them, and numbers that are no face of the mesh draw nothing.
        derivatives: whether to return the change of u and v from pixel to pixel.
        behind: [B, H, W] float64, `nearest` of an earlier call: only what lies strictly behind it is seen, so that
            repeated calls peel one layer after another. NaN shows nothing.

    Returns:
        ClipRaster(face_index [B, H, W] int32, barycentrics [B, H, W, 2], depth [B, H, W], derivatives [B, H, W, 4] or
        None, nearest [B, H, W] float64), with -1, 0, 0, 0 and +inf at background. Barycentrics and derivatives are once
        differentiable in x, y and w of positions with the visible faces held fixed; the gradient is that of the
        formula before it is clamped. Depth has no gradient: interpolate one as an attribute. Dropped and unseen
        triangles have exactly zero gradient, and so has z.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, size or range, or tensors on different devices.
    """
    (positions,) = _checks.floats("rasterize_clip", positions=positions)
    _checks.mesh("rasterize_clip", topology, "positions", positions, width=4)
    H, W = _checks.size("rasterize_clip", size)
    if H * W > _MOST_PIXELS:  # beyond, edge functions are not exact in float64
        _checks.fail(ValueError, "rasterize_clip", "size", "at most 2^44 pixels", str(H * W))
    if ranges is not None:
        ranges = _checked_ranges(ranges, positions, topology)
    if behind is not None:
        behind = _checked_behind(behind, positions, H, W)
    derivatives = _checks.flag("rasterize_clip", "derivatives", derivatives)
    args = (positions.contiguous(), topology.faces, H, W, ranges, behind, derivatives)
    if choose("rasterize_clip", BACKENDS, *args) is ref:
        found = ref.forward(*args)
    else:
        found = _RasterizeClip.apply(*args, topology.offsets, topology.corners)
    face_index, barycentrics, depth, steps, nearest = found
    return ClipRaster(face_index, barycentrics, depth, steps if derivatives else None, nearest)


_MOST_PIXELS = 2**44


def _checked_ranges(ranges: Tensor, positions: Tensor, topology: Topology) -> Tensor:
    _checks.tensor("rasterize_clip", "ranges", ranges)
    if ranges.dtype != torch.int32:
        got = str(ranges.dtype).removeprefix("torch.")
        _checks.fail(TypeError, "rasterize_clip", "ranges", "int32", got)
    _checks.shape("rasterize_clip", "ranges", ranges, (positions.shape[0], 2))
    if ranges.device.type != "cpu":
        _checks.on("rasterize_clip", "ranges", ranges.device, "positions", positions.device)
        return ranges.contiguous()
    for first, count in ranges.tolist():
        if first < 0 or count < 0 or first + count > topology.num_faces:
            wanted = f"(first face, number of faces) within {topology.num_faces} faces"
            _checks.fail(ValueError, "rasterize_clip", "ranges", wanted, f"({first}, {count})")
    return ranges.to(positions.device).contiguous()


def _checked_behind(behind: Tensor, positions: Tensor, H: int, W: int) -> Tensor:
    _checks.tensor("rasterize_clip", "behind", behind)
    if behind.dtype != torch.float64:
        got = str(behind.dtype).removeprefix("torch.")
        _checks.fail(TypeError, "rasterize_clip", "behind", "float64", got)
    _checks.shape("rasterize_clip", "behind", behind, (positions.shape[0], H, W))
    _checks.on("rasterize_clip", "behind", behind.device, "positions", positions.device)
    return behind.detach().contiguous()


class _RasterizeClip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, positions, faces, H, W, ranges, behind, derivatives, offsets, corners):
        found = _FORWARD(positions, faces, H, W, ranges, behind, derivatives)
        face_index, _, depth, steps, nearest = found
        ctx.save_for_backward(positions, faces, offsets, corners, face_index)
        ctx.mark_non_differentiable(face_index, depth, nearest, *(() if derivatives else (steps,)))
        ctx.set_materialize_grads(False)
        ctx.derivatives = derivatives
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, _, grad_barycentrics, __, grad_derivatives, ___):
        grads = [grad_barycentrics, grad_derivatives if ctx.derivatives else None]  # compilers send one in any case
        grads = [None if grad is None else grad.contiguous() for grad in grads]
        return _BACKWARD(*grads, *ctx.saved_tensors), *[None] * 8


def _forward(*args):
    return choose("rasterize_clip", kernels(BACKENDS), *args).forward(*args)


def _backward(grad_barycentrics, grad_derivatives, *args):
    backend = choose("rasterize_clip", kernels(BACKENDS), *args)
    return backend.backward(grad_barycentrics, grad_derivatives, *args)


def _forward_fake(positions, faces, H, W, ranges, behind, derivatives):
    B = positions.shape[0]
    steps = positions.new_empty(B, H, W, 4 if derivatives else 0)
    nearest = positions.new_empty(B, H, W, dtype=torch.float64)
    return (
        faces.new_empty(B, H, W),
        positions.new_empty(B, H, W, 2),
        positions.new_empty(B, H, W),
        steps,
        nearest,
    )


_FORWARD = register(
    "_rasterize_clip_fwd(Tensor positions, Tensor faces, int H, int W, Tensor? ranges, Tensor? behind,"
    " bool derivatives) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_BACKWARD = register(
    "_rasterize_clip_bwd(Tensor? grad_barycentrics, Tensor? grad_derivatives, Tensor positions, Tensor faces,"
    " Tensor offsets, Tensor corners, Tensor face_index) -> Tensor",
    _backward,
    lambda grad_barycentrics, grad_derivatives, positions, *rest: torch.empty_like(positions),
)
