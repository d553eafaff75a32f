"""What the operations share: argument checks, cached topologies and face numbers as floats."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import Topology, _checks
from .._topologies import TopologyCache

_TOPOLOGIES = TopologyCache()
_EXACT = 2**24  # up to here every integer is a float32
_BITS = 0x4B800000 - _EXACT  # the bits of the float 2^24 are 0x4B800000


def topology(op: str, tri: Tensor, num_vertices: int) -> Topology:
    """The cached topology of `tri`; errors name `op` and `tri`."""
    _checks.tensor(op, "tri", tri)
    if tri.is_floating_point() or tri.is_complex() or tri.dtype == torch.bool:
        _checks.fail(TypeError, op, "tri", "an integer tensor", str(tri.dtype).removeprefix("torch."))
    try:
        return _TOPOLOGIES.look_up(tri, num_vertices)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("Topology(): expected faces", f"{op}(): expected tri")) from None


def as_floats(face_index: Tensor, dtype: torch.dtype) -> Tensor:
    """Face numbers int32, -1 = background, as the rasterizer's last channel: number + 1.

    A float32 counts in ones up to 2^24 only; from there on the k-th float after 2^24 stands for 2^24 + k.
    """
    number = face_index + 1
    plain = number.to(dtype)
    if dtype == torch.float64:
        return plain
    return torch.where(number > _EXACT, (number + _BITS).view(torch.float32), plain)


def as_numbers(channel: Tensor) -> Tensor:
    """The inverse of `as_floats`: int32 face numbers, -1 = background. What is not finite or < 1 is background."""
    channel = channel.detach()
    channel = torch.where(channel.isfinite() & (channel >= 1), channel, 0)
    if channel.dtype == torch.float64:
        return (channel.clamp(max=2**31 - 1).long() - 1).int()
    bits = channel.contiguous().view(torch.int32) - _BITS
    return torch.where(channel > _EXACT, bits, channel.clamp(max=_EXACT).int()) - 1


def rast_of(op: str, rast: Tensor) -> None:
    _checks.shape(op, "rast", rast, (-1, -1, -1, 4))
