"""What a reconstruction gives back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image


class ReconstructionError(RuntimeError):
    """The photo cannot be reconstructed; the message says why."""


@dataclass(frozen=True)
class ReconstructionResult:
    """A reconstructed photo. Images are the aligned crop, S x S pixels; its landmarks have half-pixel centres."""

    photo: np.ndarray  # [S, S, 3] uint8, the aligned crop
    photo_size: tuple[int, int]  # width and height of the whole photo, px
    align: np.ndarray  # [2, 3] float64, photo to crop, half-pixel centres on both sides
    render: np.ndarray  # [S, S, 3] float32, the face on black; may leave [0, 1]
    mask: np.ndarray  # [S, S] float32 in [0, 1], M: the visible face; 0 off the render
    raster_mask: np.ndarray  # [S, S] bool, the pixels that the face covers
    theta: np.ndarray  # [K] float32, the encoder's output (or what was made of it), before the decoder's scales
    identity: np.ndarray  # [K_id] float32, standard deviations
    expression: np.ndarray  # [K_exp] float32, standard deviations
    albedo_coeffs: np.ndarray  # [K_alb] float32, standard deviations
    sh_coeffs: np.ndarray  # [3, 9] float32
    angles: np.ndarray  # [3] float32, radians, of `focus.focus_camera`
    translation: np.ndarray  # [3] float32, mm, of `focus.focus_camera`
    vertices: np.ndarray  # [V, 3] float32, mm, model frame, identity and expression, the misfit prior subtracted
    albedo: np.ndarray  # [V, 3] float32 RGB, not clamped
    faces: np.ndarray  # [F, 3] int32
    landmarks_photo: np.ndarray  # [68, 2] float32, px in the crop, as they were given or found
    landmarks_projected: np.ndarray | None  # [68, 2] float32, px in the crop, of the face; None without landmark ids
    occluded_fraction: float  # 1 - sum of M / pixels of the render: how much of the face is covered
    rmse_inlier: float  # 0..255, root mean square over the mask and the three colours; NaN over an empty mask
    rmse_all: float  # 0..255, the same over the whole render
    landmark_error_px: float  # mean distance of the 68 in the crop; NaN without landmark ids

    @property
    def colors(self) -> np.ndarray:
        """[V, 3] float32: the albedo cut to [0, 1], as mesh files have it."""
        return np.clip(self.albedo, 0.0, 1.0)

    @property
    def overlay(self) -> np.ndarray:
        """The face over the crop: uint8 [S, S, 3]. `Reconstructor.draw` has it over the whole photo."""
        face = np.round(np.clip(self.render, 0.0, 1.0) * 255).astype(np.uint8)
        return np.where(self.raster_mask[:, :, None], face, self.photo)

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] of the crop in pixels of the photo, half-pixel centres."""
        return (np.asarray(points, dtype=np.float64) - self.align[:, 2]) @ np.linalg.inv(self.align[:, :2]).T

    def mask_in_photo(self) -> np.ndarray:
        """M in pixels of the photo: float32 [H, W] in [0, 1], 0 outside the crop."""
        return to_photo_pixels(self.mask, self.align, self.photo_size)


def to_photo_pixels(image: np.ndarray, align: np.ndarray, photo_size: tuple[int, int]) -> np.ndarray:
    """A picture of the crop in pixels of the photo: bilinear, anti-aliased where the photo is the coarser of the two.

    Args:
        image: [S, S] float32 of the crop.
        align: [2, 3], photo to crop, of one scale and without rotation, as `focus.alignment.align_face` makes it.
        photo_size: width and height of the photo.

    Returns:
        [H, W] float32; 0 where a pixel is not wholly inside the crop.
    """
    size, zoom, offset = len(image), align[0, 0], align[:, 2]
    result = np.zeros(photo_size[::-1], np.float32)
    low = np.maximum(np.ceil(-offset / zoom - 1e-6), 0).astype(int)
    high = np.minimum(np.floor((size - offset) / zoom + 1e-6), photo_size).astype(int)
    if (high <= low).any():
        return result
    (left, top), (right, bottom) = np.clip([zoom * low + offset, zoom * high + offset], 0, size)
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32))
    window = picture.resize((high - low).tolist(), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    result[low[1] : high[1], low[0] : high[0]] = np.asarray(window)
    return result
