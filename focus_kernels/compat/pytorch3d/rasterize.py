"""PyTorch3D's ``rasterize_meshes`` for one face per pixel."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from ... import _checks, rasterize_ndc
from .._topologies import TopologyCache
from .structures import Meshes

_TOPOLOGIES = TopologyCache(32)


def rasterize_meshes(
    meshes: Meshes,
    image_size: int | Sequence[int] = 256,
    blur_radius: float = 0.0,
    faces_per_pixel: int = 1,
    bin_size: int | None = None,
    max_faces_per_bin: int | None = None,
    perspective_correct: bool = False,
    clip_barycentric_coords: bool = False,
    cull_backfaces: bool = False,
    z_clip_value: float | None = None,
    cull_to_frustum: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rasterize meshes in PyTorch3D's normalised device coordinates: x left, y up, z forward.

    The shorter side of the image spans [-1, 1] and pixels are square, with their centres at half steps. A face is
    drawn where all three barycentrics are strictly positive, so a centre exactly on an edge belongs to no face; it is
    dropped when a depth is below 1e-8 or its doubled area (NDC) is within 1e-8 of zero. The smallest depth wins, then
    the lowest index. Upstream's 1e-8 in the denominator is reproduced, in values, depth order and gradients:
    barycentrics sum to A / (A + 1e-8), A the signed doubled area, and ``zbuf`` is scaled alike; with
    ``perspective_correct`` the sum is 1.

    Args:
        meshes: `Meshes`, or any object with its packed methods (PyTorch3D's own do); float32 or float64. Meshes of
            equal faces, as an expanded tensor has, are drawn in one call.
        image_size: side of a square image, or (H, W).
        blur_radius: 0 only.
        faces_per_pixel: 1 only, which is also the default (upstream's is 8).
        bin_size, max_faces_per_bin: accepted and without effect; nothing is binned, so nothing overflows.
        perspective_correct: perspective-correct instead of screen-space barycentrics; zbuf follows.
        clip_barycentric_coords: divide the barycentrics by their sum, so that it is 1.
        cull_backfaces: draw only faces that are counter-clockwise in the image.
        z_clip_value: None only.
        cull_to_frustum: False only.

    Returns:
        ``(pix_to_face int64 [B, H, W, 1] packed face index, zbuf [B, H, W, 1], bary_coords [B, H, W, 1, 3], dists
        [B, H, W, 1])``, -1 where there is no face. ``dists`` is minus the squared NDC distance to the nearest edge. The
        last three are differentiable in the vertices, with visibility held fixed.

    Raises:
        TypeError, ValueError: an option that is not supported, named; a wrong type, dtype, shape or range.

    Differences from upstream:
        * ``faces_per_pixel`` defaults to 1, not 8.
        * Faces with a coordinate that is not finite or more than 2^23 pixels off, or a depth above 1e18, are dropped
          with zero gradient.
        * The result never depends on bins.
        * For a face with an edge shorter than 1e-4, ``dists`` measures to that edge, upstream to one of its ends.
        * Where depths below about 1e-4 make upstream clamp its perspective denominator to 1e-8, ``zbuf`` and
          ``bary_coords`` are clamped alike, but overlapping faces are ordered by their true depth.
        * float64 vertices are served; upstream takes float32 only.
    """
    for name, value, only in (
        ("blur_radius", blur_radius, 0),
        ("faces_per_pixel", faces_per_pixel, 1),
        ("z_clip_value", z_clip_value, None),
        ("cull_to_frustum", cull_to_frustum, False),
    ):
        if value != only:
            _checks.fail(ValueError, "rasterize_meshes", name, str(only), repr(value))
    height, width = _image_size(image_size)
    first = meshes.mesh_to_faces_packed_first_idx()
    images = [
        rasterize_ndc(
            positions,
            _TOPOLOGIES.look_up(faces, positions.shape[1]),
            (height, width),
            perspective_correct=bool(perspective_correct),
            clip_barycentrics=bool(clip_barycentric_coords),
            cull_backfaces=bool(cull_backfaces),
        )
        for positions, faces in _batches(meshes)
    ]
    if len(images) == 1:
        face_index, zbuf, bary, dists = images[0]
    elif images:
        face_index, zbuf, bary, dists = (torch.cat(outputs) for outputs in zip(*images, strict=True))
    else:
        zbuf = dists = meshes.verts_packed().new_empty(0, height, width)
        face_index, bary = zbuf.int(), zbuf.new_empty(0, height, width, 3)
    pix_to_face = face_index.long()
    if len(first) > 1:  # the first mesh starts at face 0
        pix_to_face = torch.where(pix_to_face >= 0, pix_to_face + first[:, None, None], -1)
    return pix_to_face[..., None], zbuf[..., None], bary[..., None, :], dists[..., None]


def _batches(meshes: Meshes) -> list[tuple[Tensor, Tensor]]:
    """Positions [B, V, 3] and faces [F, 3] to draw at once: all meshes when their faces are the same, else each."""
    if isinstance(meshes, Meshes):
        vertices, faces = meshes.verts_list(), meshes.faces_list()
    else:
        vertices, faces = _unpacked(meshes)
    if not vertices:
        return []
    if vertices[0].dtype not in (torch.float32, torch.float64):
        _checks.fail(TypeError, "rasterize_meshes", "meshes", "of float32 or float64 vertices", str(vertices[0].dtype))
    if all(len(v) == len(vertices[0]) for v in vertices) and all(_same(f, faces[0]) for f in faces):
        return [(torch.stack(vertices) if len(vertices) > 1 else vertices[0][None], faces[0])]
    return [(v[None], f) for v, f in zip(vertices, faces, strict=True)]


def _unpacked(meshes: Meshes) -> tuple[list[Tensor], list[Tensor]]:
    """Vertices [V_i, 3] and faces [F_i, 3] of each mesh, from an object that has the packed methods only."""
    verts, faces, face_counts = meshes.verts_packed(), meshes.faces_packed(), meshes.num_faces_per_mesh().tolist()
    if len(face_counts) == 1:
        return [verts], [faces]
    vert_counts = meshes.num_verts_per_mesh().tolist()
    parts, first = [], 0
    for part, count in zip(faces.split(face_counts), vert_counts, strict=True):
        parts.append(part - first)
        first += count
    return list(verts.split(vert_counts)), parts


def _same(faces: Tensor, others: Tensor) -> bool:
    """Whether two face tensors are equal; those of an expanded tensor share their memory."""
    if faces.shape != others.shape:
        return False
    if (faces.data_ptr(), faces.stride(), faces.dtype) == (others.data_ptr(), others.stride(), others.dtype):
        return True
    return torch.equal(faces, others)


def _image_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    sides = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    try:
        height, width = (operator.index(side) for side in sides)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        _checks.fail(ValueError, "rasterize_meshes", "image_size", "a positive int or (H, W)", repr(image_size))
    return height, width
