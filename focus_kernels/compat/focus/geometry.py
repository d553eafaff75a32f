"""The FOCUS authors' ``renderer.geometry``: normals of faces and vertices, incidence table, projection.

These are for programs that call them one by one; ``Renderer`` gets the same normals from one fused kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ... import Topology, _checks
from .._gather import take_last
from .._topologies import TopologyCache

# Upstream's smallest divisor, a thousand times the smallest normal float32, for float64 too.
FTINY = torch.finfo(torch.float32).tiny * 10**3
# Smallest |depth| that is divided by; its square is still a normal float32, so no gradient overflows.
_MIN_DEPTH = 1e-12
# A unit normal's gradient is 1 / (edge times sine), a mean's 1 / area; those beyond 1 / _MIN_RATIO are left out.
_MIN_RATIO = 1e-30

_TOPOLOGIES = TopologyCache()


def incident_faces(topology: Topology) -> Tensor:
    """Upstream's incidence table, int64 [max valence, N], padded with -1."""
    offsets = topology.offsets.long()
    valence = offsets[1:] - offsets[:-1]
    height = int(valence.max()) if valence.numel() else 0
    table = torch.full((height, topology.num_vertices), -1, dtype=torch.int64, device=topology.device)
    vertex = torch.repeat_interleave(torch.arange(topology.num_vertices, device=topology.device), valence)
    rank = torch.arange(vertex.numel(), device=topology.device) - offsets[vertex]
    table[rank, vertex] = topology.corners.long() // 3
    return table


def project(A: Tensor, R: Tensor, T: Tensor, vertex: Tensor) -> Tensor:
    """``perspective_projection`` of checked arguments."""
    x = A @ (R @ vertex + T)
    depth = x[:, 2:]
    safe = torch.where(depth.abs() < _MIN_DEPTH, torch.copysign(torch.full_like(depth, _MIN_DEPTH), depth), depth)
    return torch.cat([x[:, :2] / safe, depth], 1)


def calc_face_normal(vertex: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals and areas of faces.

    Args:
        vertex: [B, 3, N] positions, float32 or float64, any frame and unit.
        face: [3, F] integer vertex indices, counter-clockwise seen from outside.

    Returns:
        ``(normal [B, 3, F], area [B, 1, F])``, in the dtype and frame of ``vertex``; areas in its unit squared. Both
        are differentiable in ``vertex``.

    Raises:
        TypeError, ValueError: an argument has the wrong type, dtype, shape, device or range.

    Differences from upstream:
        * A degenerate face has normal 0, area FTINY / 2 = 5.9e-36 (upstream's clamp) and no gradient. Upstream
          multiplies its gradient by up to 8.5e34, which makes it infinite. The same goes for a face that is not
          finite, which upstream makes NaN.
        * No gradient overflows: a face whose normal would have one steeper than 1e30, or whose area is beyond 1e30,
          has none.
        * Indices out of range are an error on every device.
    """
    vertex, topology = _mesh("calc_face_normal", vertex, face)
    faces = topology.faces.t().long()  # [3, F]
    v0, v1, v2 = (take_last(vertex, faces[k]) for k in range(3))  # [B, 3, F]
    # Edges are divided by their largest component and the cross product by its own, so that no square and no gradient
    # leaves the range of the dtype on the way. Both count as constants: normals do not depend on them, areas get them
    # back.
    edges = torch.stack([v1 - v0, v2 - v0])  # [2, B, 3, F]
    with torch.no_grad():
        sides = edges.abs().amax(2, keepdim=True)
        usable = (sides > 0) & sides.isfinite()
        sides = torch.where(usable, sides, 1)
        largest = _cross(*torch.where(usable, edges, 0) / sides).abs().amax(1, keepdim=True)  # [B, 1, F]
        doubled = largest * sides[0] * sides[1]  # within sqrt(3) of twice the area
        some = (doubled > FTINY) & (2 * doubled).isfinite()
        steep = (largest * sides.amin(0) < _MIN_RATIO) | (doubled > 1 / _MIN_RATIO)  # of the normal, of the area
    cross = _cross(*torch.where(some, edges, 0) / sides)
    cross = torch.where(steep, cross.detach(), cross) / torch.where(some, largest, 1)
    length = torch.where(some, (cross * cross).sum(1, keepdim=True), 1).sqrt()
    area = torch.where(some, length * torch.where(some, doubled, 1), FTINY) / 2
    return torch.where(some, cross / length, 0), area


def calc_vertex_to_face_map(vertex: Tensor, face: Tensor) -> Tensor:
    """The faces at each vertex.

    Args:
        vertex: [B, 3, N]; only N and the device matter.
        face: [3, F] integer vertex indices.

    Returns:
        int64 [max valence, N], ascending from the top, padded with -1. Not differentiable: it holds indices.

    Raises:
        TypeError, ValueError: an argument has the wrong type, dtype, shape, device or range.

    Differences from upstream:
        * A face that names a vertex twice is listed twice there. Upstream has room for it once, and drops the vertex's
          last face instead.
        * Upstream is a loop in Python over faces.
    """
    return incident_faces(_mesh("calc_vertex_to_face_map", vertex, face)[1])


def calc_vertex_normal(face_normal: Tensor, face_area: Tensor, vertex_to_face: Tensor) -> Tensor:
    """Area-weighted means of face normals at vertices, not renormalised: lengths are at most 1.

    Args:
        face_normal: [B, 3, F], float32 or float64, of ``calc_face_normal``.
        face_area: [B, 1, F], as ``face_normal``, each >= 0.
        vertex_to_face: int64 [K, N], of ``calc_vertex_to_face_map``: indices of faces, -1 for none.

    Returns:
        [B, 3, N]; 0 at vertices without faces. Differentiable in ``face_normal`` and ``face_area``; where the areas at
        a vertex sum to less than 1e-30, only in the former.

    Raises:
        TypeError, ValueError: an argument has the wrong type, dtype, shape, device or range.

    Differences from upstream:
        * A face that is NaN or infinite spoils its own vertices only. Upstream multiplies face 0 by 0 wherever the
          table is padded, so one bad face 0 makes nearly all normals NaN.
        * float64 works; ``vertex_to_face`` is not copied.
    """
    op = "calc_vertex_normal"
    face_normal, face_area = _checks.floats(op, face_normal=face_normal, face_area=face_area)
    _checks.shape(op, "face_normal", face_normal, (-1, 3, -1))
    batch, _, count = face_normal.shape
    _checks.shape(op, "face_area", face_area, (batch, 1, count))
    _checks.tensor(op, "vertex_to_face", vertex_to_face)
    if vertex_to_face.dtype not in (torch.int64, torch.int32):
        _checks.fail(TypeError, op, "vertex_to_face", "int64 or int32", str(vertex_to_face.dtype)[6:])
    _checks.shape(op, "vertex_to_face", vertex_to_face, (-1, -1))
    _checks.on(op, "vertex_to_face", vertex_to_face.device, "face_normal", face_normal.device)
    if vertex_to_face.numel():
        low, high = (int(bound) for bound in torch.aminmax(vertex_to_face))
        if low < -1 or high >= count:
            _checks.fail(ValueError, op, "vertex_to_face", f"in [-1, {count})", str(low if low < -1 else high))
    if vertex_to_face.numel() == 0 or count == 0:
        return face_normal.new_zeros(batch, 3, vertex_to_face.shape[1])

    used = vertex_to_face >= 0
    index = vertex_to_face.long().clamp(min=0)
    area = torch.where(used, take_last(face_area, index), 0)  # [B, 1, K, N]
    total = area.sum(2, keepdim=True)
    known = total > _MIN_RATIO
    weight = torch.where(known, area, area.detach()) / torch.where(known, total, total.detach().clamp(min=FTINY))
    return (weight * torch.where(used, take_last(face_normal, index), 0)).sum(2)


def perspective_projection(A: Tensor, R: Tensor, T: Tensor, vertex: Tensor) -> Tensor:
    """Pixels and depths of vertices: ``X = A (R v + T)``, first two rows divided by the third.

    Args:
        A: [1|B, 3, 3] intrinsics; with upstream's principal point (W - 1) / 2, pixel centres are at integers.
        R: [1|B, 3, 3], T: [1|B, 3, 1], camera = R v + T; camera x right, y down, z forward.
        vertex: [1|B, 3, N] model-frame positions (mm), float32 or float64, as the others.

    Returns:
        [B, 3, N]: x and y (px), depth (mm). Differentiable in all four.

    Raises:
        TypeError, ValueError: an argument has the wrong type, dtype, shape or device.

    Differences from upstream:
        * Depths smaller than 1e-12 count as that, with their sign, where they are divided by. Upstream divides by as
          little as 1.2e-35, and by 0 where the depth is 0: infinite or NaN, with gradients to match.
        * x and y of 0 stay 0 with their gradient; upstream's clamp drops it below 1.2e-35.
    """
    op = "perspective_projection"
    A, R, T, vertex = _checks.floats(op, A=A, R=R, T=T, vertex=vertex)
    batch = 1
    for name, value, rows in (("A", A, (3, 3)), ("R", R, (3, 3)), ("T", T, (3, 1)), ("vertex", vertex, (3, -1))):
        _checks.shape(op, name, value, (-1, *rows))
        if value.shape[0] != 1:
            if batch not in (1, value.shape[0]):
                _checks.fail(ValueError, op, name, f"of batch 1 or {batch}", str(value.shape[0]))
            batch = value.shape[0]
    with torch.autocast(vertex.device.type, enabled=False):
        return project(A, R, T, vertex)


def _mesh(op: str, vertex: Tensor, face: Tensor) -> tuple[Tensor, Topology]:
    (vertex,) = _checks.floats(op, vertex=vertex)
    _checks.shape(op, "vertex", vertex, (-1, 3, -1))
    _checks.tensor(op, "face", face)
    _checks.shape(op, "face", face, (3, -1))
    _checks.on(op, "face", face.device, "vertex", vertex.device)
    return vertex, _TOPOLOGIES.look_up(face.t(), vertex.shape[2])


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross products [B, 3, F]."""
    ax, ay, az = a.unbind(1)
    bx, by, bz = b.unbind(1)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], 1)
