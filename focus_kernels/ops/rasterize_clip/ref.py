"""rasterize_clip in plain PyTorch: the definition that every other backend is held to. All of it in float64.

Clean room: written from descriptions of what nvdiffrast decides at a pixel, and from its public documentation.
"""

import math

import torch
from torch import Tensor

from ..._library import register
from ..rasterize.ref import _chunks, _closed, _edges, at_corners

# Depths are compared as z/w + 3: in [2, 4] they are positive, and taking the 3 away again is exact.
OFFSET = 3.0
_STEPS = 16.0  # to which positions are rounded, of a pixel
_TOP_LEFT = 0
_NOISE = 2.0**-48  # of the sum of the weights, beside the terms that it is made of
_MOST_WEIGHT = 256.0  # rounding moves a centre by 1/16 pixel: out of a face that is thinner than 1/4096
_BACKGROUND = ((-1.0, -1.0, 0.0, 1.0), (3.0, -1.0, 0.0, 1.0), (-1.0, 3.0, 0.0, 1.0))  # a face over the whole image
_Corner = list[float]  # x, y, z, w


def why_not(*args) -> list[str]:
    return []


def forward(
    positions: Tensor,
    faces: Tensor,
    H: int,
    W: int,
    ranges: Tensor | None,
    behind: Tensor | None,
    derivatives: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    face_index, nearest = _VISIBLE(positions.detach(), faces, H, W, ranges, behind)
    pixels = at_pixels(positions.double(), faces, face_index, nearest)
    barycentrics, depth, steps = (value.to(positions.dtype) for value in pixels)
    return face_index, barycentrics, depth, steps if derivatives else steps[..., :0].detach(), nearest


def at_pixels(positions: Tensor, faces: Tensor, face_index: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Barycentrics [B, H, W, 2] and derivatives [B, H, W, 4], differentiable in positions, and z/w [B, H, W]."""
    background = positions.new_tensor(_BACKGROUND)
    corners = at_corners(positions, faces, face_index, background)  # [B, H, W, 3, 4]
    with torch.no_grad():  # a face seen edge-on has no weights: its sample is where rounding put it
        known, sound = _soundness(corners)
        z_over_w = _depth(corners)
        depth = torch.where(z_over_w.isfinite(), z_over_w, nearest).clamp(-1, 1)
        clamped = _weights(corners)[0].clamp(0, 1)
        clamped = clamped / clamped.sum(-1, keepdim=True).clamp(min=1)
    barycentrics, steps = _weights(torch.where(sound[..., None, None], corners, background))
    # Values in [0, 1], with the gradient of the formula before that.
    barycentrics = clamped + torch.where(sound[..., None], barycentrics - barycentrics.detach(), 0)
    covered = face_index >= 0
    seen, known = (covered & sound)[..., None], (covered & known)[..., None]
    return torch.where(known, barycentrics, 0), torch.where(covered, depth, 0), torch.where(seen, steps, 0)


def _soundness(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Of corners [B, H, W, 3, 4], where u and v are more than rounding, and where they have derivatives as well."""
    x, y, w = _about_pixels(corners)
    shares, total = _shares(x, y)
    weights, steps = _weights(corners)
    size, w = x.abs() + y.abs(), w.abs()
    terms = [w[..., k] * size[..., j] + w[..., j] * size[..., k] for k, j in ((1, 2), (2, 0), (0, 1))]
    noise = _NOISE * _sum(torch.stack(terms, -1))
    known = weights.isfinite().all(-1) & (total[..., 0].abs() > noise)
    reach = torch.cat([weights, shares[..., 2:] / total], -1).abs().amax(-1)
    return known, known & (reach <= _MOST_WEIGHT) & steps.isfinite().all(-1)


def _about_pixels(corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x - X w, y - Y w and w [B, H, W, 3] of the corners [B, H, W, 3, 4], with the pixel centre at (X, Y)."""
    H, W = corners.shape[1:3]
    row = torch.arange(H, device=corners.device, dtype=corners.dtype)[:, None, None]
    column = torch.arange(W, device=corners.device, dtype=corners.dtype)[:, None]
    w = corners[..., 3]
    return corners[..., 0] - ((2 * column + 1) / W - 1) * w, corners[..., 1] - ((2 * row + 1) / H - 1) * w, w


def _shares(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """E0, E1, E2 [..., 3], to which the perspective-correct weights are proportional, and their sum [..., 1]."""
    (x0, x1, x2), (y0, y1, y2) = x.unbind(-1), y.unbind(-1)
    shares = torch.stack([x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0], -1)
    return shares, _sum(shares)[..., None]


def _sum(three: Tensor) -> Tensor:
    return (three[..., 0] + three[..., 1]) + three[..., 2]


def _weights(corners: Tensor) -> tuple[Tensor, Tensor]:
    """The weights [B, H, W, 2] of corners 0 and 1, and their change per pixel [B, H, W, 4] to the right and upwards."""
    H, W = corners.shape[1:3]
    x, y, w = _about_pixels(corners)
    shares, total = _shares(x, y)
    weights = shares[..., :2] / total
    (x0, x1, x2), (y0, y1, y2), (w0, w1, w2) = x.unbind(-1), y.unbind(-1), w.unbind(-1)
    along_x = torch.stack([w2 * y1 - w1 * y2, w0 * y2 - w2 * y0, w1 * y0 - w0 * y1], -1) * (2 / W)
    along_y = torch.stack([w1 * x2 - w2 * x1, w2 * x0 - w0 * x2, w0 * x1 - w1 * x0], -1) * (2 / H)
    per_x, per_y = ((along[..., :2] - weights * _sum(along)[..., None]) / total for along in (along_x, along_y))
    return weights, torch.stack([per_x, per_y], -1).flatten(-2)


def _depth(corners: Tensor) -> Tensor:
    x, y, w = _about_pixels(corners)
    shares, _ = _shares(x, y)
    return _sum(shares * corners[..., 2]) / _sum(shares * w)


def _visible(positions, faces, H, W, ranges, behind):
    B, device = positions.shape[0], positions.device
    face_index = torch.empty(B, H, W, dtype=torch.int32, device=device)
    nearest = torch.empty(B, H, W, dtype=torch.float64, device=device)
    for b in range(B):
        first, count = (0, faces.shape[0]) if ranges is None else ranges[b].tolist()
        first, last = max(first, 0), max(first + count, 0)
        far = None if behind is None else behind[b].flatten() + OFFSET
        index, depth = _visible_in_image(positions[b].double(), faces[first:last].long(), H, W, far)
        face_index[b] = torch.where(index >= 0, index + first, index).view(H, W)
        nearest[b] = depth.view(H, W) - OFFSET
    return face_index, nearest


def _visible_in_image(positions, faces, H, W, behind):
    """The face and the depth + OFFSET, -1 and +inf at the background, of each pixel [H * W]."""
    triangles, ids = _drawn(positions, faces, H, W)
    (x0, x1, x2), (y0, y1, y2) = triangles[..., 0].unbind(1), triangles[..., 1].unbind(1)
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    triangles, ids, turn = triangles[area != 0], ids[area != 0], area[area != 0].sign()[:, None]

    low, high = triangles[..., :2].amin(1), triangles[..., :2].amax(1)  # [N, 2]
    first, last = (low - 0.5).ceil().long(), (high - 0.5).floor().long()  # in the image: nothing drawn leaves it
    extent = (last - first + 1).clamp(min=0)
    count = extent[:, 0] * extent[:, 1]  # [N] candidate pixels of each triangle
    closed = _closed(triangles, turn, _TOP_LEFT)  # [N, 3]

    depth = torch.full((H * W,), torch.inf, dtype=torch.float64, device=positions.device)
    winner = torch.full((H * W,), -1, dtype=torch.int64, device=positions.device)
    for chunk in _chunks(count):
        face = torch.repeat_interleave(torch.arange(chunk.start, chunk.stop, device=count.device), count[chunk])
        begin = count[chunk].cumsum(0) - count[chunk]
        step = torch.arange(len(face), device=face.device) - begin[face - chunk.start]
        width = extent[face, 0]
        column, row = first[face, 0] + step % width, first[face, 1] + step // width
        edges = _edges(triangles[face], column + 0.5, row + 0.5) * turn[face]  # [pairs, 3], exact
        inside = ((edges > 0) | ((edges == 0) & closed[face])).all(-1) & (edges.sum(-1) > 0)
        face, pixel, edges = face[inside], (row * W + column)[inside], edges[inside]
        z = _sum(edges * triangles[face, :, 2]) / _sum(edges)
        if behind is not None:
            seen = z > behind[pixel]
            face, pixel, z = face[seen], pixel[seen], z[seen]

        nearest = depth.scatter_reduce(0, pixel, z, "amin")
        winner[nearest < depth] = -1
        equal = z == nearest[pixel]
        winner.scatter_reduce_(0, pixel[equal], ids[face[equal]], "amax")
        depth = nearest
    return winner.int(), depth


def _drawn(positions: Tensor, faces: Tensor, H: int, W: int) -> tuple[Tensor, Tensor]:
    """Triangles [N, 3, 3] on the screen and the faces [N] that they are of: whole ones, and fans of clipped ones."""
    corners = positions[faces]  # [F, 3, 4]
    w = corners[..., 3:]
    reach = torch.cat([w + corners[..., :3], w - corners[..., :3]], -1)  # [F, 3, 6], not negative on the inside
    finite = corners.isfinite().all(-1).all(-1)
    whole = finite & (reach >= 0).all(-1).all(-1) & (w > 0).all(1)[:, 0]
    lost = (reach < 0).all(1).any(-1)  # all three beyond one plane
    pieces, owners = [], []
    crossing = (finite & ~whole & ~lost).nonzero()[:, 0]
    for f, triangle in zip(crossing.tolist(), corners[crossing].tolist(), strict=True):
        polygon = _clip(triangle)
        for k in range(1, len(polygon) - 1):
            pieces.append([polygon[0], polygon[k], polygon[k + 1]])
            owners.append(f)
    parts = corners.new_tensor(pieces).reshape(-1, 3, 4)
    ids = torch.cat([whole.nonzero()[:, 0], faces.new_tensor(owners).reshape(-1)])
    return _on_screen(torch.cat([corners[whole], parts]), H, W), ids


def _on_screen(clip: Tensor, H: int, W: int) -> Tensor:
    """Corners [..., 4] -> column and row, rounded to 1/16 about the middle of the image, and z/w + OFFSET."""
    ratio = (clip[..., :3] / clip[..., 3:]).clamp(-1, 1)
    half = clip.new_tensor([W / 2, H / 2])
    xy = (ratio[..., :2] * (half * _STEPS)).round() / _STEPS + half  # half to even
    return torch.cat([xy, ratio[..., 2:] + OFFSET], -1)


def _clip(polygon: list[_Corner]) -> list[_Corner]:
    """The part inside -w <= x, y, z <= w; none where a corner is not finite or has no positive w.

    A cut starts from the corner inside, so that the two faces at an edge are cut at the same place.
    """
    for axis in range(3):
        for sign in (1.0, -1.0):
            reach = [p[3] + sign * p[axis] for p in polygon]
            kept = []
            for k, p in enumerate(polygon):
                if (reach[k] >= 0) != (reach[k - 1] >= 0):
                    inner, outer = (k, k - 1) if reach[k] >= 0 else (k - 1, k)
                    t = reach[inner] / (reach[inner] - reach[outer])
                    kept.append([a + t * (b - a) for a, b in zip(polygon[inner], polygon[outer], strict=True)])
                if reach[k] >= 0:
                    kept.append(p)
            polygon = kept
    sound = all(p[3] > 0 and all(math.isfinite(value) for value in p) for p in polygon)
    return polygon if sound and len(polygon) >= 3 else []


# An op of its own, so that torch.compile sees one node of a known shape.
_VISIBLE = register(
    "_rasterize_clip_ref(Tensor positions, Tensor faces, int H, int W, Tensor? ranges, Tensor? behind)"
    " -> (Tensor, Tensor)",
    _visible,
    lambda positions, faces, H, W, *rest: (
        faces.new_empty(positions.shape[0], H, W),
        positions.new_empty(positions.shape[0], H, W, dtype=torch.float64),
    ),
)
