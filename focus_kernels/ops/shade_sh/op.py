"""shade_sh: the public function, its autograd rule and its registration."""

import torch
from torch import Tensor

from ... import _checks
from ..._backends import choose, kernels
from ..._library import register
from . import native, ref

BACKENDS = {"native": native, "ref": ref}
CONVENTIONS = {"unit": 0, "focus": 1}


def shade_sh(normals: Tensor, albedo: Tensor, sh_coeffs: Tensor, *, convention: str = "unit") -> Tensor:
    """Colours under spherical-harmonics light of bands 0 to 2: albedo_c * sum_k sh_coeffs[c, k] Y_k(n).

    Y is, in this order, Y00, Y1-1, Y10, Y11, Y2-2, Y2-1, Y20, Y21, Y22 with the Condon-Shortley sign, as in FOCUS:
    [0.282095, -0.488603 y, 0.488603 z, -0.488603 x, 1.092548 xy, -1.092548 yz, 0.315392 (3z^2 - 1), -1.092548 xz,
    0.546274 (x^2 - y^2)]. There is no cosine lobe and no clamp.

    Args:
        normals: [B, V, 3], float32 or float64 (half precision is widened inside autocast), in the frame of the light,
            which is the camera frame in `render_sh`: a normal that looks at the camera has z = -1.
        albedo: [B, V, 3] (RGB), as normals. Any range; the faces here use [0, 1].
        sh_coeffs: [B, 3, 9], 9 coefficients for each colour, as normals.
        convention: "unit" takes the normal as it is given; "focus" keeps z and scales (x, y) to length sqrt(1 - z^2),
            what FOCUS's angles do to the shorter normals of `vertex_normals(normalize=False)`.

    Returns:
        Colours [B, V, 3]. Once differentiable in all three. In "focus", finite everywhere: x^2 + y^2 below 1e-12 and
        |z| >= 1 count as constants of that scaling.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, several devices, or an unknown convention.
    """
    normals, albedo, sh_coeffs = _checks.floats("shade_sh", normals=normals, albedo=albedo, sh_coeffs=sh_coeffs)
    _checks.shape("shade_sh", "normals", normals, (-1, -1, 3))
    _checks.shape("shade_sh", "albedo", albedo, tuple(normals.shape))
    _checks.shape("shade_sh", "sh_coeffs", sh_coeffs, (normals.shape[0], 3, 9))
    focus = bool(_checks.choice("shade_sh", "convention", convention, CONVENTIONS))
    args = (normals.contiguous(), albedo.contiguous(), sh_coeffs.contiguous(), focus)
    if choose("shade_sh", BACKENDS, *args) is ref:
        return ref.forward(*args)
    return _ShadeSh.apply(*args)


class _ShadeSh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, normals, albedo, sh_coeffs, focus):
        ctx.save_for_backward(normals, albedo, sh_coeffs)
        ctx.focus = focus
        return _FORWARD(normals, albedo, sh_coeffs, focus)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return *_BACKWARD(grad.contiguous(), *ctx.saved_tensors, ctx.focus), None


def _forward(*args):
    return choose("shade_sh", kernels(BACKENDS), *args).forward(*args)


def _backward(grad, *args):
    return choose("shade_sh", kernels(BACKENDS), *args).backward(grad, *args)


_FORWARD = register(
    "_shade_sh_fwd(Tensor normals, Tensor albedo, Tensor sh_coeffs, bool focus) -> Tensor",
    _forward,
    lambda normals, *rest: torch.empty_like(normals),
)
_BACKWARD = register(
    "_shade_sh_bwd(Tensor grad, Tensor normals, Tensor albedo, Tensor sh_coeffs, bool focus)"
    " -> (Tensor, Tensor, Tensor)",
    _backward,
    lambda grad, normals, albedo, sh_coeffs, focus: tuple(torch.empty_like(x) for x in (normals, albedo, sh_coeffs)),
)
