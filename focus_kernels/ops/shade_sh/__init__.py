from .op import shade_sh

__all__ = ["shade_sh"]
