"""Synthetic faces with exact ground truth: random faces of a face model, backgrounds and occluders."""

from .backgrounds import BACKGROUNDS
from .dataset import Sample, SyntheticFaces, collate, synthesize
from .occluders import KINDS
from .scenes import FaceParameters, SceneSettings
from .write import read_parameters, write_samples

__all__ = [
    "BACKGROUNDS",
    "KINDS",
    "FaceParameters",
    "Sample",
    "SceneSettings",
    "SyntheticFaces",
    "collate",
    "read_parameters",
    "synthesize",
    "write_samples",
]
