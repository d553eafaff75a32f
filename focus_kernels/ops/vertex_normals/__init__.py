from .op import vertex_normals

__all__ = ["vertex_normals"]
