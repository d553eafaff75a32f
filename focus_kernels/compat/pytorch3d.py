"""PyTorch3D's ``rasterize_meshes`` for one face per pixel, and the part of ``Meshes`` that its callers use.

Replace ``from pytorch3d.renderer.mesh import rasterize_meshes`` and ``from pytorch3d.structures import Meshes`` by
imports from here. DECA, EMOCA and SMIRK need no more of PyTorch3D's renderer than this.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from .. import Topology, _checks, interpolate, rasterize

# Upstream's kEpsilon: smallest doubled area (NDC) and depth of a drawn face, and what is added to the doubled area.
_EPSILON = 1e-8


class Meshes:
    """A batch of triangle meshes that may differ in size, with PyTorch3D's names for its layouts.

    Args:
        verts: list of [V_i, 3] tensors, or one [B, V, 3] tensor; float32 or float64.
        faces: list of [F_i, 3] integer tensors, or one [B, F, 3] tensor whose rows may end in padding of -1.

    "Packed" concatenates the meshes, with face indices into the packed vertices; "padded" stacks them, with 0 for
    missing vertices and -1 for missing faces. Gradients flow to ``verts``. Indices are checked once, here.

    Raises:
        TypeError, ValueError: a tensor has the wrong type, dtype, shape or device, or an index is out of range.
    """

    def __init__(self, verts: Sequence[Tensor] | Tensor, faces: Sequence[Tensor] | Tensor) -> None:
        self._verts = _as_list("verts", verts)
        self._faces = _as_list("faces", faces)
        if len(self._verts) != len(self._faces):
            expected = f"{len(self._verts)} meshes as verts"
            _checks.fail(ValueError, "Meshes", "faces", expected, str(len(self._faces)))
        if isinstance(faces, Tensor):
            self._faces = [f[: int((f >= 0).all(-1).sum())] for f in self._faces]
        for v, f in zip(self._verts, self._faces, strict=True):
            if v.dtype not in (torch.float32, torch.float64) or v.dtype != self._verts[0].dtype:
                _checks.fail(TypeError, "Meshes", "verts", "all float32 or all float64", str(v.dtype))
            if f.is_floating_point() or f.is_complex() or f.dtype == torch.bool:
                _checks.fail(TypeError, "Meshes", "faces", "integers", str(f.dtype))
            _checks.on("Meshes", "verts", v.device, "the first", self._verts[0].device)
            _checks.on("Meshes", "faces", f.device, "verts", v.device)
            if f.numel() and not 0 <= int(f.min()) <= int(f.max()) < v.shape[0]:
                _checks.fail(ValueError, "Meshes", "faces", f"in [0, {v.shape[0]})", f"{int(f.min())}..{int(f.max())}")
        if isinstance(verts, Tensor):
            self.device, self._dtype = verts.device, verts.dtype
        else:
            self.device = self._verts[0].device if self._verts else torch.device("cpu")
            self._dtype = self._verts[0].dtype if self._verts else torch.float32

    def __len__(self) -> int:
        return len(self._verts)

    def isempty(self) -> bool:
        """True when no mesh has a face."""
        return not any(f.shape[0] for f in self._faces)

    def to(self, device: torch.device | str) -> Meshes:
        """The same meshes on another device."""
        return Meshes([v.to(device) for v in self._verts], [f.to(device) for f in self._faces])

    def verts_list(self) -> list[Tensor]:
        """[V_i, 3] per mesh."""
        return list(self._verts)

    def faces_list(self) -> list[Tensor]:
        """int64 [F_i, 3] per mesh."""
        return [f.long() for f in self._faces]

    def verts_packed(self) -> Tensor:
        """[sum V, 3]."""
        return torch.cat([*self._verts, torch.empty((0, 3), dtype=self._dtype, device=self.device)])

    def faces_packed(self) -> Tensor:
        """int64 [sum F, 3], indices into ``verts_packed()``."""
        first = 0
        packed = [torch.empty((0, 3), dtype=torch.int64, device=self.device)]
        for v, f in zip(self._verts, self._faces, strict=True):
            packed.append(f.long() + first)
            first += v.shape[0]
        return torch.cat(packed)

    def verts_padded(self) -> Tensor:
        """[B, max V, 3], missing vertices 0."""
        return _pad(self._verts, 0.0, torch.empty((0, 3), dtype=self._dtype, device=self.device))

    def faces_padded(self) -> Tensor:
        """int64 [B, max F, 3], missing faces -1."""
        return _pad(self.faces_list(), -1, torch.empty((0, 3), dtype=torch.int64, device=self.device))

    def num_verts_per_mesh(self) -> Tensor:
        """int64 [B]."""
        return torch.tensor([v.shape[0] for v in self._verts], dtype=torch.int64, device=self.device)

    def num_faces_per_mesh(self) -> Tensor:
        """int64 [B]."""
        return torch.tensor([f.shape[0] for f in self._faces], dtype=torch.int64, device=self.device)

    def mesh_to_verts_packed_first_idx(self) -> Tensor:
        """int64 [B], where each mesh starts in ``verts_packed()``."""
        return _starts(self.num_verts_per_mesh())

    def mesh_to_faces_packed_first_idx(self) -> Tensor:
        """int64 [B], where each mesh starts in ``faces_packed()``."""
        return _starts(self.num_faces_per_mesh())

    def verts_packed_to_mesh_idx(self) -> Tensor:
        """int64 [sum V], the mesh of each packed vertex."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.num_verts_per_mesh())

    def faces_packed_to_mesh_idx(self) -> Tensor:
        """int64 [sum F], the mesh of each packed face."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.num_faces_per_mesh())


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
        meshes: `Meshes`, or any object with its packed methods (PyTorch3D's own do); float32 or float64.
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
        * Faces with a coordinate that is not finite, or more than 2^23 pixels off, are dropped with zero gradient.
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
    verts = meshes.verts_packed()
    if verts.dtype not in (torch.float32, torch.float64):
        _checks.fail(TypeError, "rasterize_meshes", "meshes", "of float32 or float64 vertices", str(verts.dtype))

    x, y, z = _corners(verts, meshes.faces_packed(), meshes.num_faces_per_mesh().tolist())  # [3, B, F] each
    keep = _is_drawn(x.detach(), y.detach(), z.detach())  # [B, F]
    # a harmless triangle stands in for a dropped one, so that no gradient meets 0 * inf
    x = torch.where(keep, x, x.new_tensor([0, 1, 0])[:, None, None])
    y = torch.where(keep, y, y.new_tensor([0, 0, 1])[:, None, None])
    z = torch.where(keep, z, 1)
    area = _doubled_area(x, y)
    bias = area / (area + _EPSILON)
    biased = not (perspective_correct or clip_barycentric_coords)

    # NDC to pixels; upstream orders affine faces by the biased depth
    scale = min(height, width) / 2
    depth = torch.where(keep, z * bias if biased else z, -1)
    positions = torch.stack([width / 2 - scale * x, height / 2 - scale * y, depth])  # [3, 3, B, F]
    corners, faces = _soup(keep.shape[1], keep.device)
    raster = rasterize(
        positions.permute(2, 3, 1, 0).flatten(1, 2),  # [B, 3F, 3]
        corners,
        (height, width),
        coverage="strict",
        cull="back" if cull_backfaces else None,
        perspective_correct=perspective_correct,
        tie="lowest",
    )
    covered = raster.face_index >= 0

    # distance to edge i = affine barycentric i times the height over it; b_i z_i / depth undoes perspective
    heights = area.abs() / torch.hypot(x.roll(-1, 0) - x.roll(1, 0), y.roll(-1, 0) - y.roll(1, 0))
    if perspective_correct:
        per_face = [bias * z[0] * z[1] * z[2], *(heights * z)]
    else:
        per_face = [bias, *heights]
    at_pixels = interpolate(torch.stack(per_face).permute(1, 2, 0), raster, faces)  # [B, 4, H, W]
    at_pixels = at_pixels.permute(0, 2, 3, 1)  # [B, H, W, 4]
    factor = at_pixels[..., 0]
    distance = (raster.barycentrics * at_pixels[..., 1:]).amin(-1)
    zbuf, bary = raster.depth, raster.barycentrics
    if perspective_correct:
        true_depth = torch.where(covered, zbuf, 1)
        distance = distance / true_depth
        denominator = factor / true_depth  # upstream divides by max(this, 1e-8)
        total = torch.where(denominator < _EPSILON, denominator / _EPSILON, 1)
        if clip_barycentric_coords:
            total = total / total.clamp(min=1e-5)
        zbuf, bary = zbuf * total, bary * total[..., None]
    elif biased:
        bary = bary * factor[..., None]

    first = meshes.mesh_to_faces_packed_first_idx()[:, None, None]
    pix_to_face = torch.where(covered, raster.face_index + first, -1)
    zbuf = torch.where(covered, zbuf, -1.0)
    bary = torch.where(covered[..., None], bary, -1.0)
    dists = torch.where(covered, -distance.square(), -1.0)
    return pix_to_face[..., None], zbuf[..., None], bary[..., None, :], dists[..., None]


def _corners(verts: Tensor, faces: Tensor, counts: list[int]) -> list[Tensor]:
    """x, y and z of the corners, [3, B, max F] each; missing faces are NaN."""
    most = max(counts, default=0)
    index = faces.t().reshape(-1)
    if verts.is_cuda:
        corners = [values[index] for values in verts.unbind(-1)]
    else:
        # one-dimensional index_select: on the CPU its backward adds in order, that of indexing does not
        corners = [values.index_select(0, index) for values in verts.unbind(-1)]
    corners = [values.view(3, -1) for values in corners]  # [3, sum F]
    if any(count != most for count in counts):
        slots = [b * most + f for b, count in enumerate(counts) for f in range(count)]
        place = torch.tensor(slots, dtype=torch.int64, device=verts.device)
        missing = verts.new_full((3, len(counts) * most), torch.nan)
        corners = [missing.index_copy(1, place, values) for values in corners]
    return [values.view(3, len(counts), most) for values in corners]


def _doubled_area(x: Tensor, y: Tensor) -> Tensor:
    """Signed doubled area of corners [3, ...], positive when counter-clockwise in the image (x left, y up)."""
    return (x[2] - x[0]) * (y[1] - y[0]) - (y[2] - y[0]) * (x[1] - x[0])


def _is_drawn(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Bool [B, F]: finite, in front, and not degenerate, by upstream's thresholds."""
    area = _doubled_area(x, y)
    finite = (area + x.sum(0) + y.sum(0) + z.sum(0)).isfinite()
    return finite & (area.abs() > _EPSILON) & (z.amin(0) >= _EPSILON)


@lru_cache(maxsize=16)
def _soup(num_faces: int, device: torch.device) -> tuple[Topology, Topology]:
    """Topologies of `num_faces` loose triangles: with three vertices each, and with one each, for values per face."""
    # normal tensors even when first needed in inference mode, because autograd saves them later
    with torch.inference_mode(False):
        corners = torch.arange(3 * num_faces, dtype=torch.int32, device=device).view(-1, 3)
        faces = torch.arange(num_faces, dtype=torch.int32, device=device)[:, None].expand(-1, 3)
        return Topology(corners, 3 * num_faces), Topology(faces, num_faces)


def _image_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    sides = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    try:
        height, width = (operator.index(side) for side in sides)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        _checks.fail(ValueError, "rasterize_meshes", "image_size", "a positive int or (H, W)", repr(image_size))
    return height, width


def _as_list(name: str, value: Sequence[Tensor] | Tensor) -> list[Tensor]:
    if isinstance(value, Tensor):
        _checks.shape("Meshes", name, value, (-1, -1, 3))
        return list(value.unbind(0))
    if not isinstance(value, (list, tuple)):
        _checks.fail(TypeError, "Meshes", name, "a tensor or a list of tensors", type(value).__name__)
    for item in value:
        _checks.tensor("Meshes", name, item)
        _checks.shape("Meshes", name, item, (-1, 3))
    return list(value)


def _pad(items: list[Tensor], fill: float, empty: Tensor) -> Tensor:
    most = max((item.shape[0] for item in items), default=0)
    padded = [torch.cat([item, item.new_full((most - item.shape[0], 3), fill)]) for item in items]
    return torch.stack(padded) if padded else empty.reshape(0, 0, 3)


def _starts(counts: Tensor) -> Tensor:
    return counts.cumsum(0) - counts
