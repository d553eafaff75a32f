"""FOCUS's camera: a pinhole at a fixed focal length, placed by three Euler angles and a translation."""

import numpy as np
import torch
from torch import Tensor

from focus_kernels import Camera

FOCAL_PER_HALF_SIZE = 9.06  # focal length over half the image size: 1014.72 px at 224 px
DISTANCE = 1000.0  # mm from the camera to the model's origin when the translation is zero


def focus_camera(angles: Tensor, translation: Tensor, *, size: int = 224, focal: float | None = None) -> Camera:
    """FOCUS's camera for a batch of six pose parameters.

    R = diag(1, -1, -1) Rx(a) Ry(b) Rz(c), t = (0, 0, 1000) + translation, K = [[f, 0, s/2], [0, f, s/2], [0, 0, 1]].

    The factor diag(1, -1, -1) turns the model's frame (y up, z out of the face) into the camera's (y down, z forward).
    The principal point is in half-pixel coordinates: size/2 here is the authors' 111.5 at integer pixel centres.

    Args:
        angles: a, b, c [B, 3] in radians, float32 or float64; differentiable.
        translation: [B, 3] in millimetres in the camera frame, as `angles`; differentiable.
        size: width and height of the image in pixels.
        focal: focal length in pixels; None gives 9.06 * size / 2.

    Returns:
        focus_kernels.Camera with K [1, 3, 3], R [B, 3, 3], t [B, 3].
    """
    if angles.ndim != 2 or angles.shape[1] != 3:
        raise ValueError(f"focus_camera(): expected angles to be shape [B, 3], got {list(angles.shape)}")
    if translation.shape != angles.shape:
        raise ValueError(
            f"focus_camera(): expected translation to be shape {list(angles.shape)}, got {list(translation.shape)}"
        )
    f = FOCAL_PER_HALF_SIZE * size / 2 if focal is None else float(focal)
    K = angles.new_tensor([[f, 0.0, size / 2], [0.0, f, size / 2], [0.0, 0.0, 1.0]])[None]
    return Camera(K, rotation_matrix(angles), translation + translation.new_tensor([0.0, 0.0, DISTANCE]))


def rotation_matrix(angles: Tensor) -> Tensor:
    """diag(1, -1, -1) Rx(a) Ry(b) Rz(c) [B, 3, 3] for angles [B, 3] in radians; differentiable."""
    a, b, c = angles.unbind(-1)
    sa, sb, sc, ca, cb, cc = a.sin(), b.sin(), c.sin(), a.cos(), b.cos(), c.cos()
    rows = (
        (cb * cc, -cb * sc, sb),
        (-(ca * sc + sa * sb * cc), -(ca * cc - sa * sb * sc), sa * cb),
        (-(sa * sc - ca * sb * cc), -(sa * cc + ca * sb * sc), -ca * cb),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def angles_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """The angles (a, b, c) [3], b in [-pi/2, pi/2], whose `rotation_matrix` is `rotation` [3, 3]."""
    m = np.diag([1.0, -1.0, -1.0]) @ np.asarray(rotation, dtype=np.float64)
    return np.array(
        [np.arctan2(-m[1, 2], m[2, 2]), np.arcsin(np.clip(m[0, 2], -1.0, 1.0)), np.arctan2(-m[0, 1], m[0, 0])]
    )
