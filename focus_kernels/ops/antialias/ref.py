"""antialias in plain PyTorch: the definition that every other backend is held to."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..._library import register
from ..rasterize.ref import _drawable, in_mesh

_BEHIND = -0.0625  # a surface that is seen at a centre does not end before it but by rounding
_FOLDED = 32  # faces that a surface is followed over behind a fold


def why_not(*args) -> list[str]:
    return []


def forward(
    image: Tensor, positions: Tensor, faces: Tensor, opposite: Tensor, face_index: Tensor, depth: Tensor
) -> Tensor:
    edges = _EDGES(positions.detach(), faces, opposite, face_index, depth)
    return blended(image, positions, faces, edges)


def blended(image: Tensor, positions: Tensor, faces: Tensor, edges: Tensor) -> Tensor:
    """The image [B, C, H, W] given what lies between its pixels: edges [B, 2, H, W], see `_edges`."""
    change, touched = torch.zeros_like(image), torch.zeros_like(image, dtype=torch.bool)
    # Pairs without an edge read two vertices of their own, so that nothing else is touched.
    nobody = positions.new_tensor([[0, 0, 1], [1, 1, 1]]).expand(len(positions), 2, 3)
    padded = torch.cat([positions, nobody], 1)
    for axis, dim in ((0, 3), (1, 2)):
        rest = min(image.shape[dim], 1)
        length = image.shape[dim] - rest
        code = edges[:, axis].narrow(dim - 1, 0, length)  # [B, H, W - 1] or [B, H - 1, W]
        near, far, takes_near, takes_far = _cover(padded, faces, code, axis)
        second = code < 0
        of_first = torch.where(second, far, near), torch.where(second, takes_far, takes_near)
        of_second = torch.where(second, near, far), torch.where(second, takes_near, takes_far)
        first, last = image.narrow(dim, 0, length), image.narrow(dim, rest, length)
        for own, other, at, (share, takes) in ((first, last, (0, rest), of_first), (last, first, (rest, 0), of_second)):
            takes = (takes & (code != 0))[:, None]
            term = share[:, None] * torch.where(takes, other - own, 0)
            sides = at if dim == 3 else (0, 0, *at)
            change = change + pad(torch.where(takes, term, 0), sides)
            touched = touched | pad(takes, sides)
    return torch.where(touched, image + change, image)


def _cover(positions: Tensor, faces: Tensor, code: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """near, far and whether each is more than zero for good, of the pairs [B, H', W'] of an axis."""
    B, V, _ = positions.shape
    corner = code.abs().long() - 1
    ends = torch.stack([(corner + 1) % 3, (corner + 2) % 3], -1) + (corner - corner % 3)[..., None]  # [B, H', W', 2]
    found = (code != 0)[..., None]
    nobody = torch.arange(V - 2, V, device=faces.device)
    flat = torch.cat([faces.reshape(-1).long(), nobody])
    spare = torch.arange(len(flat) - 2, len(flat), device=faces.device)
    ends = flat[torch.where(found, ends, spare)]
    a, b = positions[torch.arange(B, device=faces.device)[:, None, None, None], ends].unbind(3)  # [B, H', W', 3]
    row, column = (torch.arange(size, device=code.device, dtype=positions.dtype) + 0.5 for size in code.shape[1:])
    line, centre = (row[:, None], column) if axis == 0 else (column, row[:, None])
    t, slope = _crossing(a, b, axis, line, centre, code < 0)
    held = t < 0
    v = torch.where(held, 0, t) - 0.5
    h = 0.5 * torch.where(held, slope.detach(), slope).abs()
    above, below = v >= h, v <= -h
    four = 4 * torch.where(h > 0, h, 1)
    near = torch.where(below, -v, torch.where(above, 0, (h - v) * (h - v) / four))
    far = torch.where(below, 0, torch.where(above, v, (v + h) * (v + h) / four))
    return near, far, ~above | below, ~below


def _edges(positions: Tensor, faces: Tensor, opposite: Tensor, face_index: Tensor, depth: Tensor) -> Tensor:
    """What lies between each pixel and its right (0) and lower (1) neighbour: [B, 2, H, W].

    0: no silhouette; corner + 1: the edge opposite that corner (3 face + k), of the first pixel's surface;
    -(corner + 1): of the second's.
    """
    edges = face_index.new_zeros(face_index.shape[0], 2, *face_index.shape[1:])
    if not len(faces):
        return edges
    index = torch.where(in_mesh(face_index, faces), face_index, -1).long()
    depth = torch.where(index >= 0, depth, torch.inf)
    side = _facing(positions, faces)
    for axis in (0, 1):
        dim = 2 - axis
        length = max(index.shape[dim] - 1, 0)
        first, second = index.narrow(dim, 0, length), index.narrow(dim, min(index.shape[dim], 1), length)
        image, row, column = (first != second).nonzero().unbind(1)
        ids = torch.stack([index[image, row, column], index[image, row + axis, column + 1 - axis]])  # [2, N]
        z = torch.stack([depth[image, row, column], depth[image, row + axis, column + 1 - axis]])
        line, centre = (row, column) if axis == 0 else (column, row)
        line, centre = line.to(positions.dtype) + 0.5, centre.to(positions.dtype) + 0.5
        code = torch.zeros_like(row)
        pairs = torch.arange(len(row), device=row.device)
        of_second = (ids[0] < 0) | (z[1] < z[0])  # the nearer surface is asked first
        for _ in range(2):
            start = of_second.long()
            corner, arrived = _walk(
                positions, faces, opposite, side, image[pairs], ids[start, pairs], ids[1 - start, pairs], axis,
                line[pairs], centre[pairs] + (1 - start), 1 - 2 * start,
            )  # fmt: skip
            found = corner >= 0
            corner[found] = _outline(
                positions, faces, opposite, side, image[pairs[found]], corner[found], axis, line[pairs[found]],
                (centre[pairs] + start)[found], (1 - 2 * start)[found], z[1 - start, pairs][found],
            )  # fmt: skip
            code[pairs[found]] = torch.where(of_second[found], -1 - corner[found], 1 + corner[found])
            rest = ~found & ~arrived
            pairs, of_second = pairs[rest], ~of_second[rest]
        kept = _kept(positions, faces, image, code, axis, line, centre)
        edges[image, axis, row, column] = torch.where(kept, code, 0).int()
    return edges


def _facing(positions: Tensor, faces: Tensor) -> Tensor:
    """Which way each face looks, [B, F]: the sign of its signed area, 0 where it is not drawn."""
    triangles = positions[:, faces.long()].double()  # [B, F, 3, 3]
    (x0, x1, x2), (y0, y1, y2) = triangles[..., 0].unbind(2), triangles[..., 1].unbind(2)
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    kept = torch.stack([_drawable(image) for image in triangles]) if len(triangles) else area > 0
    return torch.where(kept, area.sign(), 0).long()


def _walk(positions, faces, opposite, side, image, face, other, axis, line, target, way) -> tuple[Tensor, Tensor]:
    """From a face seen at one centre towards the other: the corner at which the surface ends, or -1; and whether the
    face at the other centre was met."""
    corner, arrived = torch.full_like(face, -1), torch.zeros_like(face, dtype=torch.bool)
    own = side[image, face.clamp(min=0)]
    down = (own if axis == 0 else -own) == way
    walking = ((face >= 0) & (own != 0)).nonzero()[:, 0]
    face = face.clone()
    for _ in range(len(faces)):
        if not len(walking):
            break
        v = positions[image[walking, None], faces[face[walking]].long()]  # [N, 3, 3]
        u, w = v[..., axis], v[..., 1 - axis]
        above = w <= line[walking, None]
        leaves = (above.roll(-1, 1) == down[walking, None]) & (above.roll(-2, 1) != down[walking, None])
        k = leaves.int().argmax(1)
        ends = torch.stack([(k + 1) % 3, (k + 2) % 3], 1)
        ends = torch.where(down[walking, None], ends, ends.flip(1))
        (ua, ub), (wa, wb) = u.gather(1, ends).unbind(1), w.gather(1, ends).unbind(1)
        at = ua + (line[walking] - wa) / (wb - wa) * (ub - ua)
        before = leaves.any(1) & (way[walking] * (at - target[walking]) < 0)
        walking, here = walking[before], (3 * face[walking] + k)[before]
        behind = opposite[here].long()
        onward = torch.where(behind >= 0, behind, 0) // 3
        ends_here = (behind < 0) | (side[image[walking], onward] != own[walking])
        corner[walking[ends_here]] = here[ends_here]
        met = ~ends_here & (onward == other[walking])
        arrived[walking[met]] = True
        face[walking] = onward
        walking = walking[~ends_here & ~met]
    return corner, arrived


def _outline(positions, faces, opposite, side, image, corner, axis, line, near, way, depth) -> Tensor:
    """From the edge opposite `corner`, where the surface seen at the centre `near` folds back: the end, or the fold,
    farthest along of that surface, as far as it is followed and no deeper than `depth`."""
    corner, here, own = corner.clone(), corner, side[image, corner // 3]
    farthest, _ = _place(positions, faces, image, corner, axis, line)
    walking = torch.arange(len(corner), device=corner.device)
    for _ in range(_FOLDED):
        across = opposite[here].long()
        walking, across = walking[across >= 0], across[across >= 0]
        if not len(walking):
            break
        # Of the two other edges of the face, the one across the line; either where the face has none.
        turned = [across - across % 3 + (across + k) % 3 for k in (1, 2)]
        b, i = image[walking], [faces[turned[0] // 3, (turned[0] + k) % 3].long() for k in (1, 2)]
        above = [positions[b, v, 1 - axis] <= line[walking] for v in i]
        here = torch.where(above[0] != above[1], turned[0], turned[1])
        u, z = _place(positions, faces, b, here, axis, line[walking])
        onward, beyond = opposite[here].long(), way[walking] * (u - near[walking])
        looks = side[b, here // 3]
        walks = (looks != 0) & (beyond >= -0.5) & (beyond < 1)
        ends = (looks == own[walking]) & ((onward < 0) | (side[b, onward.clamp(min=0) // 3] != looks))
        ends &= walks & (way[walking] * (u - farthest[walking]) > 0) & (z <= depth[walking])
        corner[walking[ends]], farthest[walking[ends]] = here[ends], u[ends]
        walking, here = walking[walks], here[walks]
    return corner


def _place(positions, faces, image, corner, axis, line) -> tuple[Tensor, Tensor]:
    """Where the edges opposite `corner` cross the line, and how deep."""
    face, k = faces[corner // 3].long(), corner % 3
    ends = face.gather(1, torch.stack([(k + 1) % 3, (k + 2) % 3], 1))
    a, b = positions[image, ends[:, 0]], positions[image, ends[:, 1]]  # [N, 3]
    a, b = _upward(a, b, axis)
    share = (line - a[:, 1 - axis]) / (b[:, 1 - axis] - a[:, 1 - axis])
    at = a + share[:, None] * (b - a)
    return at[:, axis], at[:, 2]


def _upward(a, b, axis) -> tuple[Tensor, Tensor]:
    """The ends [..., 3] of edges in the order in which an edge has them from either of its faces."""
    swap = (b[..., 1 - axis] < a[..., 1 - axis])[..., None]
    return torch.where(swap, b, a), torch.where(swap, a, b)


def _kept(positions, faces, image, code, axis, line, centre) -> Tensor:
    """Whether the edges are taken across rows (axis 0) or columns (1), and are not those of another picture."""
    corner = (code.abs() - 1).clamp(min=0)
    face, k = faces[corner // 3].long(), corner % 3
    ends = face.gather(1, torch.stack([(k + 1) % 3, (k + 2) % 3], 1))
    a, b = positions[image, ends[:, 0]], positions[image, ends[:, 1]]  # [N, 3]
    t, _ = _crossing(a, b, axis, line, centre, code < 0)
    size = (b - a).abs()
    return (size[:, 0] <= size[:, 1] if axis == 0 else size[:, 1] < size[:, 0]) & (t >= _BEHIND)


def _crossing(a, b, axis, line, centre, second) -> tuple[Tensor, Tensor]:
    """The way from the near centre to the edge between a and b [..., 3], and the slope of the edge."""
    a, b = _upward(a, b, axis)
    run, rise = b[..., axis] - a[..., axis], b[..., 1 - axis] - a[..., 1 - axis]
    at = a[..., axis] + (line - a[..., 1 - axis]) / rise * run
    return torch.where(second, centre + 1 - at, at - centre), run / rise


# An op of its own, so that torch.compile sees one node of a known shape.
_EDGES = register(
    "_antialias_ref(Tensor positions, Tensor faces, Tensor opposite, Tensor face_index, Tensor depth) -> Tensor",
    _edges,
    lambda positions, faces, opposite, face_index, depth: face_index.new_empty(
        face_index.shape[0], 2, *face_index.shape[1:]
    ),
)
