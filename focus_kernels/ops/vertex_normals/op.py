"""vertex_normals: the public function, its autograd rule and its registration."""

import torch
from torch import Tensor

from ... import _checks
from ..._backends import choose, kernels
from ..._library import register
from ...topology import Topology
from . import native, ref

BACKENDS = {"native": native, "ref": ref}


def vertex_normals(vertices: Tensor, topology: Topology, *, normalize: bool = True) -> Tensor:
    """Area-weighted vertex normals: the sum of the cross products (v1 - v0) x (v2 - v0) of the faces at each vertex.

    With N that sum, the result is N / |N|, or with `normalize=False` N / sum of |cross product|, the area-weighted mean
    of the unit face normals, whose length is at most 1 (FOCUS, `calc_vertex_normal`). Counter-clockwise faces point
    to the viewer. The unit is free: the result does not depend on it.

    Args:
        vertices: [B, V, 3], float32 or float64 (half precision is widened inside autocast).
        topology: the faces; V is topology.num_vertices.
        normalize: unit length, or the mean.

    Returns:
        [B, V, 3] in the frame of `vertices`. Zero where N (or the sum) is zero: at vertices without faces and where all
        faces are degenerate. Faces whose cross product is not finite are left out. Once differentiable in vertices,
        with zero gradient for what is left out; the kernels leave out a face's gradient too where it is beyond the
        range of the dtype (a sliver 1e-40 high), where plain PyTorch gives infinities.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, or the topology on another device.
    """
    (vertices,) = _checks.floats("vertex_normals", vertices=vertices)
    _checks.mesh("vertex_normals", topology, "vertices", vertices)
    normalize = _checks.flag("vertex_normals", "normalize", normalize)
    args = (vertices.contiguous(), topology.faces, topology.offsets, topology.corners, normalize)
    if choose("vertex_normals", BACKENDS, *args) is ref:
        return ref.forward(*args)
    return _VertexNormals.apply(*args)


class _VertexNormals(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vertices, faces, offsets, corners, normalize):
        ctx.save_for_backward(vertices, faces, offsets, corners)
        ctx.normalize = normalize
        return _FORWARD(vertices, faces, offsets, corners, normalize)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return _BACKWARD(grad.contiguous(), *ctx.saved_tensors, ctx.normalize), None, None, None, None


def _forward(*args):
    return choose("vertex_normals", kernels(BACKENDS), *args).forward(*args)


def _backward(grad, *args):
    return choose("vertex_normals", kernels(BACKENDS), *args).backward(grad, *args)


_FORWARD = register(
    "_vertex_normals_fwd(Tensor vertices, Tensor faces, Tensor offsets, Tensor corners, bool normalize) -> Tensor",
    _forward,
    lambda vertices, *rest: torch.empty_like(vertices),
)
_BACKWARD = register(
    "_vertex_normals_bwd(Tensor grad, Tensor vertices, Tensor faces, Tensor offsets, Tensor corners, bool normalize)"
    " -> Tensor",
    _backward,
    lambda grad, vertices, *rest: torch.empty_like(vertices),
)
