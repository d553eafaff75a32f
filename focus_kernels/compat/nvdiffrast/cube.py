"""Cube maps: the face and the texels of a direction, by the rules of the OpenGL specification (section 8.13).

Faces are +x, -x, +y, -y, +z, -z. Filtering is seamless: a texel beyond an edge is the one across that edge, and the
missing fourth texel at a corner of the cube is the mean of the other three.
"""

from __future__ import annotations

import torch
from torch import Tensor

# per face: which axis of the direction s, t and the major axis follow, and with which sign
_S = ((2, -1), (2, 1), (0, 1), (0, 1), (0, 1), (0, -1))
_T = ((1, -1), (1, -1), (2, 1), (2, -1), (1, -1), (1, -1))
_MAJOR = ((0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1))


# [6, 3, 3]: per face the rows that give s, t and the major axis of a direction
_FRAMES = [
    [[sign if k == axis else 0 for k in range(3)] for axis, sign in rows] for rows in zip(_S, _T, _MAJOR, strict=True)
]


def is_direction(directions: Tensor) -> Tensor:
    """Bool [N]: finite, and long enough to divide by without overflow in the gradient."""
    length = directions.detach().abs().amax(-1)
    return length.isfinite() & (length >= torch.finfo(directions.dtype).tiny ** 0.5)


def project(directions: Tensor, jacobian: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Valid directions [N, 3] -> (face int64 [N], (s, t) [N, 2] in [0, 1], their image-space derivatives [N, 2, 2]).

    `jacobian` [N, 3, 2] holds the derivatives of the directions; without it the last result is None. Of equal
    components x comes before y, and y before z.
    """
    x, y, z = directions.detach().unbind(-1)
    x_leads = (x.abs() >= y.abs()) & (x.abs() >= z.abs())
    y_leads = y.abs() >= z.abs()
    face = torch.where(x_leads, (x < 0).long(), torch.where(y_leads, 2 + (y < 0).long(), 4 + (z < 0).long()))

    frame = directions.new_tensor(_FRAMES)[face]  # [N, 3, 3]
    local = (frame * directions[:, None]).sum(-1)
    major = local[:, 2:]
    on_plane = local[:, :2] / major  # in [-1, 1]
    if jacobian is not None:
        turned = (frame[..., None] * jacobian[:, None]).sum(-2)  # [N, 3, 2]
        jacobian = 0.5 * (turned[:, :2] - on_plane[..., None] * turned[:, 2:]) / major[..., None]
    return face, 0.5 * on_plane + 0.5, jacobian


def taps(face: Tensor, st: Tensor, size: Tensor | int, nearest: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Texel indices within a level [6, size, size], and their weights, one or four of [N] each."""
    if nearest:
        cell = (st.detach() * _column(size)).floor().long()
        x, y = (torch.minimum(c, torch.as_tensor(size - 1, device=c.device)) for c in cell.unbind(-1))
        return [(face * size + y) * size + x], [torch.ones_like(st[:, 0])]

    position = st * _column(size) - 0.5
    first = position.detach().floor()
    (s1, t1), (s0, t0) = (position - first).unbind(-1), (first + 1 - position).unbind(-1)
    x0, y0 = first.long().unbind(-1)
    indices, weights, corners = [], [], []
    for x, y, weight in ((x0, y0, s0 * t0), (x0 + 1, y0, s1 * t0), (x0, y0 + 1, s0 * t1), (x0 + 1, y0 + 1, s1 * t1)):
        index, corner = _across(face, x, y, size)
        indices.append(index)
        corners.append(corner)
        weights.append(weight)
    shared = sum(torch.where(c, w, 0) for c, w in zip(corners, weights, strict=True)) / 3
    return indices, [torch.where(c, 0, w + shared) for c, w in zip(corners, weights, strict=True)]


def _column(size: Tensor | int) -> Tensor | int:
    return size[:, None] if isinstance(size, Tensor) else size


def _across(face: Tensor, x: Tensor, y: Tensor, size: Tensor | int) -> tuple[Tensor, Tensor]:
    """Index of texel (x, y), each in [-1, size], which may lie across an edge; and whether it is beyond a corner."""
    x_out = (x < 0) | (x >= size)
    y_out = (y < 0) | (y >= size)
    # the texel's centre on a cube of half side `size`; one that is outside is moved onto the edge that it crosses
    s = torch.where(x_out, torch.where(x < 0, -1, 1) * size, 2 * x + 1 - size)
    t = torch.where(y_out, torch.where(y < 0, -1, 1) * size, 2 * y + 1 - size)
    frames = torch.tensor(_FRAMES, device=face.device)  # int64
    frame = frames[face]  # [N, 3, 3]
    major = torch.as_tensor(size, device=face.device).expand_as(s)
    point = (frame * torch.stack([s, t, major], -1)[..., None]).sum(-2)  # [N, 3]

    # the neighbour's major axis is the one that was left
    axis = torch.where(x_out, frame[:, 0].abs().argmax(-1), frame[:, 1].abs().argmax(-1))
    ahead = torch.where(x_out, frame[:, 0].sum(-1) * torch.sign(s), frame[:, 1].sum(-1) * torch.sign(t))
    neighbour = torch.where(x_out | y_out, 2 * axis + (ahead < 0).long(), face)
    local = (frames[neighbour] * point[:, None]).sum(-1)
    column, row = (
        torch.minimum((c + major).div(2, rounding_mode="floor"), major - 1) for c in (local[:, 0], local[:, 1])
    )
    return (neighbour * size + row) * size + column, x_out & y_out
