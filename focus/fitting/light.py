"""Light and albedo in closed form: with one of them held, the colours of the vertices are linear in the other."""

import numpy as np

# Bands 0 to 2 of the real spherical harmonics as in `focus_kernels.shade_sh`, without the polynomials.
_SH = (0.282095, -0.488603, 0.488603, -0.488603, 1.092548, -1.092548, 0.315392, -1.092548, 0.546274)
LIGHT_LEVEL = 0.7 * 2 * np.pi  # the authors' offset of band 0
RIDGE = 1e-6  # per vertex, keeps a black face solvable


def sh_basis(normals: np.ndarray) -> np.ndarray:
    """The nine basis functions [V, 9] at unit normals [V, 3] in the camera frame."""
    x, y, z = normals.T
    one = np.ones_like(x)
    return np.stack([one, y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], axis=1) * np.array(_SH)


def light_mean() -> np.ndarray:
    """FOCUS's light at zero parameters [3, 9]: 0.7 * 2 pi in band 0."""
    mean = np.zeros((3, 9))
    mean[:, 0] = LIGHT_LEVEL
    return mean


def light_precision(level: float, colour: float, band: float) -> np.ndarray:
    """The quadratic prior [27, 27] on the light's difference from `light_mean`.

    Its energy is level * mean over colours of (l0 / LIGHT_LEVEL)^2 + colour * sum of (l - mean over colours of l)^2
    + band * sum over bands 1 and 2 of l^2.
    """
    first = np.zeros((9, 9))
    first[0, 0] = 1.0
    differ = np.eye(3) - 1 / 3
    return (
        level / (3 * LIGHT_LEVEL**2) * np.kron(np.eye(3), first)
        + colour * np.kron(differ, np.eye(9))
        + band * np.kron(np.eye(3), np.eye(9) - first)
    )


def solve_light(
    colours: np.ndarray, albedo: np.ndarray, basis: np.ndarray, weight: np.ndarray, precision: np.ndarray
) -> np.ndarray:
    """Weighted least squares of the light [3, 9].

    Args:
        colours: [V, 3] of the photo; albedo: [V, 3]; basis: [V, 9]; weight: [V].
        precision: [27, 27] of `light_precision`, per unit of weight.
    """
    total = weight.sum() + 1e-12
    normal = np.zeros((3, 9, 3, 9))
    right = np.zeros((3, 9))
    for c in range(3):
        design = albedo[:, c : c + 1] * basis
        normal[c, :, c] = design.T @ (design * weight[:, None])
        right[c] = design.T @ (weight * colours[:, c])
    right = right.reshape(27) + total * precision @ light_mean().reshape(27)
    normal = normal.reshape(27, 27) + total * (precision + RIDGE * np.eye(27))
    return np.linalg.solve(normal, right).reshape(3, 9)


def solve_albedo(
    colours: np.ndarray, mean: np.ndarray, basis: np.ndarray, illumination: np.ndarray, weight: np.ndarray, pull: float
) -> np.ndarray:
    """Weighted least squares of the albedo coefficients [K] under a Gaussian prior.

    Args:
        colours: [V, 3]; mean: [V, 3]; basis: [K, V, 3]; illumination: [V, 3]; weight: [V].
        pull: penalty on the squared coefficients.
    """
    root = np.sqrt(weight)[:, None]
    design = (basis * (illumination * root)).reshape(len(basis), -1)  # [K, 3V]
    error = ((colours - mean * illumination) * root).reshape(-1)
    normal = design @ design.T + pull * np.eye(len(basis))
    return np.linalg.solve(normal, design @ error)


def fit_light(
    colours: np.ndarray,
    normals: np.ndarray,
    mean_albedo: np.ndarray,
    albedo_basis: np.ndarray,
    *,
    rounds: int,
    start: float,
    end: float,
    prior: float,
    precision: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Alternate light, albedo and Geman-McClure weights whose squared scale falls from `start` to `end`.

    Args:
        colours: [V, 3] photo colours at the visible vertices, in [0, 1].
        normals: [V, 3] unit, camera frame.
        mean_albedo: [V, 3]; albedo_basis: [K, V, 3], one standard deviation each.
        prior: penalty on the squared coefficients, beside the mean squared distance.
        precision: [27, 27] of `light_precision`, the same for the light.

    Returns:
        Light [3, 9] and albedo coefficients [K].
    """
    basis = sh_basis(normals)
    coeffs = np.zeros(len(albedo_basis))
    weight = np.ones(len(colours))
    light = np.zeros((3, 9))
    for index in range(rounds):
        scale = start * (end / start) ** (index / max(rounds - 1, 1))
        albedo = mean_albedo + np.tensordot(coeffs, albedo_basis, 1)
        light = solve_light(colours, albedo, basis, weight, precision)
        illumination = basis @ light.T
        pull = prior * weight.sum()
        coeffs = solve_albedo(colours, mean_albedo, albedo_basis, illumination, weight, pull)
        shaded = (mean_albedo + np.tensordot(coeffs, albedo_basis, 1)) * illumination
        weight = (scale / (scale + ((colours - shaded) ** 2).sum(axis=1))) ** 2
    return light, coeffs
