"""rasterize: the public function, its autograd rule and its registration."""

from typing import NamedTuple

import torch
from torch import Tensor

from ... import _checks
from ..._backends import choose, kernels
from ..._library import register
from ...topology import Topology
from . import native, ref

BACKENDS = {"native": native, "ref": ref}
COVERAGE = {"top_left": 0, "inclusive": 1, "strict": 2}
CULL = {"back": 0, "front": 1, None: 2}
TIE = {"lowest": 0, "highest": 1}


class Raster(NamedTuple):
    """What is seen at each pixel.

    Attributes:
        face_index: [B, H, W] int32, the visible face, -1 at background.
        barycentrics: [B, H, W, 3], the weights of its three vertices at the pixel centre, 0 at background.
        depth: [B, H, W], its depth there, in the unit of the positions, 0 at background.
    """

    face_index: Tensor
    barycentrics: Tensor
    depth: Tensor


def rasterize(
    positions: Tensor,
    topology: Topology,
    size: tuple[int, int],
    *,
    coverage: str = "top_left",
    cull: str | None = "back",
    perspective_correct: bool = True,
    tie: str = "lowest",
) -> Raster:
    """The nearest triangle at each pixel centre, with its barycentrics and depth.

    The centre of the pixel in column j and row i is at (j + 0.5, i + 0.5), x right, y down. Front faces are
    counter-clockwise to the viewer, which is a negative shoelace area in these coordinates. Whether a centre is covered
    is decided in float64. A triangle is dropped when a coordinate is not finite, |x| or |y| > 2^23, a depth lies
    outside [1e-18, 1e18] (behind the camera among them), or its area is zero.

    Args:
        positions: [B, V, 3]: x and y in pixels, depth in any unit, float32 or float64 (half precision is widened inside
            autocast). See `Camera.project`.
        topology: the faces; V is topology.num_vertices.
        size: (H, W) of the image, each in [1, 2^23].
        coverage: which triangle has a centre that lies exactly on an edge: "top_left" exactly one of the two at the
            edge (as GPUs), "inclusive" both (FOCUS), "strict" none (PyTorch3D).
        cull: "back" draws front faces only, "front" back faces only, None both.
        perspective_correct: with E_i the area opposite vertex i, weights proportional to E_i / z_i, else to E_i (affine
            in the image, as FOCUS does and orthographic cameras need). The depth is interpolated accordingly.
        tie: which face wins at equal depth, the "lowest" or the "highest" number.

    Returns:
        Raster(face_index [B, H, W] int32, barycentrics [B, H, W, 3], depth [B, H, W]), with -1, 0 and 0 at background.
        The depths compared are those returned. Barycentrics and depth are once differentiable in positions (x, y and
        depth) with the visible faces held fixed; silhouettes have no gradient. Dropped and unseen triangles
        have exactly zero gradient.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, size or option, or the topology on another device.
    """
    (positions,) = _checks.floats("rasterize", positions=positions)
    _checks.mesh("rasterize", topology, "positions", positions)
    H, W = _checks.size("rasterize", size)
    options = raster_options("rasterize", coverage, cull, tie)
    perspective = _checks.flag("rasterize", "perspective_correct", perspective_correct)
    args = (positions.contiguous(), topology.faces, H, W, *options[:2], perspective, options[2])
    if choose("rasterize", BACKENDS, *args) is ref:
        return Raster(*ref.forward(*args))
    return Raster(*_Rasterize.apply(*args, topology.offsets, topology.corners))


def raster_options(op: str, coverage: str, cull: str | None, tie: str) -> tuple[int, int, bool]:
    """The options as the raw ops take them: coverage, cull, highest."""
    return (
        _checks.choice(op, "coverage", coverage, COVERAGE),
        _checks.choice(op, "cull", cull, CULL),
        bool(_checks.choice(op, "tie", tie, TIE)),
    )


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, positions, faces, H, W, coverage, cull, perspective, highest, offsets, corners):
        face_index, barycentrics, depth = _FORWARD(positions, faces, H, W, coverage, cull, perspective, highest)
        ctx.save_for_backward(positions, faces, offsets, corners, face_index)
        ctx.perspective = perspective
        ctx.mark_non_differentiable(face_index)
        ctx.set_materialize_grads(False)
        return face_index, barycentrics, depth

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, _, grad_barycentrics, grad_depth):
        grads = [None if grad is None else grad.contiguous() for grad in (grad_barycentrics, grad_depth)]
        return _BACKWARD(*grads, *ctx.saved_tensors, ctx.perspective), *[None] * 9


def _forward(*args):
    return choose("rasterize", kernels(BACKENDS), *args).forward(*args)


def _backward(grad_barycentrics, grad_depth, *args):
    return choose("rasterize", kernels(BACKENDS), *args).backward(grad_barycentrics, grad_depth, *args)


def _forward_fake(positions, faces, H, W, *rest):
    B = positions.shape[0]
    return faces.new_empty(B, H, W), positions.new_empty(B, H, W, 3), positions.new_empty(B, H, W)


_FORWARD = register(
    "_rasterize_fwd(Tensor positions, Tensor faces, int H, int W, int coverage, int cull, bool perspective,"
    " bool highest) -> (Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_BACKWARD = register(
    "_rasterize_bwd(Tensor? grad_barycentrics, Tensor? grad_depth, Tensor positions, Tensor faces, Tensor offsets,"
    " Tensor corners, Tensor face_index, bool perspective) -> Tensor",
    _backward,
    lambda grad_barycentrics, grad_depth, positions, *rest: torch.empty_like(positions),
)
