"""FOCUS: model-based face reconstruction that knows what covers the face. The kernels are in `focus_kernels`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .face_model import FaceModel

__all__ = ["FaceModel"]

# Names and where they live: imported when they are first used, so that `import focus` does not wait for torch.
_HOME = {"FaceModel": ".face_model"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
