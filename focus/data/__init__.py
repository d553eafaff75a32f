"""Faces to train and to evaluate on: photographs with landmarks, synthetic faces, and endless streams of them."""

from .augment import Augmentation
from .batch import Batch
from .photos import PhotoSource
from .source import Skipped, Source, UnusableItemError, in_order, split_of
from .stream import Stream
from .synthetic import SyntheticSource

__all__ = [
    "Augmentation",
    "Batch",
    "PhotoSource",
    "Skipped",
    "Source",
    "Stream",
    "SyntheticSource",
    "UnusableItemError",
    "in_order",
    "split_of",
]
