"""The FOCUS authors' ``encoder.camera_matrix``: rotations from angles, and the pose of the camera."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _checks


def euler_rotation(rot_param: Tensor) -> Tensor:
    """``Rx(a) Ry(b) Rz(c)``, right-handed rotations about the axes.

    Args:
        rot_param: [B, 3] angles a, b, c in radians, float32 or float64; further columns are not read.

    Returns:
        [B, 3, 3] in the dtype of ``rot_param``. Differentiable.

    Raises:
        TypeError, ValueError: ``rot_param`` has the wrong type, dtype or shape.

    Differences from upstream: zeros and ones are exact (upstream takes them as cosines of multiples of a rounded
    pi / 2, 4e-8 off), and float64 has its full precision.
    """
    return _rotation(_columns("euler_rotation", "rot_param", rot_param, 3))


def calc_extrinxic_camera_matrix(param: Tensor, T_ini: Tensor, camera2world: bool = True) -> tuple[Tensor, Tensor]:
    """Rotation and translation of six camera parameters (upstream's spelling).

    ``R = diag(1, -1, -1) Rx(a) Ry(b) Rz(c)`` and ``T = param[:, 3:6] + T_ini`` take the model's frame (y up, z out of
    the face) to the camera's (y down, z forward): ``x_camera = R x + T``.

    Args:
        param: [B, 6] three angles (radians) and three translations (mm), float32 or float64; further columns are not
            read.
        T_ini: [3], [1, 3] or [B, 3], mm, as ``param``; (0, 0, 1000) in FOCUS.
        camera2world: the inverse, R^T and -R^T T, from the camera's frame to the model's. FOCUS passes False.

    Returns:
        ``(R [B, 3, 3], T [B, 3, 1])``, differentiable in ``param`` and ``T_ini``.

    Raises:
        TypeError, ValueError: an argument has the wrong type, dtype, shape or device.

    Differences from upstream: those of ``euler_rotation``; no product is rounded by autocast.
    """
    op = "calc_extrinxic_camera_matrix"
    param = _columns(op, "param", param, 6)
    param, T_ini = _checks.floats(op, param=param, T_ini=T_ini)
    batch = len(param)
    if tuple(T_ini.shape) not in ((3,), (1, 3), (batch, 3)):
        _checks.fail(ValueError, op, "T_ini", f"shape [3], [1, 3] or [{batch}, 3]", str(list(T_ini.shape)))
    camera2world = _checks.flag(op, "camera2world", camera2world)
    with torch.autocast(param.device.type, enabled=False):
        R = _rotation(param) * param.new_tensor([[1.0], [-1.0], [-1.0]])
        T = (param[:, 3:6] + T_ini).unsqueeze(2)
        if camera2world:
            R = R.transpose(1, 2)
            T = -(R @ T)
    return R, T


def _columns(op: str, name: str, value: Tensor, least: int) -> Tensor:
    (value,) = _checks.floats(op, **{name: value})
    if value.dim() != 2 or value.shape[1] < least:
        _checks.fail(ValueError, op, name, f"shape [*, {least}] or with more columns", str(list(value.shape)))
    return value


def _rotation(angles: Tensor) -> Tensor:
    a, b, c = angles[:, :3].unbind(1)
    sa, sb, sc, ca, cb, cc = a.sin(), b.sin(), c.sin(), a.cos(), b.cos(), c.cos()
    rows = (
        (cb * cc, -cb * sc, sb),
        (ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb),
        (sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
