"""The FOCUS authors' renderer and decoder functions (Occlusion-Robust-MoFA) on these kernels.

Replace the package before the module: ``renderer.rendering``, ``renderer.geometry``,
``renderer.shading``, ``encoder.encoder`` and ``encoder.camera_matrix`` are ``focus_kernels.compat.focus.rendering``,
``.geometry``, ``.shading``, ``.encoder`` and ``.camera_matrix``. All names can be imported from here as well.
``FaceEncoder`` of ``encoder.encoder`` is not here.
"""

from .camera_matrix import calc_extrinxic_camera_matrix, euler_rotation
from .encoder import convert_params, convert_params_noexp
from .geometry import calc_face_normal, calc_vertex_normal, calc_vertex_to_face_map, perspective_projection
from .rendering import (
    RASTERIZE_DIFFERENTIABLE_IMAGE,
    RASTERIZE_IMAGE,
    SAMPLE_IMAGE,
    DifferentiableRasterizer,
    OcclusionDetector,
    Rasterizer,
    Renderer,
)
from .shading import calc_sh_basis

__all__ = [
    "RASTERIZE_DIFFERENTIABLE_IMAGE",
    "RASTERIZE_IMAGE",
    "SAMPLE_IMAGE",
    "DifferentiableRasterizer",
    "OcclusionDetector",
    "Rasterizer",
    "Renderer",
    "calc_extrinxic_camera_matrix",
    "calc_face_normal",
    "calc_sh_basis",
    "calc_vertex_normal",
    "calc_vertex_to_face_map",
    "convert_params",
    "convert_params_noexp",
    "euler_rotation",
    "perspective_projection",
]
