"""PyTorch3D's ``rasterize_meshes`` for one face per pixel, its ``Meshes``, ``TexturesVertex`` and OBJ files.

Replace ``from pytorch3d.renderer.mesh import rasterize_meshes``, ``from pytorch3d.structures import Meshes``,
``from pytorch3d.renderer import TexturesVertex`` by imports from here, and ``from pytorch3d.io import load_obj`` by one
from ``focus_kernels.compat.pytorch3d.io``.
"""

from .rasterize import rasterize_meshes
from .structures import Meshes
from .textures import TexturesVertex

__all__ = ["Meshes", "TexturesVertex", "rasterize_meshes"]
