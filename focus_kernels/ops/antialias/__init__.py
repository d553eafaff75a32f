from .op import antialias

__all__ = ["antialias"]
