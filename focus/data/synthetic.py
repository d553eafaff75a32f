"""Synthetic faces as a source: drawn once and kept, or new ones in every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..face_model import FaceModel
from ..landmarks import NUM_LANDMARKS
from ..synth import SyntheticFaces
from ..synth.dataset import Sample
from .augment import Augmentation, map_points, mirror_landmarks, warp
from .batch import Batch
from .cache import SharedCache

AUGMENTATION = 2  # random stream
SYMMETRIC = 1e-3  # mm; how far a model's mean face may be from its mirror image


class SyntheticSource:
    """`focus.synth.SyntheticFaces` as a source of faces, with ground truth.

    Pictures and masks are rounded to 8 bits, kept or not. Augmentation warps them; the picture goes on as its
    reflection where the warp looks beyond its border, the face ends there. Item i of an epoch is the same bits for the
    same arguments.

    Args:
        count: number of faces in an epoch.
        size: side of the pictures in pixels, at least 32.
        seed: of the faces and of the augmentation, any integer >= 0.
        augmentation: None for none.
        fresh: other faces in every epoch, for long training; nothing is kept then.
        vertices: whether batches have them. A mirror image has mirrored ones where the model's mean face is symmetric
            to `SYMMETRIC` mm, as that of the free model; with other models and augmentation there are none.
        cache_bytes: of drawn faces to keep in memory, 5 bytes a pixel each.
        options: further arguments of `SyntheticFaces`: model, level, kinds, none_probability, backgrounds, photos, ...

    Raises:
        TypeError, ValueError: as `SyntheticFaces`; and count < 1.
    """

    def __init__(
        self,
        count: int,
        size: int = 224,
        *,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        fresh: bool = False,
        vertices: bool = True,
        cache_bytes: int = 2 << 30,
        **options: Any,
    ) -> None:
        self.faces = SyntheticFaces(count, size, seed, **options)
        if count < 1:
            raise ValueError(f"SyntheticSource(): expected count to be >= 1, got {count}")
        self.size, self.seed, self.augmentation, self.fresh = size, seed, augmentation, fresh
        model = self.faces.model
        flips = augmentation is not None and augmentation.flip > 0
        self._mirror = mirrored_vertices(model) if vertices and flips else None
        self._vertices = vertices and not (flips and self._mirror is None)
        self._coefficients = len(model.shape_basis)
        self._cache = SharedCache(count, 0 if fresh else cache_bytes)

    def __len__(self) -> int:
        return len(self.faces)

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        """See `Source.batch`; with `visible`, `face` and `vertices`. UnusableItemError is never raised."""
        if not indices or min(indices) < 0 or max(indices) >= len(self):
            raise ValueError(
                f"SyntheticSource.batch(): expected indices to be in 0..{len(self) - 1}, got {list(indices)}"
            )
        kept = self._kept(list(indices), epoch)
        size, count = self.size, len(indices)
        images, masks = np.empty((count, size, size, 3), np.uint8), np.empty((count, 2, size, size), np.uint8)
        landmarks, flips = np.empty((count, NUM_LANDMARKS, 2)), np.zeros(count, bool)
        shapes = np.empty((count, self._coefficients), np.float32)
        for row, (index, data) in enumerate(zip(indices, kept, strict=True)):
            pixels, visible, face, landmarks[row], shapes[row] = self._unpack(data)
            if self.augmentation is None:
                images[row], masks[row, 0], masks[row, 1] = pixels, visible, face
                continue
            rng = np.random.default_rng([self.seed, epoch, index, AUGMENTATION])
            matrix, flips[row] = self.augmentation.draw(rng, size)
            images[row] = warp(pixels, matrix, size, border="reflect")
            masks[row, 0], masks[row, 1] = (warp(plane, matrix, size, cubic=False) for plane in (visible, face))
            landmarks[row] = map_points(matrix, landmarks[row])
            if flips[row]:
                landmarks[row] = mirror_landmarks(landmarks[row])
        image = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float().div_(255)
        visible, face = torch.from_numpy(masks).float().div_(255).split(1, 1)
        vertices = self._shapes(torch.from_numpy(shapes), flips) if self._vertices else None
        return Batch(image, torch.from_numpy(landmarks).float(), visible.contiguous(), face.contiguous(), vertices)

    def _kept(self, indices: list[int], epoch: int) -> list[np.ndarray]:
        """The packed items; those that are missing are drawn together."""
        found = {index: self._cache.get(index) for index in indices}
        missing = [index for index, data in found.items() if data is None]
        if missing:
            offset = epoch * len(self) if self.fresh else 0
            samples = self.faces.batch([offset + index for index in missing])
            for row, index in enumerate(missing):
                found[index] = data = _pack(samples, row)
                self._cache.put(index, data)
        return [found[index] for index in indices]  # type: ignore[misc]

    def _unpack(self, data: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        area = self.size**2
        numbers = data[5 * area :].view(np.float32)
        planes = data[3 * area : 5 * area].reshape(2, self.size, self.size)
        points = numbers[: 2 * NUM_LANDMARKS].reshape(NUM_LANDMARKS, 2)
        return data[: 3 * area].reshape(self.size, self.size, 3), *planes, points, numbers[2 * NUM_LANDMARKS :]

    @torch.no_grad()
    def _shapes(self, coefficients: Tensor, flips: np.ndarray) -> Tensor:
        model = self.faces.model
        vertices = model.shape(coefficients[:, : model.num_identity], coefficients[:, model.num_identity :])
        if self._mirror is not None and flips.any():
            rows = torch.from_numpy(flips)
            vertices[rows] = vertices[rows][:, self._mirror] * torch.tensor([-1.0, 1.0, 1.0])
        return vertices


def _pack(samples: Sample, row: int) -> np.ndarray:
    """An item as bytes: picture [H, W, 3], visible and face [2, H, W]; landmarks and coefficients, float32."""
    red_green_blue, visible, face = (_in_8_bits(plane[row]) for plane in samples[:3])
    parameters = samples.parameters
    numbers = torch.cat([samples.landmarks[row].reshape(-1), parameters.identity[row], parameters.expression[row]])
    pixels = [cv2.merge(list(red_green_blue)), visible, face]
    return np.concatenate([*(part.reshape(-1) for part in pixels), numbers.numpy().view(np.uint8)])


def _in_8_bits(planes: Tensor) -> np.ndarray:
    return planes.mul(255).round_().to(torch.uint8).numpy()


def mirrored_vertices(model: FaceModel) -> Tensor | None:
    """For each vertex of a face model the one that is its mirror image (x -> -x) in the mean face, int64 [V].

    None where the mean face is not symmetric to `SYMMETRIC` mm.
    """
    from scipy.spatial import cKDTree

    mean = model.mean_shape.double().cpu().numpy()
    distances, partners = cKDTree(mean).query(mean * np.array([-1.0, 1.0, 1.0]))
    if distances.max() > SYMMETRIC or (partners[partners] != np.arange(len(mean))).any():
        return None
    return torch.from_numpy(partners.astype(np.int64))
