from .op import ClipRaster, rasterize_clip

__all__ = ["ClipRaster", "rasterize_clip"]
