"""Other people's renderer interfaces on these kernels: one module or package per upstream (docs/dropins.md)."""

from ._install import install, uninstall

__all__ = ["install", "uninstall"]
