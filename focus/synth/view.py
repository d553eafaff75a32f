"""What occluders know of the face that they cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .photos import PhotoFolder
from .textures import Array


@dataclass
class FaceView:
    """A face in an image of size x size px.

    Attributes:
        landmarks: [68, 2] px, half-pixel centres.
        skin: the face's mean colour [3] in [0, 1].
        hair: the head's hair colour [3], or None where it has none.
        donors: faces to cut out, uint8 [h, w, 4] RGBA each; may be empty.
        photos: the user's photographs to cut from, or None.
        origin, across, down: [2] px; the middle between the eyes, from there to the right eye's centre in the image,
            and to the chin: an affine frame that turns and narrows with the face.
        width, height: of the face, px.
    """

    size: int
    landmarks: Array
    skin: Array
    hair: Array | None = None
    donors: Sequence[Array] = ()
    photos: PhotoFolder | None = None
    origin: Array = field(init=False)
    across: Array = field(init=False)
    down: Array = field(init=False)
    width: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        points = self.landmarks = np.asarray(self.landmarks, dtype=np.float64)
        first, second = points[36:42].mean(0), points[42:48].mean(0)
        self.origin, self.across = (first + second) / 2, (second - first) / 2
        self.down = points[8] - self.origin
        self.height = max(float(np.linalg.norm(self.down)), 4.0)
        self.width = max(float(np.ptp(points[:, 0])), 4.0)

    def at(self, x: float | Array, y: float | Array) -> Array:
        """Image points [..., 2] of face coordinates: the eyes are at (-1, 0) and (1, 0), the chin at (0, 1)."""
        return self.origin + np.multiply.outer(x, self.across) + np.multiply.outer(y, self.down)

    def unit(self, vector: Array) -> Array:
        return vector / max(float(np.linalg.norm(vector)), 1e-6)
