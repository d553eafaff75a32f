"""The FOCUS authors' ``renderer.shading``: the basis of the spherical harmonics, for the three colours."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _checks, shade_sh


def calc_sh_basis(normal: Tensor) -> Tensor:
    """Spherical harmonics of bands 0 to 2 at normals, one copy for each colour.

    Rows 0 to 8 hold the harmonics for red, 9 to 17 for green, 18 to 26 for blue, so that ``sum_k sh_coef[b, k] *
    basis[b, k]`` is the light [3, N]. The order is Y00, Y1-1, Y10, Y11, Y2-2, Y2-1, Y20, Y21, Y22, with the
    Condon-Shortley sign and without a cosine lobe. The normal enters by its angles acos(z) and atan2(y, x), as in
    ``shade_sh(..., convention="focus")``: of a normal shorter than 1, z counts, and x, y are scaled to sqrt(1 - z^2).

    The result has 81 numbers for a vertex, of which 27 can differ from 0; ``Renderer`` and ``shade_sh`` make none of
    them.

    Args:
        normal: [B, 3, N], float32 or float64, |z| <= 1.

    Returns:
        [B, 27, 3, N], in the dtype of ``normal``. Once differentiable.

    Raises:
        TypeError, ValueError: ``normal`` has the wrong type, dtype or shape.

    Differences from upstream:
        * Gradients are finite everywhere: upstream's is infinite at |z| = 1, and has no x part where x is 0. Here
          x^2 + y^2 below 1e-12 and |z| >= 1 count as constants of the scaling.
        * At a normal of length 0, and within 1e-6 of the axis, x and y go to 0 steadily; upstream's azimuth there is
          that of rounding.
        * float64 in, float64 out; upstream answers in float32.
    """
    (normal,) = _checks.floats("calc_sh_basis", normal=normal)
    _checks.shape("calc_sh_basis", "normal", normal, (-1, 3, -1))
    batch, _, count = normal.shape
    normals = normal.transpose(1, 2).contiguous()
    ones = torch.ones_like(normals)
    # one harmonic for each of three colours at a time
    chosen = torch.eye(9, dtype=normal.dtype, device=normal.device).view(3, 3, 9)
    parts = [shade_sh(normals, ones, three.expand(batch, 3, 9), convention="focus") for three in chosen]
    harmonics = torch.cat(parts, 2).transpose(1, 2)  # [B, 9, N]
    basis = normal.new_zeros(batch, 3, 9, 3, count)
    for colour in range(3):
        basis[:, colour, :, colour] = harmonics
    return basis.view(batch, 27, 3, count)
