"""DECA's rasterizers (``decalib.utils.renderer``, as also used by EMOCA and SMIRK) on these kernels.

Import ``set_rasterizer``, ``StandardRasterizer`` and ``Pytorch3dRasterizer`` from here in place of
``decalib.utils.renderer``, and ``standard_rasterize`` in place of the CUDA extension.

Clean room: written from a description of the interface and from PyTorch3D's rules, without DECA's sources.
``SRenderY``, which that description does not determine, is not here; ``add_SHlight`` is its shading, as a function.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from .. import Raster, Topology, _checks, interpolate, rasterize
from ._topologies import TopologyCache
from .pytorch3d._layouts import corners, positive_int
from .pytorch3d.rasterize import rasterize_meshes
from .pytorch3d.structures import Meshes

_TOPOLOGIES = TopologyCache()
_RASTERIZERS = {"pytorch3d": 0, "standard": 1}

# Factors of 1, x, y, z, xy, xz, yz, x^2 - y^2 and 3 z^2 - 1, the cosine lobe included.
_SH_FACTORS = (0.282095, 1.023327, 1.023327, 1.023327, 0.858086, 0.858086, 0.858086, 0.429043, 0.247708)


def set_rasterizer(type: str = "pytorch3d") -> None:
    """Accepts "pytorch3d" and "standard"; nothing is compiled or imported, and both rasterizers are always there.

    Raises:
        TypeError, ValueError: another type.
    """
    _checks.choice("set_rasterizer", "type", type, _RASTERIZERS)


class Pytorch3dRasterizer(nn.Module):
    """Interpolates attributes of face corners, with PyTorch3D's rules of coverage.

    ``(vertices, faces, attributes, h, w) -> [B, D + 1, H, W]``: see `forward`. No parameters, no buffers, an empty
    ``state_dict``.

    Args:
        image_size: side of the square image.

    Differences from upstream: those of `focus_kernels.compat.pytorch3d.rasterize_meshes`; float64 is served.
    """

    def __init__(self, image_size: int = 224) -> None:
        super().__init__()
        self.image_size = positive_int("Pytorch3dRasterizer", "image_size", image_size)

    def forward(
        self, vertices: Tensor, faces: Tensor, attributes: Tensor, h: int | None = None, w: int | None = None
    ) -> Tensor:
        """Draw a batch.

        The pixel in row r and column c samples x = (2c + 1) / W - 1, y = (2r + 1) / H - 1. A centre exactly on an edge
        belongs to no face; faces with a depth below 1e-8 or a doubled area within 1e-8 of zero are dropped, and both
        windings are drawn. Barycentrics are affine and sum to A / (A + 1e-8), A the signed doubled area.

        Args:
            vertices: [B, V, 3] in [-1, 1], x right, y down, z positive and larger when farther (callers add 10);
                float32 or float64.
            faces: [B, F, 3] integers in [0, V), usually the same for all items; rows of -1 at the end draw nothing.
            attributes: [B, F, 3, D], D values for each corner of each face, dtype and device of ``vertices``.
            h, w: size of the image; None is ``image_size``.

        Returns:
            [B, D + 1, H, W]: the attributes, 0 at background, and whether a face is seen (1 or 0, without gradient).
            Differentiable in ``vertices`` and ``attributes``, with visibility held fixed.

        Raises:
            TypeError, ValueError: a wrong type, dtype, shape, device or range.
        """
        op = "Pytorch3dRasterizer"
        vertices, attributes = _checked(op, vertices, faces, attributes)
        H, W = _size(op, h, w, self.image_size, self.image_size)
        # PyTorch3D looks along z with x left and y up, and its shorter side spans [-1, 1]
        shorter = min(H, W)
        verts = vertices * vertices.new_tensor([-W / shorter, -H / shorter, 1.0])
        meshes = Meshes(verts, faces)
        pix_to_face, zbuf, bary, _ = rasterize_meshes(meshes, (H, W))
        first = meshes.mesh_to_faces_packed_first_idx()[:, None, None]
        index = torch.where(pix_to_face[..., 0] < 0, -1, pix_to_face[..., 0] - first).int()
        return _with_visibility(attributes, Raster(index, bary[..., 0, :], zbuf[..., 0]))


class StandardRasterizer(nn.Module):
    """Interpolates attributes of face corners, without holes between faces.

    As `Pytorch3dRasterizer`, except that a centre exactly on an edge shared by two faces belongs to one of them (the
    top-left rule of GPUs) and that barycentrics sum to 1. No parameters, no buffers, an empty ``state_dict``.

    Args:
        height, width: of the image; width None is height.

    Differences from upstream:
        * Differentiable in ``vertices`` and ``attributes``; upstream is not.
        * Nothing is compiled when it is first used, and the CPU is served.
        * A width left out is the module's own; upstream takes its height.
        * Which face has a centre exactly on an edge is defined, as above, and ties go to the lowest face.
    """

    def __init__(self, height: int, width: int | None = None) -> None:
        super().__init__()
        self.h = positive_int("StandardRasterizer", "height", height)
        self.w = self.h if width is None else positive_int("StandardRasterizer", "width", width)

    def forward(
        self, vertices: Tensor, faces: Tensor, attributes: Tensor, h: int | None = None, w: int | None = None
    ) -> Tensor:
        """Draw a batch; see `Pytorch3dRasterizer.forward` for the arguments, the frame, the result and the errors.

        ``h`` and ``w`` None are the module's. Faces with a depth that is not positive are dropped.
        """
        op = "StandardRasterizer"
        vertices, attributes = _checked(op, vertices, faces, attributes)
        H, W = _size(op, h, w, self.h, self.w)
        x, y, z = vertices.unbind(-1)
        positions = torch.stack([(x + 1) * (W / 2), (y + 1) * (H / 2), z], -1)
        if len(faces) < 2 or faces.stride(0) == 0 or torch.equal(faces, faces[:1].expand_as(faces)):
            mesh = faces[0] if len(faces) else faces.new_zeros(0, 3)
            topology = _TOPOLOGIES.look_up(mesh, positions.shape[1])
        else:
            positions, topology = _loose(op, positions, faces), _soup(faces.shape[1], faces.device)
        return _with_visibility(attributes, _drawn(positions, topology, H, W))


def standard_rasterize(
    face_vertices: Tensor, depth_buffer: Tensor, triangle_buffer: Tensor, baryw_buffer: Tensor, h: int, w: int
) -> None:
    """Draws faces into buffers, in place, where they are nearer than what the depth buffer holds.

    Pixels are sampled at their centres, (column + 0.5, row + 0.5). Both windings are drawn, barycentrics are affine,
    a centre exactly on a shared edge belongs to one of its faces (the top-left rule), and the lowest face wins a tie.
    Faces with a depth that is not positive are dropped. Without gradient.

    Args:
        face_vertices: [B, F, 3, 3], the corners of the faces: x right and y down in pixels, z positive and larger when
            farther; float32 or float64.
        depth_buffer: [B, h, w], as ``face_vertices``; filled by the caller with what lies behind all faces.
        triangle_buffer: int32 or int64 [B, h, w]; becomes the face's number in its item.
        baryw_buffer: [B, h, w, 3], as ``face_vertices``; becomes the weights of its corners.
        h, w: size of the image.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape or device.
    """
    op = "standard_rasterize"
    names = {"face_vertices": face_vertices, "depth_buffer": depth_buffer, "baryw_buffer": baryw_buffer}
    for name, value in names.items():
        _checks.tensor(op, name, value)
        if value.dtype not in (torch.float32, torch.float64):  # a widened copy would not be written in place
            _checks.fail(TypeError, op, name, "float32 or float64", str(value.dtype))
        _checks.like(op, name, value, "face_vertices", face_vertices)
    _checks.tensor(op, "triangle_buffer", triangle_buffer)
    if triangle_buffer.dtype not in (torch.int32, torch.int64):
        _checks.fail(TypeError, op, "triangle_buffer", "int32 or int64", str(triangle_buffer.dtype))
    _checks.on(op, "triangle_buffer", triangle_buffer.device, "face_vertices", face_vertices.device)
    H, W = _checks.size(op, (h, w))
    _checks.shape(op, "face_vertices", face_vertices, (-1, -1, 3, 3))
    B, F = face_vertices.shape[:2]
    _checks.shape(op, "depth_buffer", depth_buffer, (B, H, W))
    _checks.shape(op, "triangle_buffer", triangle_buffer, (B, H, W))
    _checks.shape(op, "baryw_buffer", baryw_buffer, (B, H, W, 3))
    with torch.no_grad():
        raster = _drawn(face_vertices.flatten(1, 2), _soup(F, face_vertices.device), H, W)
        nearer = (raster.face_index >= 0) & (raster.depth < depth_buffer)
        depth_buffer.copy_(torch.where(nearer, raster.depth, depth_buffer))
        triangle_buffer.copy_(torch.where(nearer, raster.face_index, triangle_buffer))
        baryw_buffer.copy_(torch.where(nearer[..., None], raster.barycentrics, baryw_buffer))


def add_SHlight(normal_images: Tensor, sh_coeff: Tensor) -> Tensor:
    """Shading by DECA's spherical harmonics: sum_k sh_coeff_k * factor_k * basis_k(n), with the cosine lobe.

    The basis is 1, x, y, z, xy, xz, yz, x^2 - y^2, 3 z^2 - 1, with the factors 0.282095, three times 1.023327, three
    times 0.858086, 0.429043 and 0.247708.

    Args:
        normal_images: [B, 3, H, W] normals, taken as they are; float32 or float64.
        sh_coeff: [B, 9, 3], nine coefficients for each colour, as ``normal_images``.

    Returns:
        [B, 3, H, W], to be multiplied by the albedo. Differentiable in both.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape or device.
    """
    normal_images, sh_coeff = _checks.floats("add_SHlight", normal_images=normal_images, sh_coeff=sh_coeff)
    _checks.shape("add_SHlight", "normal_images", normal_images, (-1, 3, -1, -1))
    _checks.shape("add_SHlight", "sh_coeff", sh_coeff, (normal_images.shape[0], 9, 3))
    x, y, z = normal_images.unbind(1)  # [B, H, W]
    basis = torch.stack([torch.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], 1)
    scaled = sh_coeff * sh_coeff.new_tensor(_SH_FACTORS)[:, None]
    with torch.autocast(basis.device.type, enabled=False):
        return torch.einsum("bkhw,bkc->bchw", basis, scaled)


def _checked(op: str, vertices: Tensor, faces: Tensor, attributes: Tensor) -> list[Tensor]:
    """vertices and attributes, checked, as faces are except for their range."""
    vertices, attributes = _checks.floats(op, vertices=vertices, attributes=attributes)
    _checks.shape(op, "vertices", vertices, (-1, -1, 3))
    _checks.tensor(op, "faces", faces)
    if faces.is_floating_point() or faces.is_complex() or faces.dtype == torch.bool:
        _checks.fail(TypeError, op, "faces", "integers", str(faces.dtype))
    _checks.on(op, "faces", faces.device, "vertices", vertices.device)
    _checks.shape(op, "faces", faces, (vertices.shape[0], -1, 3))
    _checks.shape(op, "attributes", attributes, (*faces.shape, -1))
    return [vertices, attributes]


def _size(op: str, h: int | None, w: int | None, height: int, width: int) -> tuple[int, int]:
    return _checks.size(op, (height if h is None else h, width if w is None else w))


def _loose(op: str, positions: Tensor, faces: Tensor) -> Tensor:
    """positions [B, V, 3] at faces [B, F, 3]: [B, 3F, 3], the vertices of loose triangles."""
    B, V = positions.shape[:2]
    if faces.numel():
        low, high = (int(bound) for bound in torch.aminmax(faces))
        if low < 0 or high >= V:
            _checks.fail(ValueError, op, "faces", f"in [0, {V})", f"{low}..{high}")
    packed = faces.long() + torch.arange(B, device=faces.device)[:, None, None] * V
    return corners(positions.reshape(-1, 3), packed.reshape(-1, 3)).view(B, -1, 3)


def _drawn(positions: Tensor, topology: Topology, H: int, W: int) -> Raster:
    return rasterize(positions, topology, (H, W), cull=None, perspective_correct=False)


def _with_visibility(attributes: Tensor, raster: Raster) -> Tensor:
    """Attributes [B, F, 3, D] at the pixels, and the mask: [B, D + 1, H, W]."""
    image = interpolate(attributes.flatten(1, 2), raster, _soup(attributes.shape[1], attributes.device))
    return torch.cat([image, (raster.face_index >= 0).to(image.dtype)[:, None]], 1)


@lru_cache(maxsize=16)
def _soup(num_faces: int, device: torch.device) -> Topology:
    """Loose triangles, with three vertices of their own each."""
    return Topology(torch.arange(3 * num_faces, device=device).view(-1, 3), 3 * num_faces)
