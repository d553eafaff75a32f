"""What a fit gives back."""

from dataclasses import dataclass

import numpy as np


class FitError(RuntimeError):
    """The photo cannot be fitted; the message says why."""


@dataclass(frozen=True)
class FitResult:
    """A fitted photo. Images are the 224 px crop; its landmarks have half-pixel centres."""

    photo: np.ndarray  # [224, 224, 3] uint8, the aligned crop
    render: np.ndarray  # [224, 224, 3] float32, the fitted face on black; may leave [0, 1]
    mask: np.ndarray  # [224, 224] bool, the inliers of Eq. 10 inside the render
    raster_mask: np.ndarray  # [224, 224] bool, the pixels that the face covers
    identity: np.ndarray  # [K_id] float32, standard deviations
    expression: np.ndarray  # [K_exp] float32, standard deviations
    albedo_coeffs: np.ndarray  # [K_alb] float32, standard deviations
    sh_coeffs: np.ndarray  # [3, 9] float32
    angles: np.ndarray  # [3] float32, radians, of `focus_camera`
    translation: np.ndarray  # [3] float32, mm, of `focus_camera`
    vertices: np.ndarray  # [V, 3] float32, mm, model frame, identity and expression applied
    colors: np.ndarray  # [V, 3] float32, albedo in [0, 1]
    faces: np.ndarray  # [F, 3] int32
    landmarks_projected: np.ndarray  # [68, 2] float32, px; the contour landmarks where they slid to
    landmarks_photo: np.ndarray  # [68, 2] float32, px
    rmse_inlier: float  # 0..255, root mean square over the mask and the three colours
    rmse_all: float  # 0..255, the same over the whole render
    inlier_fraction: float  # mask / render
    landmark_error_px: float  # mean distance of the 68
    seconds: float  # wall time
    align: np.ndarray  # [2, 3] float64, photo to crop, half-pixel centres
