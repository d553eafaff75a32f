"""Fused kernels of face autoencoders for CPU and CUDA, each with its definition in plain PyTorch beside it."""

from .camera import Camera
from .ops.antialias import antialias
from .ops.blend import blend
from .ops.interpolate import interpolate
from .ops.masked_pixel_loss import inlier_mask, masked_pixel_loss
from .ops.neighbor_min_loss import neighbor_min_loss
from .ops.rasterize import Raster, rasterize
from .ops.rasterize_clip import ClipRaster, rasterize_clip
from .ops.rasterize_ndc import NdcRaster, rasterize_ndc
from .ops.render_sh import Render, render_sh
from .ops.shade_sh import shade_sh
from .ops.vertex_normals import vertex_normals
from .topology import Topology

__all__ = [
    "Camera",
    "ClipRaster",
    "NdcRaster",
    "Raster",
    "Render",
    "Topology",
    "antialias",
    "blend",
    "inlier_mask",
    "interpolate",
    "masked_pixel_loss",
    "neighbor_min_loss",
    "rasterize",
    "rasterize_clip",
    "rasterize_ndc",
    "render_sh",
    "shade_sh",
    "vertex_normals",
]
