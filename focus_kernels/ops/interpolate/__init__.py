from .op import interpolate

__all__ = ["interpolate"]
