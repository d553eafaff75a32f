"""nvdiffrast's operations on these kernels, for the CPU and CUDA: ``import focus_kernels.compat.nvdiffrast as dr``.

Replace ``import nvdiffrast.torch as dr`` by that; nothing else changes. Clean room: written from nvdiffrast's public
documentation, the paper (Laine et al. 2020) and measured behaviour, not from its sources.
"""

from .antialias import TopologyHash, antialias, antialias_construct_topology_hash
from .interpolation import interpolate
from .raster import DepthPeeler, rasterize
from .settings import RasterizeCudaContext, RasterizeGLContext, get_log_level, set_log_level
from .texture import texture, texture_construct_mip

__all__ = [
    "DepthPeeler",
    "RasterizeCudaContext",
    "RasterizeGLContext",
    "TopologyHash",
    "antialias",
    "antialias_construct_topology_hash",
    "get_log_level",
    "interpolate",
    "rasterize",
    "set_log_level",
    "texture",
    "texture_construct_mip",
]
