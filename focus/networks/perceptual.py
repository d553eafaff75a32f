"""What the perceptual losses ask of a face recognition network, whichever it is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class PerceptualNetwork(Protocol):
    """A frozen face recognition network F: `FaceRecognizer` or `ArcFace`.

    Chips are aligned faces [B, 3, chip_size, chip_size], RGB in [0, 1]. Everything is differentiable in the chips.
    """

    chip_size: int

    def chips(self, images: Tensor, landmarks: Tensor, *, landmark_gradient: bool = False) -> Tensor:
        """The aligned faces in images [B, 3, H, W], from landmarks [B, 68, 2] in px with half-pixel centres."""
        ...

    def __call__(self, chips: Tensor) -> Tensor:
        """The deep embedding, [B, D]."""
        ...

    def feature_maps(self, chips: Tensor, count: int | None = None) -> tuple[Tensor, ...]:
        """The maps [B, C, h, w] after each stage, or after the first `count` (the rest is then not computed)."""
        ...

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Cosine of embeddings [B, D], in a form that tells people apart: [B] in [-1, 1]."""
        ...
