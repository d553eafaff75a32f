"""rasterize in plain PyTorch: the definition that every other backend is held to.

Edge functions, weights and depth are computed in float64 whatever the input is, and rounded once.
"""

import torch
from torch import Tensor

from ..._library import register

_CHUNK = 1 << 21  # candidate (face, pixel) pairs at a time: about 0.5 GB of float64
_FARTHEST_PIXEL = 2.0**23
_NEAREST, _FARTHEST = 1e-18, 1e18
_BACKGROUND = ((0.0, 0.0, 1.0), (1.0, 0.0, 1.0), (0.0, 1.0, 1.0))  # any triangle with an area


def why_not(*args) -> list[str]:
    return []


def forward(
    positions: Tensor, faces: Tensor, H: int, W: int, coverage: int, cull: int, perspective: bool, highest: bool
) -> tuple[Tensor, Tensor, Tensor]:
    face_index = _VISIBLE(positions.detach(), faces, H, W, coverage, cull, perspective, highest)
    barycentrics, depth = at_pixels(positions.double(), faces, face_index, perspective)
    return face_index, barycentrics.to(positions.dtype), depth.to(positions.dtype)


def at_pixels(positions: Tensor, faces: Tensor, face_index: Tensor, perspective: bool) -> tuple[Tensor, Tensor]:
    """Barycentrics [B, H, W, 3] and depth [B, H, W] in the visible faces, differentiable in positions."""
    _, H, W = face_index.shape
    corners = at_corners(positions, faces, face_index, positions.new_tensor(_BACKGROUND))  # [B, H, W, 3, 3]
    row = torch.arange(H, device=positions.device, dtype=positions.dtype)[:, None] + 0.5
    column = torch.arange(W, device=positions.device, dtype=positions.dtype) + 0.5
    barycentrics, depth = weigh(_edges(corners, column, row), corners[..., 2], perspective)
    covered = face_index >= 0
    return torch.where(covered[..., None], barycentrics, 0), torch.where(covered, depth, 0)


def in_mesh(face_index: Tensor, faces: Tensor) -> Tensor:
    """Where a pixel has a face; ids of another mesh count as background."""
    return (face_index >= 0) & (face_index < faces.shape[0])


def at_corners(attributes: Tensor, faces: Tensor, face_index: Tensor, background: Tensor) -> Tensor:
    """The attributes [B, V, C] at the three corners of the face of each pixel: [B, H, W, 3, C].

    Background pixels read the triangle `background` [3, C] instead, so that nothing unseen is touched.
    """
    B, V, C = attributes.shape
    padded = torch.cat([attributes, background.expand(B, 3, C)], 1)  # [B, V + 3, C]
    extra = torch.arange(V, V + 3, device=faces.device)
    triangles = torch.cat([faces.long(), extra[None]])  # [F + 1, 3]
    corners = triangles[torch.where(in_mesh(face_index, faces), face_index, faces.shape[0]).long()]  # [B, H, W, 3]
    images = torch.arange(B, device=faces.device)[:, None, None, None]
    return padded[images, corners]


def weigh(edges: Tensor, z: Tensor, perspective: bool) -> tuple[Tensor, Tensor]:
    """Barycentrics and depth from edge functions [..., 3] of either sign and depths z [..., 3]."""
    total = edges.sum(-1, keepdim=True)
    if perspective:
        share = edges / z
        inverse = share.sum(-1, keepdim=True)
        return share / inverse, (total / inverse)[..., 0]
    return edges / total, ((edges * z).sum(-1, keepdim=True) / total)[..., 0]


def _edges(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """E0, E1, E2 [..., 3] of corners [..., 3, 3]: twice the signed areas of (p, v1, v2), (p, v2, v0), (p, v0, v1)."""
    dx, dy = corners[..., 0] - x[..., None], corners[..., 1] - y[..., None]  # [..., 3]
    (ax, bx, cx), (ay, by, cy) = dx.unbind(-1), dy.unbind(-1)
    return torch.stack([bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx], -1)


def _visible(positions, faces, H, W, coverage, cull, perspective, highest):
    face_index = torch.empty(positions.shape[0], H, W, dtype=torch.int32, device=positions.device)
    for b in range(positions.shape[0]):
        face_index[b] = _visible_in_image(positions[b], faces, H, W, coverage, cull, perspective, highest)
    return face_index


def _visible_in_image(positions, faces, H, W, coverage, cull, perspective, highest, factor=None):
    """The visible faces [H, W] of positions [V, 3]. `factor` [F] float64 scales the depths of faces; 0 drops one."""
    triangles = positions.double()[faces.long()]  # [F, 3, 3]
    (x0, x1, x2), (y0, y1, y2) = triangles[..., 0].unbind(1), triangles[..., 1].unbind(1)
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)  # [F], negative for front faces
    kept = (area < 0, area > 0, area != 0)[cull] & _drawable(triangles)
    if factor is not None:
        kept = kept & (factor > 0)
    ids = kept.nonzero()[:, 0]
    triangles, area = triangles[ids], area[ids]

    # The pixels whose centre lies in the bounding box, clipped to the image.
    low, high = triangles[..., :2].amin(1), triangles[..., :2].amax(1)  # [F', 2]
    first = (low - 0.5).ceil().clamp(min=0).long()
    last = torch.minimum((high - 0.5).floor(), high.new_tensor([W - 1, H - 1])).long()
    extent = (last - first + 1).clamp(min=0)
    count = extent[:, 0] * extent[:, 1]  # [F'] candidate pixels of each face
    turn = area.sign()[:, None]  # [F', 1]
    closed = _closed(triangles, turn, coverage)  # [F', 3]

    depth = torch.full((H * W,), torch.inf, dtype=positions.dtype, device=positions.device)
    none = -1 if highest else faces.shape[0]
    winner = torch.full((H * W,), none, dtype=torch.int64, device=positions.device)
    for chunk in _chunks(count):
        face = torch.repeat_interleave(torch.arange(chunk.start, chunk.stop, device=count.device), count[chunk])
        begin = count[chunk].cumsum(0) - count[chunk]
        step = torch.arange(len(face), device=face.device) - begin[face - chunk.start]
        width = extent[face, 0]
        column, row = first[face, 0] + step % width, first[face, 1] + step // width
        edges = _edges(triangles[face], column + 0.5, row + 0.5) * turn[face]  # [pairs, 3]
        inside = ((edges > 0) | ((edges == 0) & closed[face])).all(-1) & (edges.sum(-1) > 0)
        face, pixel, edges = face[inside], (row * W + column)[inside], edges[inside]
        z = weigh(edges, triangles[face, :, 2], perspective)[1]
        if factor is not None:
            z = z * factor[ids[face]]
        z = z.to(positions.dtype)

        nearest = depth.scatter_reduce(0, pixel, z, "amin")
        winner[nearest < depth] = none
        equal = z == nearest[pixel]
        winner.scatter_reduce_(0, pixel[equal], ids[face[equal]], "amax" if highest else "amin")
        depth = nearest
    return torch.where(depth.isinf(), -1, winner).view(H, W).int()


def _drawable(triangles: Tensor) -> Tensor:
    """Faces [F] that are finite, not huge, in front of the camera and not too far."""
    xy, z = triangles[..., :2], triangles[..., 2]
    near_enough = (xy.abs() <= _FARTHEST_PIXEL).all(-1).all(-1)
    return near_enough & ((z >= _NEAREST) & (z <= _FARTHEST)).all(-1)


def _closed(triangles: Tensor, turn: Tensor, coverage: int) -> Tensor:
    """[F, 3]: whether a sample exactly on the edge opposite of each corner is inside."""
    if coverage == 1:
        return torch.ones_like(triangles[..., 0], dtype=torch.bool)
    if coverage == 2:
        return torch.zeros_like(triangles[..., 0], dtype=torch.bool)
    xy = triangles[..., :2]
    edge = (xy.roll(-2, 1) - xy.roll(-1, 1)) * turn[..., None]  # [F, 3, 2] v1 -> v2, v2 -> v0, v0 -> v1, clockwise
    dx, dy = edge.unbind(-1)
    return (dy < 0) | ((dy == 0) & (dx > 0))


def _chunks(count: Tensor) -> list[slice]:
    """Runs of faces with at most _CHUNK candidates together (one face alone may have more)."""
    ends = count.cumsum(0)
    chunks, start, done = [], 0, 0
    while start < len(count):
        stop = max(int(torch.searchsorted(ends, done + _CHUNK, right=True)), start + 1)
        chunks.append(slice(start, stop))
        start, done = stop, int(ends[stop - 1])
    return chunks


# An op of its own, so that torch.compile sees one node of a known shape.
_VISIBLE = register(
    "_rasterize_ref(Tensor positions, Tensor faces, int H, int W, int coverage, int cull, bool perspective,"
    " bool highest) -> Tensor",
    _visible,
    lambda positions, faces, H, W, *rest: faces.new_empty(positions.shape[0], H, W),
)
