"""Batch: what training and evaluation are fed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Aligned photos with landmarks, and what else is known of them.

    Attributes:
        image: [B, 3, H, W] float32, RGB in [0, 1].
        landmarks: [B, 68, 2] float32 px, half-pixel centres.
        visible: [B, 1, H, W] float32, the true share of each pixel that shows the face; None where it is not known.
            FOCUS never trains on it: it is for evaluation and for the supervised baselines.
        face: [B, 1, H, W] float32, the share that the face covers, occluded or not; or None.
        vertices: [B, V, 3] float32 mm, model frame, the true shape; or None.
    """

    image: Tensor
    landmarks: Tensor
    visible: Tensor | None = None
    face: Tensor | None = None
    vertices: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device."""
        moved = {name: part.to(device, non_blocking=True) for name, part in self._asdict().items() if part is not None}
        return self._replace(**moved)
