from .op import Render, render_sh

__all__ = ["Render", "render_sh"]
