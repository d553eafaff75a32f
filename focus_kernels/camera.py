"""The pinhole (or orthographic) camera of the renderer."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _checks

# A projection outside these has no place in float32 division, so it gets no gradient.
_SMALLEST, _LARGEST = 1e-18, 1e18


class Camera:
    """Maps model-frame vertices (mm) to pixels: x right, y down, z forward; X = R v + t is the camera frame.

    Perspective: x = (K00 X + K01 Y + K02 Z) / Z, y = (K10 X + K11 Y + K12 Z) / Z, depth = Z.
    Orthographic: x = K00 X + K01 Y + K02, y = K10 X + K11 Y + K12, depth = Z.
    The centre of the pixel in column j and row i is at (j + 0.5, i + 0.5).

    Args:
        K: intrinsics [1 or B, 3, 3] in pixels, float32 or float64. The last row is taken as (0, 0, 1).
        R: rotation [1 or B, 3, 3], as K. Not checked to be orthonormal.
        t: translation [1 or B, 3] in mm, as K.
        orthographic: no division by depth.

    Differentiable in K (two rows), R and t.

    Raises:
        TypeError: no tensors, dtypes other than one of float32 and float64 (half precision is widened inside autocast).
        ValueError: a wrong shape, or tensors on several devices.
    """

    def __init__(self, K: Tensor, R: Tensor, t: Tensor, *, orthographic: bool = False):
        K, R, t = _checks.floats("Camera", K=K, R=R, t=t)
        _checks.shape("Camera", "K", K, (-1, 3, 3))
        _checks.shape("Camera", "R", R, (-1, 3, 3))
        _checks.shape("Camera", "t", t, (-1, 3))
        batch = 1
        for name, value in (("K", K), ("R", R), ("t", t)):
            size = value.shape[0]
            if size != 1 and batch != 1 and size != batch:
                _checks.fail(ValueError, "Camera", name, f"a batch of 1 or {batch}", str(size))
            batch = batch if size == 1 else size
        self.K, self.R, self.t = K, R, t
        self.orthographic = _checks.flag("Camera", "orthographic", orthographic)

    def to(self, *args, **kwargs) -> Camera:
        """A camera on another device or in another dtype, as `Tensor.to`; gradients flow through."""
        moved = [value.to(*args, **kwargs) for value in (self.K, self.R, self.t)]
        return Camera(*moved, orthographic=self.orthographic)

    def project(self, vertices: Tensor) -> Tensor:
        """Vertices in pixels and depth, in plain PyTorch.

        Args:
            vertices: [B, V, 3] in mm, model frame, dtype and device of the camera; B matches the camera's batch unless
                one of the two is 1.

        Returns:
            [B, V, 3]: x and y in pixels, depth in mm. Differentiable in vertices, K, R and t; a vertex whose position
            is not finite, or (perspective) beyond 1e18 or with |depth| below 1e-18, has zero gradient.

        Raises:
            TypeError: a dtype other than the camera's.
            ValueError: a wrong shape, batch or device.
        """
        K, vertices = _checks.floats("Camera.project", K=self.K, vertices=vertices)
        _checks.shape("Camera.project", "vertices", vertices, (-1, -1, 3))
        for name, value in (("K", self.K), ("R", self.R), ("t", self.t)):
            if value.shape[0] != vertices.shape[0] and value.shape[0] != 1 and vertices.shape[0] != 1:
                want = f"a batch of 1 or {vertices.shape[0]} as vertices"
                _checks.fail(ValueError, "Camera.project", name, want, str(value.shape[0]))
        return project(vertices, K, self.R, self.t, self.orthographic)

    def __repr__(self) -> str:
        kind = "orthographic" if self.orthographic else "perspective"
        return f"Camera(batch={max(len(self.K), len(self.R), len(self.t))}, {kind}, {self.K.dtype}, '{self.K.device}')"


def project(vertices: Tensor, K: Tensor, R: Tensor, t: Tensor, orthographic: bool) -> Tensor:
    """Positions [B, V, 3] of vertices [B, V, 3]; K, R [B, 3, 3] and t [B, 3] (any of them with batch 1)."""
    with torch.no_grad():
        raw = _pixels(_camera_frame(vertices, R, t), K, orthographic)
        depth = raw[..., 2].abs()
        usable = raw.isfinite().all(-1)
        if not orthographic:
            usable &= (depth >= _SMALLEST) & (depth <= _LARGEST) & (raw[..., :2].abs() <= _LARGEST).all(-1)
        usable = usable[..., None]  # [B, V, 1]
    # Both the input and the output are replaced: a gradient of zero times infinity would be NaN.
    points = _camera_frame(torch.where(usable, vertices, 0), R, t)
    points = torch.where(usable, points, 1)
    return torch.where(usable, _pixels(points, K, orthographic), raw)


def _camera_frame(vertices: Tensor, R: Tensor, t: Tensor) -> Tensor:
    # Sums of products instead of matmul: the same arithmetic everywhere, and no TF32 or autocast.
    x, y, z = vertices[..., None, :].unbind(-1)  # [B, V, 1]
    R, t = R[:, None], t[:, None]  # [B, 1, 3, 3], [B, 1, 3]
    return R[..., 0] * x + R[..., 1] * y + R[..., 2] * z + t


def _pixels(points: Tensor, K: Tensor, orthographic: bool) -> Tensor:
    x, y, z = points.unbind(-1)  # [B, V]
    K = K[:, None]  # [B, 1, 3, 3]
    if orthographic:
        column = K[..., 0, 0] * x + K[..., 0, 1] * y + K[..., 0, 2]
        row = K[..., 1, 0] * x + K[..., 1, 1] * y + K[..., 1, 2]
    else:
        # A depth of zero would divide to NaN; what is that near is dropped by the rasterizer all the same.
        divisor = torch.where(z.abs() < _SMALLEST, torch.full_like(z, _SMALLEST).copysign(z), z)
        column = (K[..., 0, 0] * x + K[..., 0, 1] * y + K[..., 0, 2] * z) / divisor
        row = (K[..., 1, 0] * x + K[..., 1, 1] * y + K[..., 1, 2] * z) / divisor
    return torch.stack([column, row, z], -1)
