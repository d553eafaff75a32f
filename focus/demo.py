"""The photo of `focus demo`: scikit-image's astronaut (NASA, public domain), with landmarks that ship as numbers."""

from pathlib import Path

import numpy as np

from .landmarks import read_landmarks_csv

NAME = "astronaut.png"
LANDMARKS = Path(__file__).parent / "assets" / "astronaut_landmarks.csv"


def demo_photo() -> tuple[np.ndarray, np.ndarray]:
    """The photo, uint8 [512, 512, 3] RGB, and its landmarks [68, 2] in px with half-pixel centres; needs no network."""
    from skimage.data import astronaut  # takes a second to import, and only this needs it

    return astronaut(), read_landmarks_csv(LANDMARKS)[NAME]
