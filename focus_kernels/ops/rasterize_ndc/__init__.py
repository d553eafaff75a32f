from .op import NdcRaster, rasterize_ndc

__all__ = ["NdcRaster", "rasterize_ndc"]
