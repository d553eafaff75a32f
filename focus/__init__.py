"""FOCUS: model-based face reconstruction that knows what covers the face. The kernels are in `focus_kernels`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .camera import focus_camera
    from .face_model import FaceModel
    from .fitting import FitError, FitResult, FitSettings, fit_photo
    from .landmarks import make_detector, read_landmarks_csv
    from .presets import Preset
    from .prior import MisfitPrior
    from .reconstruct import Reconstructor

__all__ = [
    "FaceModel",
    "FitError",
    "FitResult",
    "FitSettings",
    "MisfitPrior",
    "Preset",
    "Reconstructor",
    "fit_photo",
    "focus_camera",
    "make_detector",
    "read_landmarks_csv",
]

# Imported when they are first used, so that `import focus` does not wait for torch.
_HOME = {
    "FaceModel": ".face_model",
    "FitError": ".fitting",
    "FitResult": ".fitting",
    "FitSettings": ".fitting",
    "MisfitPrior": ".prior",
    "Preset": ".presets",
    "Reconstructor": ".reconstruct",
    "fit_photo": ".fitting",
    "focus_camera": ".camera",
    "make_detector": ".landmarks",
    "read_landmarks_csv": ".landmarks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
