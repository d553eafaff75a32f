"""antialias: silhouettes made smooth between neighbouring pixels, with gradients to their vertices."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ... import Topology, _checks
from ...topology import _INTEGERS
from .._gather import take
from . import _common

_SNAP = 1 / 16  # px; see `_crossings`


class TopologyHash:
    """Which faces meet at the edges of a mesh, as `antialias_construct_topology_hash` makes it; opaque to callers."""

    def __init__(self, faces: Tensor) -> None:
        self._across = _across(faces)  # [F, 3] int64
        self.num_vertices = int(faces.max()) + 1 if len(faces) else 0  # at least

    @property
    def num_faces(self) -> int:
        return self._across.shape[0]

    @property
    def device(self) -> torch.device:
        return self._across.device


_HASHES: WeakKeyDictionary[Topology, TopologyHash] = WeakKeyDictionary()


def antialias_construct_topology_hash(tri: Tensor) -> TopologyHash:
    """What `antialias` needs to know of tri [F, 3], to be made once and passed as its topology_hash.

    Raises:
        TypeError: tri is no integer tensor.
        ValueError: tri is not [F, 3], or a number is negative.
    """
    _checks.tensor("antialias_construct_topology_hash", "tri", tri)
    most = int(tri.max()) + 1 if tri.numel() and tri.dtype in _INTEGERS else 0
    return _hash_of(_common.topology("antialias_construct_topology_hash", tri, most))


def antialias(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    topology_hash: TopologyHash | None = None,
    pos_gradient_boost: float = 1.0,
) -> Tensor:
    """Blends neighbouring pixels where a silhouette edge passes between their centres.

    Pairs of neighbours in a row or a column that show different faces are looked at. Of the face with the smaller z/w
    (the second pixel's at equal z/w; background is behind everything) the silhouette edges are candidates: those that
    it has alone, or shares with a face on the same side of the edge in the image. In a row only edges steeper than 45
    degrees count, in a column only the others. Where such an edge crosses the segment between the centres, dc being
    its distance from the nearer face's centre in pixels, the pixel on whose side of the middle it lies takes the share
    ``|0.5 - dc|`` of the other's colour: alpha = 0.5 - dc where the nearer face is the first pixel's, dc - 0.5
    else, into the first pixel if alpha > 0, into the second otherwise. All blends read the colours as given and add up.

    Args:
        color: [B, H, W, C], any C >= 0, float32 or float64.
        rast: [B, H, W, 4], the first output of `rasterize`, in the dtype of color; its z/w and face numbers are read.
        pos: [B, V, 4], [1, V, 4] or [V, 4], the clip-space positions that were rasterized, in the dtype of color.
        tri: [F, 3] integer vertex numbers, as they were rasterized.
        topology_hash: of `antialias_construct_topology_hash(tri)`; None finds it, once for equal tri.
        pos_gradient_boost: what the gradient of pos is multiplied by.

    Returns:
        [B, H, W, C]. Once differentiable in color, and in x, y and w of pos through dc, with visibility and
        silhouettes held fixed; the gradient of pos is zero where |alpha| >= 0.5. rast gets no gradient. Deterministic.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, several devices, a vertex number out of range, or a topology_hash of another number
            of faces or of vertices that pos does not have.

    Differences from upstream:
        * CPU tensors, float64 and tensors that are not contiguous are served.
        * Gradients are the same at every run; upstream adds them up in any order.
        * Where the documentation is silent: of an edge that three or more faces share, each face looks at the other
          one with the lowest third vertex. Edges that reach behind the camera are taken as far as they are in front
          of it. Where snapping has moved a face across a centre, its edge is taken up to 1/16 pixel beyond, as alpha =
          0.5 or -0.5.
    """
    color, rast, pos = _checks.floats("antialias", color=color, rast=rast, pos=pos)
    boost = _boost(pos_gradient_boost)
    _checks.shape("antialias", "color", color, (-1, -1, -1, -1))
    B, H, W, _ = color.shape
    _checks.shape("antialias", "rast", rast, (B, H, W, 4))
    if pos.dim() == 2:
        pos = pos[None]
    _checks.shape("antialias", "pos", pos, (-1, -1, 4))
    V = pos.shape[1]
    topology = _common.topology("antialias", tri, V)
    _checks.on("antialias", "tri", topology.device, "color", color.device)
    if pos.shape[0] not in (1, B):
        _checks.fail(ValueError, "antialias", "pos", f"of batch 1 or {B} as color", str(pos.shape[0]))
    known = _hash_of(topology) if topology_hash is None else topology_hash
    if not isinstance(known, TopologyHash):
        _checks.fail(
            TypeError,
            "antialias",
            "topology_hash",
            "what antialias_construct_topology_hash() gives",
            type(known).__name__,
        )
    if known.num_faces != topology.num_faces:
        _checks.fail(
            ValueError, "antialias", "topology_hash", f"of the {topology.num_faces} faces of tri", str(known.num_faces)
        )
    if known.num_vertices > V:
        _checks.fail(ValueError, "antialias", "topology_hash", f"of the {V} vertices of pos", str(known.num_vertices))
    _checks.on("antialias", "topology_hash", known.device, "color", color.device)

    faces = _common.as_numbers(rast[..., 3]).long()
    faces = torch.where(faces < topology.num_faces, faces, -1)
    depth = rast[..., 2].detach()
    if boost != 1:
        pos = _Boost.apply(pos, boost)
    # pos [1, V, 4] is one mesh for all images
    meshes = 0 if pos.shape[0] == 1 else V
    coordinates = [pos[..., k].double().reshape(-1) for k in (0, 1, 3)]
    detached = torch.stack([values.detach() for values in coordinates], -1)  # [B V, 3]

    outline = _outlines(detached, topology.faces.long(), known._across, faces, meshes)  # [B F, 3]

    out = pixels = color.reshape(B * H * W, color.shape[3])
    for axis in (0, 1):  # pairs in a row, then in a column
        dim = 2 - axis
        length, rest = max(color.shape[dim] - 1, 0), min(color.shape[dim], 1)
        pair = [values.narrow(dim, at, length) for values in (faces, depth) for at in (0, rest)]
        image, row, column = (pair[0] != pair[1]).nonzero().unbind(1)
        face0, face1, z0, z1 = (values[image, row, column] for values in pair)
        second = (face0 < 0) | ((face1 >= 0) & ~(z0 < z1))  # the nearer one is the second pixel's
        nearer = torch.where(second, face1, face0)
        found = outline[image * topology.num_faces + nearer].any(1).nonzero()[:, 0]
        image, row, column, second, nearer = (values[found] for values in (image, row, column, second, nearer))
        # the first pixel's centre, in NDC
        x = (2 * column + 1).double() / W - 1
        y = (2 * row + 1).double() / H - 1
        rows = (image * meshes)[:, None] + topology.faces[nearer].long()
        edges = outline[image * topology.num_faces + nearer]
        found, ends = _crossings(detached, rows, edges, x, y, second, axis, (H, W))
        image, row, column, x, y, second = (values[found] for values in (image, row, column, x, y, second))
        a, b = ([take(values, ends[:, k]) for values in coordinates] for k in (0, 1))
        t, _ = _crossing(a, b, x, y, axis, (H, W))
        alpha = 0.5 - t  # = 0.5 - dc from the first pixel's centre, dc - 0.5 from the second's
        alpha = torch.where(alpha.abs() < 0.5, alpha, alpha.detach().clamp(-0.5, 0.5)).to(color.dtype)
        # only the pixels of these pairs are read, as other colours need not be finite; no index comes twice
        first = (image * H + row) * W + column
        beyond = first + (1 if axis == 0 else W)
        # into the second goes -alpha (first - second), which is the same product
        step = alpha[:, None] * (pixels.index_select(0, beyond) - pixels.index_select(0, first))
        for target, chosen in ((first, alpha > 0), (beyond, alpha <= 0)):
            out = out + torch.zeros_like(out).index_put((target[chosen],), step[chosen])
    return out.view(color.shape)


def _outlines(positions, faces, across, numbers, meshes) -> Tensor:
    """Which edges of the faces that are seen are silhouettes: bool [B F, 3], by the corner opposite the edge."""
    B, F = numbers.shape[0], len(faces)
    image = torch.arange(B, device=numbers.device)[:, None, None]
    seen = torch.zeros(B * F, dtype=torch.bool, device=numbers.device)
    seen[(image * F + numbers)[numbers >= 0]] = True
    found = seen.nonzero()[:, 0]
    first, face = (found // max(F, 1)) * meshes, found % max(F, 1)
    p = positions[first[:, None] + faces[face]].unbind(1)  # three of [N, 3]
    across = across[face]
    partner = positions[first[:, None] + across.clamp(min=0)]  # [N, 3, 3]
    outline = torch.zeros(B * F, 3, dtype=torch.bool, device=numbers.device)
    for k in range(3):
        line = torch.linalg.cross(p[(k + 1) % 3], p[(k + 2) % 3])  # through both ends, [N, 3]
        own, other = (line * p[k]).sum(1), (line * partner[:, k]).sum(1)
        outline[found, k] = (own != 0) & ((across[:, k] < 0) | (own.sign() * other.sign() >= 0))
    return outline


def _crossings(positions, rows, outline, x, y, second, axis, size) -> tuple[Tensor, Tensor]:
    """Which of N pairs have a silhouette edge between them, and that edge's ends.

    Args:
        positions: [B V, 3] x, y, w without gradient; rows: [N, 3], where the corners of the nearer face are in it.
        outline: bool [N, 3], which of its edges are silhouettes, by the corner opposite.
        x, y: [N] NDC of the first pixel's centre.

    Returns:
        [M] the pairs, ascending, and [M, 2] the rows of positions.

    From the nearer centre towards the other a triangle is left through one edge at most. Edges of the positions as
    given may pass a centre by as much as snapping moved them: 1/32 px in each direction, so up to 1/16 px along a row
    for an edge that is steeper than 45 degrees.
    """
    exits = torch.full_like(rows[:, 0], -1)
    p = positions[rows].unbind(1)  # three of [N, 3]
    onward = torch.where(second, -1.0, 1.0).to(x.dtype)  # from the nearer centre to the other
    for k in range(3):
        a, b = p[(k + 1) % 3], p[(k + 2) % 3]
        t, valid = _crossing(a.unbind(1), b.unbind(1), x, y, axis, size)
        line = torch.linalg.cross(a, b)
        leaves = (line * p[k]).sum(1).sign() * line[:, axis].sign() * onward < 0
        valid = valid & leaves & outline[:, k] & (t >= -_SNAP) & (t <= 1 + _SNAP)
        exits = torch.where(valid, k, exits)
    found = (exits >= 0).nonzero()[:, 0]
    ends = torch.stack([(exits[found] + 1) % 3, (exits[found] + 2) % 3], 1)
    return found, rows[found].gather(1, ends)


def _crossing(a, b, x, y, axis, size) -> tuple[Tensor, Tensor]:
    """Where edges (x, y, w of both ends, [N] each) cross the row or column of (x, y): how many pixels after it, and
    whether they do, in front of the camera and in the orientation that counts."""
    H, W = size
    # about the centre, in pixels times w
    ax, ay, aw = (a[0] - x * a[2]) * (W / 2), (a[1] - y * a[2]) * (H / 2), a[2]
    bx, by, bw = (b[0] - x * b[2]) * (W / 2), (b[1] - y * b[2]) * (H / 2), b[2]
    # the edge runs along (dx, dy) in the image
    dx, dy = bx * aw - ax * bw, by * aw - ay * bw
    along_a, along_b, off_a, off_b = (ax, bx, ay, by) if axis == 0 else (ay, by, ax, bx)
    crosses = (off_a < 0) != (off_b < 0)
    steep = dy.abs() > dx.abs()
    # the point where off is 0, as a weighted sum of both ends; the weights have one sign
    gap = torch.where(crosses, off_a - off_b, 1)
    s = off_a / gap
    w = aw + s * (bw - aw)
    valid = crosses & (steep if axis == 0 else ~steep) & (w > 0)
    t = (along_a + s * (along_b - along_a)) / torch.where(valid, w, 1)
    return t, valid


class _Boost(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, factor):
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


def _boost(value) -> float:
    if isinstance(value, (bool, Tensor)) or not hasattr(value, "__float__"):
        _checks.fail(TypeError, "antialias", "pos_gradient_boost", "a number", type(value).__name__)
    return float(value)


def _hash_of(topology: Topology) -> TopologyHash:
    known = _HASHES.get(topology)
    if known is None:
        with torch.inference_mode(False):
            known = TopologyHash(topology.faces.long())
        _HASHES[topology] = known
    return known


def _across(faces: Tensor) -> Tensor:
    """The vertex of another face across the edge opposite each corner, -1 where there is none: [F, 3].

    Faces that have the edge and the same third vertex count as one. Of several others the lowest vertex is taken.
    """
    if not len(faces):
        return faces
    V = int(faces.max()) + 1  # V^2 and 3 F V fit int64
    start, end, third = faces.roll(-1, 1).reshape(-1), faces.roll(-2, 1).reshape(-1), faces.reshape(-1)  # [3F]
    _, edge = torch.unique(torch.minimum(start, end) * V + torch.maximum(start, end), return_inverse=True)
    # each edge's distinct third vertices, the lowest first
    pairs = torch.unique(edge * V + third)
    count = torch.bincount(pairs // V)
    place = (count.cumsum(0) - count)[edge]
    lowest = pairs[place] % V
    next_one = pairs[torch.where(count[edge] > 1, place + 1, place)] % V
    partner = torch.where(lowest == third, next_one, lowest)
    return torch.where(partner == third, -1, partner).view(-1, 3)
