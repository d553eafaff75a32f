"""The networks of FOCUS: reconstruction, segmentation, face recognition, and their files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arcface import ArcFace
    from .chips import arcface_chips, recognizer_chips
    from .perceptual import PerceptualNetwork
    from .recognizer import FaceRecognizer
    from .resnet import ReconstructionNetwork
    from .small import SmallEncoder
    from .unet import SegmentationNetwork
    from .weights import load_network, save_network

__all__ = [
    "ArcFace",
    "FaceRecognizer",
    "PerceptualNetwork",
    "ReconstructionNetwork",
    "SegmentationNetwork",
    "SmallEncoder",
    "arcface_chips",
    "load_network",
    "recognizer_chips",
    "save_network",
]

# Imported when they are first used, so that `import focus.networks` does not wait for torch.
_HOME = {
    "ArcFace": ".arcface",
    "FaceRecognizer": ".recognizer",
    "PerceptualNetwork": ".perceptual",
    "ReconstructionNetwork": ".resnet",
    "SegmentationNetwork": ".unet",
    "SmallEncoder": ".small",
    "arcface_chips": ".chips",
    "load_network": ".weights",
    "recognizer_chips": ".chips",
    "save_network": ".weights",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
