"""interpolate: the public function, its autograd rule and its registration."""

import torch
from torch import Tensor

from ... import _checks
from ..._backends import choose, kernels
from ..._library import register
from ...topology import Topology
from ..rasterize.op import Raster
from . import native, ref

BACKENDS = {"native": native, "ref": ref}


def interpolate(attributes: Tensor, raster: Raster, topology: Topology) -> Tensor:
    """Vertex attributes at pixels: sum_k barycentrics[k] * attributes[faces[face_index, k]].

    Args:
        attributes: [B, V, C], any C >= 0, float32 or float64 (half precision is widened inside autocast).
        raster: what `rasterize` gave for this topology, barycentrics in the dtype of attributes. A face number
            that the topology does not have counts as background.
        topology: the faces; V is topology.num_vertices.

    Returns:
        [B, C, H, W], exactly zero at background pixels. Once differentiable in attributes and raster.barycentrics (and
        so in the positions that were rasterized), the visible face of each pixel held fixed.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, or several devices.
    """
    if not isinstance(raster, Raster):
        _checks.fail(TypeError, "interpolate", "raster", "a focus_kernels.Raster", type(raster).__name__)
    face_index = raster.face_index
    _checks.tensor("interpolate", "raster.face_index", face_index)
    if face_index.dtype != torch.int32:
        _checks.fail(
            TypeError, "interpolate", "raster.face_index", "int32", str(face_index.dtype).removeprefix("torch.")
        )
    names = {"attributes": attributes, "raster.barycentrics": raster.barycentrics}
    attributes, barycentrics = _checks.floats("interpolate", **names)
    _checks.shape("interpolate", "attributes", attributes, (-1, -1, -1))
    _checks.mesh("interpolate", topology, "attributes", attributes, attributes.shape[2])
    _checks.shape("interpolate", "raster.face_index", face_index, (attributes.shape[0], -1, -1))
    _checks.shape("interpolate", "raster.barycentrics", barycentrics, (*face_index.shape, 3))
    _checks.on("interpolate", "raster.face_index", face_index.device, "attributes", attributes.device)
    args = (attributes.contiguous(), topology.faces, face_index.contiguous(), barycentrics.contiguous())
    if choose("interpolate", BACKENDS, *args) is ref:
        return ref.forward(*args)
    return _Interpolate.apply(*args, topology.offsets, topology.corners)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attributes, faces, face_index, barycentrics, offsets, corners):
        ctx.save_for_backward(attributes, faces, offsets, corners, face_index, barycentrics)
        return _FORWARD(attributes, faces, face_index, barycentrics)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        grad_attributes, grad_barycentrics = _BACKWARD(grad.contiguous(), *ctx.saved_tensors)
        return grad_attributes, None, None, grad_barycentrics, None, None


def _forward(*args):
    return choose("interpolate", kernels(BACKENDS), *args).forward(*args)


def _backward(grad, attributes, faces, offsets, corners, face_index, barycentrics):
    backend = choose("interpolate", kernels(BACKENDS), attributes, faces, face_index, barycentrics)
    return backend.backward(grad, attributes, faces, offsets, corners, face_index, barycentrics)


def _forward_fake(attributes, faces, face_index, barycentrics):
    B, H, W = face_index.shape
    return attributes.new_empty(B, attributes.shape[2], H, W)


_FORWARD = register(
    "_interpolate_fwd(Tensor attributes, Tensor faces, Tensor face_index, Tensor barycentrics) -> Tensor",
    _forward,
    _forward_fake,
)
_BACKWARD = register(
    "_interpolate_bwd(Tensor grad, Tensor attributes, Tensor faces, Tensor offsets, Tensor corners, Tensor face_index,"
    " Tensor barycentrics) -> (Tensor, Tensor)",
    _backward,
    lambda grad, attributes, faces, offsets, corners, face_index, barycentrics: (
        torch.empty_like(attributes),
        torch.empty_like(barycentrics),
    ),
)
