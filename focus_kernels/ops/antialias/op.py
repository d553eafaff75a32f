"""antialias: the public function, its autograd rule and its registration."""

import torch
from torch import Tensor

from ... import _checks
from ..._backends import choose, kernels
from ..._library import register
from ...topology import Topology
from ..rasterize.op import Raster
from . import native, ref

BACKENDS = {"native": native, "ref": ref}


def antialias(image: Tensor, raster: Raster, positions: Tensor, topology: Topology) -> Tensor:
    """Silhouettes of an image made smooth, with gradients to the vertices that they run through.

    Between the centres of two pixels, side by side or one above the other, a silhouette is an edge at which the surface
    seen at one of them ends: no other face is there, or it faces the other way or was dropped by `rasterize`, or the
    edge has not two faces of one orientation (see `Topology.opposite`). The surface is followed from the pixel over as
    many faces as lie between, the nearer pixel's first, so that faces may be smaller than pixels. Where it folds back
    behind that edge it is followed on, for at most 32 faces, while it is within its own pixel and not past the other
    centre: of the edges at which it ends or folds back, the one farthest along is the silhouette, unless it lies deeper
    than what the other centre shows. An edge is taken across rows where it is steeper than 45 degrees, else across
    columns. Continued as a straight line, it covers a share `far` of the farther pixel's square and leaves a share
    `near` of the nearer one's bare; then

        out[near pixel] = image[near pixel] + near * (image[far pixel] - image[near pixel]),
        out[far pixel] = image[far pixel] + far * (image[near pixel] - image[far pixel]),

    summed over the four neighbours of a pixel. With t the way from the near centre to the edge (1 = the far centre),
    v = t - 1/2, and h half the columns by which the edge moves per row (or the reverse): far = 0 and near = -v where
    v <= -h; far = v and near = 0 where v >= h; else far = (v + h)^2 / 4h and near = (h - v)^2 / 4h. Every other pixel
    keeps its bits. An edge between an outer pixel's centre and the border of the image is not seen.

    Args:
        image: [B, C, H, W], any C >= 0, float32 or float64 (half precision is widened inside autocast). Background and
            foreground alike are blended.
        raster: what `rasterize` gave for these positions and this topology; face_index and depth (in the dtype of
            image) are read. A face number that the topology does not have counts as background.
        positions: [B, V, 3]: x and y in pixels, depth, as `rasterize` took them.
        topology: the faces; V is topology.num_vertices.

    Returns:
        [B, C, H, W]. Once differentiable in image and in the x and y of positions: each silhouette edge between two
        pixels passes a gradient to its two ends. The depth of positions has gradient 0, and so has every vertex
        without a silhouette. What is seen, and which edges are silhouettes, is held fixed; raster gets no gradient.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, or several devices.
    """
    if not isinstance(raster, Raster):
        _checks.fail(TypeError, "antialias", "raster", "a focus_kernels.Raster", type(raster).__name__)
    face_index = raster.face_index
    _checks.tensor("antialias", "raster.face_index", face_index)
    if face_index.dtype != torch.int32:
        _checks.fail(TypeError, "antialias", "raster.face_index", "int32", str(face_index.dtype).removeprefix("torch."))
    names = {"image": image, "positions": positions, "raster.depth": raster.depth}
    image, positions, depth = _checks.floats("antialias", **names)
    _checks.shape("antialias", "image", image, (-1, -1, -1, -1))
    _checks.mesh("antialias", topology, "positions", positions)
    B, _, H, W = image.shape
    _checks.shape("antialias", "positions", positions, (B, -1, 3))
    _checks.shape("antialias", "raster.face_index", face_index, (B, H, W))
    _checks.shape("antialias", "raster.depth", depth, (B, H, W))
    _checks.on("antialias", "raster.face_index", face_index.device, "image", image.device)
    args: tuple = (image.contiguous(), positions.contiguous(), topology.faces, topology.opposite)
    args += (face_index.contiguous(), depth.detach().contiguous())
    if choose("antialias", BACKENDS, *args) is ref:
        return ref.forward(*args)
    return _Antialias.apply(*args, topology.offsets, topology.corners)


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, positions, faces, opposite, face_index, depth, offsets, corners):
        out, edges = _FORWARD(image, positions, faces, opposite, face_index, depth)
        ctx.save_for_backward(image, positions, faces, offsets, corners, edges)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        needed = ctx.needs_input_grad[:2]
        grads = _BACKWARD(grad.contiguous(), *ctx.saved_tensors, *needed)
        return *(value if asked else None for value, asked in zip(grads, needed, strict=True)), *[None] * 6


def _forward(*args):
    return choose("antialias", kernels(BACKENDS), *args).forward(*args)


def _backward(*args):
    return choose("antialias", kernels(BACKENDS), *args).backward(*args)


def _forward_fake(image, positions, faces, *rest):
    B, _, H, W = image.shape
    return torch.empty_like(image), faces.new_empty(B, 2, H, W)


def _backward_fake(grad, image, positions, faces, offsets, corners, edges, for_image, for_positions):
    return (
        torch.empty_like(image) if for_image else image.new_empty(0),
        torch.empty_like(positions) if for_positions else image.new_empty(0),
    )


_FORWARD = register(
    "_antialias_fwd(Tensor image, Tensor positions, Tensor faces, Tensor opposite, Tensor face_index, Tensor depth)"
    " -> (Tensor, Tensor)",
    _forward,
    _forward_fake,
)
# A gradient that is not asked for is an empty tensor.
_BACKWARD = register(
    "_antialias_bwd(Tensor grad, Tensor image, Tensor positions, Tensor faces, Tensor offsets, Tensor corners,"
    " Tensor edges, bool for_image, bool for_positions) -> (Tensor, Tensor)",
    _backward,
    _backward_fake,
)
