"""The FOCUS authors' ``encoder.encoder``: from the encoder's parameters to vertices, colours, camera and light."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import _checks, blend
from .camera_matrix import calc_extrinxic_camera_matrix

Converted = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def convert_params(
    shape_param: Tensor,
    exp_param: Tensor,
    color_param: Tensor,
    camera_param: Tensor,
    sh_param: Tensor,
    obj: Any,
    T_ini: Tensor,
    sh_ini: Tensor,
    camera2world: bool = True,
) -> Converted:
    """The face of scaled parameters: blends the model and places camera and light.

    Args:
        shape_param: [B, K_shape] standard deviations, float32 or float64; every tensor here has its dtype.
        exp_param: [B, K_exp] standard deviations.
        color_param: [B, K_color] standard deviations.
        camera_param: [B, 6] three angles (radians), three translations (mm).
        sh_param: [B, 27], nine coefficients for red, then green, then blue.
        obj: the face model, any object with upstream's attributes ``shape_mean``, ``exp_mean``, ``color_mean`` of 3 N
            numbers in rows x, y, z ([3, N], [1, 3, N] or flat), ``shape_basis``, ``exp_basis``, ``color_basis`` of
            K x 3 x N numbers, and the counts ``shape_dim``, ``exp_dim``, ``color_dim``.
        T_ini: [3] translation of camera parameters 0 (mm); (0, 0, 1000) in FOCUS.
        sh_ini: [27] light of SH parameters 0; 0.7 * 2 pi for band 0 of each colour in FOCUS.
        camera2world: as in ``calc_extrinxic_camera_matrix``. FOCUS passes False.

    Returns:
        ``(vertex [B, 3, N] (mm, model frame), color [B, 3, N], R [B, 3, 3], T [B, 3, 1], sh_coef [B, 27])``, for
        ``Renderer``. Once differentiable in the parameters, ``T_ini``, ``sh_ini`` and the tensors of ``obj``.

    Raises:
        TypeError, ValueError: an argument has the wrong type, dtype, shape or device, or ``obj`` lacks an attribute.

    Differences from upstream: half-precision bases are taken as they are (``blend``), coefficients that are 0 in all
    images cost no memory traffic on the CPU, and nothing is computed in half precision under autocast.
    """
    return _convert(
        "convert_params", shape_param, exp_param, color_param, camera_param, sh_param, obj, T_ini, sh_ini, camera2world
    )


def convert_params_noexp(
    shape_param: Tensor,
    exp_param: Tensor,
    color_param: Tensor,
    camera_param: Tensor,
    sh_param: Tensor,
    obj: Any,
    T_ini: Tensor,
    sh_ini: Tensor,
    camera2world: bool = True,
) -> Converted:
    """``convert_params`` without expression: the vertices are ``shape_mean`` and the shape's basis alone.

    Args, Returns and Raises are those of ``convert_params``. ``exp_param`` is not read and may be anything, and so may
    ``exp_mean``, ``exp_basis`` and ``exp_dim`` of ``obj``; as upstream, ``exp_mean`` is left out as well.
    """
    return _convert(
        "convert_params_noexp", shape_param, None, color_param, camera_param, sh_param, obj, T_ini, sh_ini, camera2world
    )


def _convert(
    op: str,
    shape_param: Tensor,
    exp_param: Tensor | None,
    color_param: Tensor,
    camera_param: Tensor,
    sh_param: Tensor,
    obj: Any,
    T_ini: Tensor,
    sh_ini: Tensor,
    camera2world: bool,
) -> Converted:
    floats = {"shape_param": shape_param}
    if exp_param is not None:
        floats["exp_param"] = exp_param
    floats |= {
        "color_param": color_param,
        "camera_param": camera_param,
        "sh_param": sh_param,
        "T_ini": T_ini,
        "sh_ini": sh_ini,
    }
    checked = dict(zip(floats, _checks.floats(op, **floats), strict=True))
    batch = len(checked["shape_param"]) if checked["shape_param"].dim() else 0
    _checks.shape(op, "camera_param", checked["camera_param"], (batch, -1))
    _checks.shape(op, "sh_param", checked["sh_param"], (batch, 27))
    _checks.shape(op, "sh_ini", checked["sh_ini"], (27,))
    with torch.autocast(checked["shape_param"].device.type, enabled=False):
        vertex = _blended(op, obj, "shape", checked["shape_param"], batch)
        if "exp_param" in checked:
            expression = _blended(op, obj, "exp", checked["exp_param"], batch)
            if expression.shape != vertex.shape:
                wanted = f"{obj.shape_mean.numel()} numbers as obj.shape_mean"
                _checks.fail(ValueError, op, "obj.exp_mean", wanted, str(obj.exp_mean.numel()))
            vertex = vertex + expression
        color = _blended(op, obj, "color", checked["color_param"], batch)
        R, T = calc_extrinxic_camera_matrix(checked["camera_param"], checked["T_ini"], camera2world)
        return vertex, color, R, T, checked["sh_param"] + checked["sh_ini"]


def _blended(op: str, obj: Any, part: str, params: Tensor, batch: int) -> Tensor:
    """mean + sum_k params_k basis_k, [B, 3, N]."""
    names = (f"{part}_mean", f"{part}_basis", f"{part}_dim")
    missing = [name for name in names if not hasattr(obj, name)]
    if missing:
        _checks.fail(TypeError, op, "obj", f"a face model with {', '.join(names)}", f"none of {', '.join(missing)}")
    mean, basis, count = (getattr(obj, name) for name in names)
    _checks.tensor(op, f"obj.{part}_mean", mean)
    _checks.tensor(op, f"obj.{part}_basis", basis)
    if isinstance(count, bool) or not hasattr(count, "__index__"):
        _checks.fail(TypeError, op, f"obj.{part}_dim", "an int", type(count).__name__)
    count = count.__index__()
    _checks.shape(op, f"{part}_param", params, (batch, count))
    _checks.like(op, f"obj.{part}_mean", mean, f"{part}_param", params)
    if mean.numel() % 3:
        _checks.fail(ValueError, op, f"obj.{part}_mean", "3 N numbers", str(mean.numel()))
    if basis.numel() != count * mean.numel():
        wanted = f"{count} x {mean.numel()} numbers"
        _checks.fail(ValueError, op, f"obj.{part}_basis", wanted, f"shape {list(basis.shape)}")
    # blend treats all 3 N numbers alike, so upstream's rows x, y, z may go through it as rows of three
    columns = mean.numel() // 3
    blended = blend(mean.reshape(columns, 3), basis.reshape(count, columns, 3), params)
    return blended.reshape(batch, 3, columns)
