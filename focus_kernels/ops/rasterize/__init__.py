from .op import Raster, rasterize

__all__ = ["Raster", "rasterize"]
