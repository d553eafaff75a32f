"""Reconstruction with a trained autoencoder: photos and videos to meshes, parameters, masks and pages."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .export import export_reconstruction, parameters
    from .frames import VideoError
    from .now import now_path, write_now
    from .reconstructor import Reconstructor
    from .result import ReconstructionError, ReconstructionResult
    from .smoothing import OneEuro
    from .video import VideoResult, reconstruct_video

__all__ = [
    "OneEuro",
    "ReconstructionError",
    "ReconstructionResult",
    "Reconstructor",
    "VideoError",
    "VideoResult",
    "export_reconstruction",
    "now_path",
    "parameters",
    "reconstruct_video",
    "write_now",
]

# Imported when they are first used, so that `import focus.reconstruct` does not wait for torch.
_HOME = {
    "OneEuro": ".smoothing",
    "ReconstructionError": ".result",
    "ReconstructionResult": ".result",
    "Reconstructor": ".reconstructor",
    "VideoError": ".frames",
    "VideoResult": ".video",
    "export_reconstruction": ".export",
    "now_path": ".now",
    "parameters": ".export",
    "reconstruct_video": ".video",
    "write_now": ".now",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
