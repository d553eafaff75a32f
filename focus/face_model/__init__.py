"""Face models: linear shape, expression and albedo, from the free asset, BFM, FLAME or ICT-FaceKit."""

from .model import FaceModel

__all__ = ["FaceModel"]
