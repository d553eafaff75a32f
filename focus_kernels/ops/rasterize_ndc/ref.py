"""rasterize_ndc in plain PyTorch: the definition that every other backend is held to.

Positions become pixels in their own dtype; from there on all is float64, rounded once.
"""

import torch
from torch import Tensor

from ..._library import register
from ..rasterize.ref import _BACKGROUND, _edges, _visible_in_image, at_corners, weigh

_EPSILON = 1e-8  # NDC: the least depth and doubled area, and what is added to the doubled area
_LEAST_SUM = 1e-5  # what clipped barycentrics are divided by at least
_STRICT = 2


def why_not(*args) -> list[str]:
    return []


def forward(
    positions: Tensor, faces: Tensor, H: int, W: int, cull: int, perspective: bool, clip: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    face_index = _VISIBLE(positions.detach(), faces, H, W, cull, perspective, clip)
    values = _at_pixels(_in_pixels(positions, H, W).double(), faces, face_index, perspective, clip)
    covered = face_index >= 0
    depth, barycentrics, distances = (value.to(positions.dtype) for value in values)
    barycentrics = torch.where(covered[..., None], barycentrics, -1)
    return face_index, torch.where(covered, depth, -1), barycentrics, torch.where(covered, distances, -1)


def _in_pixels(positions: Tensor, H: int, W: int) -> Tensor:
    x, y, z = positions.unbind(-1)
    scale = min(H, W) / 2
    return torch.stack([W / 2 - scale * x, H / 2 - scale * y, z], -1)


def _bias_factor(area: Tensor, bias: float) -> Tensor:
    """A / (A + 1e-8), from the shoelace area in pixels, which has the other sign."""
    return area / (area - bias)


def _area(corners: Tensor) -> Tensor:
    """Twice the signed area of corners [..., 3, 3], positive when clockwise on the screen."""
    (x0, x1, x2), (y0, y1, y2) = corners[..., 0].unbind(-1), corners[..., 1].unbind(-1)
    return (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)


def _at_pixels(
    positions: Tensor, faces: Tensor, face_index: Tensor, perspective: bool, clip: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, barycentrics and distances in the visible faces; those of any triangle at background."""
    _, H, W = face_index.shape
    scale = min(H, W) / 2
    corners = at_corners(positions, faces, face_index, positions.new_tensor(_BACKGROUND))  # [B, H, W, 3, 3]
    row = torch.arange(H, device=positions.device, dtype=positions.dtype)[:, None] + 0.5
    column = torch.arange(W, device=positions.device, dtype=positions.dtype) + 0.5
    edges, z = _edges(corners, column, row), corners[..., 2]  # [B, H, W, 3]
    barycentrics, depth = weigh(edges, z, perspective)
    factor = _bias_factor(_area(corners), _EPSILON * scale**2)  # [B, H, W]
    if perspective:
        least = _EPSILON * (_LEAST_SUM if clip else 1)
        denominator = factor * z.prod(-1) / depth  # of upstream, which divides by at least 1e-8
        factor = torch.where(denominator < least, denominator / least, 1)
    if perspective or not clip:
        barycentrics, depth = barycentrics * factor[..., None], depth * factor

    x, y, _ = (corners.roll(-2, -2) - corners.roll(-1, -2)).unbind(-1)  # of the edge opposite each corner
    squared = edges.square() / (x.square() + y.square())
    first, second, third = squared.unbind(-1)
    nearest = torch.where(second < third, second, third)  # of equal ones the last, as upstream
    nearest = torch.where(first < nearest, first, nearest)
    return depth, barycentrics, -nearest / scale**2


def _visible(positions, faces, H, W, cull, perspective, clip):
    pixels = _in_pixels(positions, H, W)
    bias = _EPSILON * (min(H, W) / 2) ** 2
    face_index = torch.empty(positions.shape[0], H, W, dtype=torch.int32, device=positions.device)
    for b in range(positions.shape[0]):
        corners = pixels[b].double()[faces.long()]  # [F, 3, 3]
        area = _area(corners)  # [F]
        kept = (area.abs() > bias) & (positions[b, :, 2] >= _EPSILON)[faces.long()].all(-1)
        factor = torch.ones_like(area) if perspective or clip else _bias_factor(area, bias)
        factor = torch.where(kept, factor, 0)
        face_index[b] = _visible_in_image(pixels[b], faces, H, W, _STRICT, cull, perspective, False, factor)
    return face_index


# An op of its own, so that torch.compile sees one node of a known shape.
_VISIBLE = register(
    "_rasterize_ndc_ref(Tensor positions, Tensor faces, int H, int W, int cull, bool perspective, bool clip) -> Tensor",
    _visible,
    lambda positions, faces, H, W, *rest: faces.new_empty(positions.shape[0], H, W),
)
