"""render_sh in plain PyTorch: the definition that every other backend is held to, composed of the other definitions."""

from torch import Tensor

from ...camera import project
from ..interpolate import ref as interpolate
from ..rasterize import ref as rasterize
from ..shade_sh import ref as shade_sh
from ..vertex_normals import ref as vertex_normals


def why_not(*args) -> list[str]:
    return []


def forward(
    vertices: Tensor,
    albedo: Tensor,
    sh_coeffs: Tensor,
    faces: Tensor,
    offsets: Tensor,
    corners: Tensor,
    K: Tensor,
    R: Tensor,
    t: Tensor,
    H: int,
    W: int,
    coverage: int,
    cull: int,
    perspective: bool,
    highest: bool,
    orthographic: bool,
    focus: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    positions = project(vertices, K, R, t, orthographic)
    normals = vertex_normals.forward(vertices, faces, offsets, corners, not focus)
    turned = (R[:, None] * normals[:, :, None]).sum(-1)  # [B, V, 3], in the camera frame
    colors = shade_sh.forward(turned, albedo, sh_coeffs, focus)
    face_index, barycentrics, depth = rasterize.forward(positions, faces, H, W, coverage, cull, perspective, highest)
    image = interpolate.forward(colors, faces, face_index, barycentrics)
    mask = (face_index >= 0).to(image.dtype)[:, None]
    return image, mask, face_index, barycentrics, depth, positions
