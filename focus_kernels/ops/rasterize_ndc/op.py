"""rasterize_ndc: the public function, its autograd rule and its registration."""

from typing import NamedTuple

import torch
from torch import Tensor

from ... import _checks
from ..._backends import choose, kernels
from ..._library import register
from ...topology import Topology
from . import native, ref

BACKENDS = {"native": native, "ref": ref}


class NdcRaster(NamedTuple):
    """What is seen at each pixel.

    Attributes:
        face_index: [B, H, W] int32, the visible face, -1 at background.
        depth: [B, H, W], its depth there, in the unit of the positions, -1 at background.
        barycentrics: [B, H, W, 3], the weights of its three vertices at the pixel centre, -1 at background.
        distances: [B, H, W], minus the squared distance (NDC) from the centre to its nearest edge, -1 at background.
    """

    face_index: Tensor
    depth: Tensor
    barycentrics: Tensor
    distances: Tensor


def rasterize_ndc(
    positions: Tensor,
    topology: Topology,
    size: tuple[int, int],
    *,
    perspective_correct: bool = False,
    clip_barycentrics: bool = False,
    cull_backfaces: bool = False,
) -> NdcRaster:
    """The nearest triangle at each pixel centre by PyTorch3D's rules: its depth, barycentrics and distance to an edge.

    The frame is PyTorch3D's normalised device coordinates: x left, y up, z forward. The shorter side of the image spans
    [-1, 1] and pixels are square, so with s = min(H, W) / 2 the point (x, y) lies at (W / 2 - s x, H / 2 - s y) in the
    pixels of `rasterize`. These are rounded to the dtype of the positions; what they cover is decided in float64.

    A centre exactly on an edge belongs to no face. A face is dropped when a depth lies outside [1e-8, 1e18], its
    doubled area A (NDC, positive when counter-clockwise in the image) is in [-1e-8, 1e-8], a coordinate is not finite,
    or one is more than 2^23 pixels off. The smallest depth wins, then the lowest index.

    With E_i the doubled area opposite vertex i, the weights are E_i / (A + 1e-8), so that they sum to A / (A + 1e-8),
    and the depth, sum of weights times z_i, is scaled alike. PyTorch3D has this 1e-8, so it is in the values, the order
    of depths and the gradients here.

    Args:
        positions: [B, V, 3]: x, y in NDC, depth in any unit, float32 or float64 (half precision is widened inside
            autocast).
        topology: the faces; V is topology.num_vertices.
        size: (H, W) of the image, each in [1, 2^23].
        perspective_correct: weights proportional to E_i / z_i that sum to 1, and the depth accordingly. Where A / (A +
            1e-8) z_0 z_1 z_2 / depth is below 1e-8, weights and depth are scaled by it over 1e-8; faces are ordered
            by the depths before.
        clip_barycentrics: divide weights (and depth) by their sum, or by 1e-5 where that is larger.
        cull_backfaces: draw only faces with A > 0.

    Returns:
        NdcRaster(face_index [B, H, W] int32, depth [B, H, W], barycentrics [B, H, W, 3], distances [B, H, W]), -1 at
        background. The last three are once differentiable in positions (x, y and depth) with the visible faces held
        fixed; silhouettes have no gradient. Dropped and unseen triangles have exactly zero gradient.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or size, or the topology on another device.
    """
    (positions,) = _checks.floats("rasterize_ndc", positions=positions)
    _checks.mesh("rasterize_ndc", topology, "positions", positions)
    H, W = _checks.size("rasterize_ndc", size)
    perspective = _checks.flag("rasterize_ndc", "perspective_correct", perspective_correct)
    clip = _checks.flag("rasterize_ndc", "clip_barycentrics", clip_barycentrics)
    cull = 0 if _checks.flag("rasterize_ndc", "cull_backfaces", cull_backfaces) else 2  # as rasterize's "back", None
    args = (positions.contiguous(), topology.faces, H, W, cull, perspective, clip)
    if choose("rasterize_ndc", BACKENDS, *args) is ref:
        return NdcRaster(*ref.forward(*args))
    return NdcRaster(*_RasterizeNdc.apply(*args, topology.offsets, topology.corners))


class _RasterizeNdc(torch.autograd.Function):
    @staticmethod
    def forward(ctx, positions, faces, H, W, cull, perspective, clip, offsets, corners):
        face_index, depth, barycentrics, distances = _FORWARD(positions, faces, H, W, cull, perspective, clip)
        ctx.save_for_backward(positions, faces, offsets, corners, face_index)
        ctx.options = perspective, clip
        ctx.mark_non_differentiable(face_index)
        ctx.set_materialize_grads(False)
        return face_index, depth, barycentrics, distances

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, _, *grads):
        grads = [None if grad is None else grad.contiguous() for grad in grads]
        return _BACKWARD(*grads, *ctx.saved_tensors, *ctx.options), *[None] * 8


def _forward(*args):
    return choose("rasterize_ndc", kernels(BACKENDS), *args).forward(*args)


def _backward(grad_depth, grad_barycentrics, grad_distances, *args):
    grads = (grad_depth, grad_barycentrics, grad_distances)
    return choose("rasterize_ndc", kernels(BACKENDS), *args).backward(*grads, *args)


def _forward_fake(positions, faces, H, W, *rest):
    B = positions.shape[0]
    depth, distances = positions.new_empty(B, H, W), positions.new_empty(B, H, W)
    return faces.new_empty(B, H, W), depth, positions.new_empty(B, H, W, 3), distances


_FORWARD = register(
    "_rasterize_ndc_fwd(Tensor positions, Tensor faces, int H, int W, int cull, bool perspective, bool clip)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_BACKWARD = register(
    "_rasterize_ndc_bwd(Tensor? grad_depth, Tensor? grad_barycentrics, Tensor? grad_distances, Tensor positions,"
    " Tensor faces, Tensor offsets, Tensor corners, Tensor face_index, bool perspective, bool clip) -> Tensor",
    _backward,
    lambda grad_depth, grad_barycentrics, grad_distances, positions, *rest: torch.empty_like(positions),
)
