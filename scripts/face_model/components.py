"""Principal components of samples that come with their mirror images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg as sl

Array = np.ndarray[Any, Any]


@dataclass
class Components:
    """basis [K,V,C] scaled by one standard deviation, largest first; `kept` is the part of the variance they keep."""

    basis: Array
    kept: float


def mirror_images(values: Array, symmetry: Array, sign: Array) -> Array:
    """values [...,V,C] of the face in the mirror; sign [C] is -1 for a coordinate that the mirror turns."""
    return values[..., symmetry, :] * sign


def components(samples: Array, symmetry: Array, sign: Array, count: int, weights: Array | None = None) -> Components:
    """PCA about zero of samples [N,V,C] and their mirror images, in the metric of weights [V].

    Sums and differences of a sample and its image are uncorrelated over that doubled set, so the two halves are
    decomposed apart and every component is exactly symmetric or exactly antisymmetric.
    """
    N, V, C = samples.shape
    scale = np.ones(V) if weights is None else np.sqrt(weights)
    image = mirror_images(samples, symmetry, sign)
    found = []
    total = 0.0
    for half in ((samples + image) / 2, (samples - image) / 2):
        flat = (half * scale[:, None]).reshape(N, V * C)
        gram = flat @ flat.T / N
        total += float(np.trace(gram))
        values, vectors = sl.eigh(gram, subset_by_index=[max(N - count, 0), N - 1])
        for value, vector in zip(values[::-1], vectors.T[::-1], strict=True):
            if value > 1e-12 * total:
                found.append((float(value), (vector / np.sqrt(N)) @ half.reshape(N, V * C)))
    found.sort(key=lambda pair: -pair[0])
    found = found[:count]
    basis = np.stack([row for _, row in found])
    # Eigenvectors have no sign of their own: the largest entry is made positive.
    largest = np.abs(basis).argmax(axis=1)
    basis *= np.sign(basis[np.arange(len(basis)), largest])[:, None]
    return Components(basis.reshape(len(basis), V, C), sum(value for value, _ in found) / total)
