"""Light and albedo in closed form: with one of them held, the colours of the vertices are linear in the other."""

import numpy as np

from .result import FitError

# Bands 0 to 2 of the real spherical harmonics as in `focus_kernels.shade_sh`, without the polynomials.
_SH = (0.282095, -0.488603, 0.488603, -0.488603, 1.092548, -1.092548, 0.315392, -1.092548, 0.546274)
ILLUMINATION = 0.7 * 2 * np.pi * _SH[0]  # of the authors' offset of band 0: 1.2407
HEMISPHERE = 2000  # directions
RIDGE = 1e-6  # per vertex, keeps a black face solvable


def sh_basis(normals: np.ndarray) -> np.ndarray:
    """The nine basis functions [V, 9] at unit normals [V, 3] in the camera frame."""
    x, y, z = normals.T
    one = np.ones_like(x)
    return np.stack([one, y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], axis=1) * np.array(_SH)


def light_prior(level: float, colour: float, contrast: float) -> tuple[np.ndarray, np.ndarray]:
    """A quadratic prior on the light, in terms of the illumination E = basis @ light of the directions a camera sees.

    With averages over the visible half of a sphere, each pixel counting alike, its energy is
    level * (mean E / ILLUMINATION - 1)^2 + colour * mean of (E - mean of E over the colours)^2 + contrast * var E,
    summed over the colours (`level`: averaged).

    Returns:
        precision [27, 27] and centre [27]: the energy is (l - centre)^T precision (l - centre).
    """
    steps = (np.arange(HEMISPHERE) + 0.5) / HEMISPHERE
    z, turn = -np.sqrt(steps), np.pi * (1 + 5**0.5) * np.arange(HEMISPHERE)  # z^2 is uniform where pixels count alike
    radius = np.sqrt(1 - z * z)
    basis = sh_basis(np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1))
    mean, gram = basis.mean(axis=0), basis.T @ basis / HEMISPHERE
    variance = gram - np.outer(mean, mean)
    eye = np.eye(3)
    precision = (
        level / (3 * ILLUMINATION**2) * np.kron(eye, np.outer(mean, mean))
        + colour * np.kron(eye - 1 / 3, gram)
        + contrast * np.kron(eye, variance)
    )
    centre = np.zeros((3, 9))
    centre[:, 0] = ILLUMINATION / _SH[0]
    return precision, centre.reshape(27)


def solve_light(
    colours: np.ndarray, albedo: np.ndarray, basis: np.ndarray, weight: np.ndarray, prior: tuple
) -> np.ndarray:
    """Weighted least squares of the light [3, 9].

    Args:
        colours: [V, 3] of the photo; albedo: [V, 3]; basis: [V, 9]; weight: [V].
        prior: precision [27, 27] and centre [27] of `light_prior`, beside the mean squared distance.
    """
    precision, centre = prior
    total = weight.sum() + 1e-12
    normal = np.zeros((3, 9, 3, 9))
    right = np.zeros((3, 9))
    for c in range(3):
        design = albedo[:, c : c + 1] * basis
        normal[c, :, c] = design.T @ (design * weight[:, None])
        right[c] = design.T @ (weight * colours[:, c])
    right = right.reshape(27) + total * precision @ centre
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
    design = (basis * (illumination * root)).reshape(len(basis), colours.size)  # [K, 3V]
    error = ((colours - mean * illumination) * root).reshape(-1)
    normal = design @ design.T + pull * np.eye(len(basis))
    return np.linalg.solve(normal, design @ error)


def fit_light(
    colours: np.ndarray,
    normals: np.ndarray,
    mean_albedo: np.ndarray,
    albedo_basis: np.ndarray,
    regions: np.ndarray,
    *,
    rounds: int,
    start: float,
    end: float,
    albedo_prior: float,
    light_prior: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Light and albedo of the skin that is seen, whatever covers the rest.

    From each region in turn, supposed to be bare: alternate light, albedo and Geman-McClure weights of all vertices,
    whose squared scale falls from `start` to `end`. The answer is that of the least mean of min(distance^2, end) plus
    priors, so that a face mask or a fringe of hair is not taken for skin.

    Args:
        colours: [V, 3] photo colours at the visible vertices, in [0, 1].
        normals: [V, 3] unit, camera frame.
        mean_albedo: [V, 3]; albedo_basis: [K, V, 3], one standard deviation each.
        regions: [N, V] bool, the vertices that the first round of each trial looks at.
        albedo_prior: penalty on the squared coefficients, beside the mean squared distance.
        light_prior: as `solve_light`'s prior.

    Returns:
        Light [3, 9] and albedo coefficients [K].
    """
    basis = sh_basis(normals)
    precision, centre = light_prior
    best: float = np.inf
    answer: tuple[np.ndarray, np.ndarray] | None = None
    for region in regions:
        coeffs, weight = np.zeros(len(albedo_basis)), region.astype(np.float64)
        for index in range(rounds):
            scale = start * (end / start) ** (index / max(rounds - 1, 1))
            albedo = mean_albedo + np.tensordot(coeffs, albedo_basis, 1)
            light = solve_light(colours, albedo, basis, weight, light_prior)
            illumination = basis @ light.T
            coeffs = solve_albedo(colours, mean_albedo, albedo_basis, illumination, weight, albedo_prior * weight.sum())
            shaded = (mean_albedo + np.tensordot(coeffs, albedo_basis, 1)) * illumination
            distance = ((colours - shaded) ** 2).sum(axis=1)
            weight = (scale / (scale + distance)) ** 2
        offset = light.reshape(27) - centre
        energy = np.minimum(distance, end).mean() + albedo_prior * (coeffs**2).sum() + offset @ precision @ offset
        if energy < best:
            best, answer = energy, (light, coeffs)
    if answer is None:
        raise FitError("no light explains the face: its colours are not finite")
    return answer
