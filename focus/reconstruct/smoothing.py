"""OneEuro: a filter for values that come frame by frame, steady at rest and quick in motion."""

from __future__ import annotations

import math

import numpy as np


class OneEuro:
    """The 1 euro filter (Casiez, Roussel, Vogel, CHI 2012): a low-pass whose cutoff grows with the speed.

    Args:
        min_cutoff: Hz, at rest; lower is steadier.
        beta: growth of the cutoff, Hz per unit of speed (units of the values per second); higher lags less.
        speed_cutoff: Hz, of the low-pass on the speed itself.

    Raises:
        ValueError: a constant that is not finite, or negative, or a cutoff of 0.
    """

    def __init__(self, min_cutoff: float = 1.0, beta: float = 0.3, speed_cutoff: float = 1.0) -> None:
        for name, value, least in (
            ("min_cutoff", min_cutoff, 1e-9),
            ("beta", beta, 0.0),
            ("speed_cutoff", speed_cutoff, 1e-9),
        ):
            if not math.isfinite(value) or value < least:
                raise ValueError(f"OneEuro(): expected {name} to be finite and {'>' if least else '>='} 0, got {value}")
        self.min_cutoff, self.beta, self.speed_cutoff = min_cutoff, beta, speed_cutoff
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    def reset(self) -> None:
        """Forgets the past: the next values pass as they are."""
        self._value = self._speed = None

    def __call__(self, values: np.ndarray, seconds: float) -> np.ndarray:
        """The filtered values, float64 of the same shape, each element on its own.

        Args:
            values: of any one shape.
            seconds: since the values before, > 0.
        """
        values = np.asarray(values, np.float64)
        if not seconds > 0:
            raise ValueError(f"OneEuro(): expected seconds to be > 0, got {seconds}")
        if self._value is None or self._speed is None:
            self._value, self._speed = values.copy(), np.zeros_like(values)
            return values.copy()
        if values.shape != self._value.shape:
            raise ValueError(
                f"OneEuro(): expected values to be shape {list(self._value.shape)} as before, got {list(values.shape)}"
            )
        speed = (values - self._value) / seconds
        self._speed = _towards(self._speed, speed, self.speed_cutoff, seconds)
        self._value = _towards(self._value, values, self.min_cutoff + self.beta * np.abs(self._speed), seconds)
        return self._value.copy()


def _towards(old: np.ndarray, new: np.ndarray, cutoff: np.ndarray | float, seconds: float) -> np.ndarray:
    """One step of a first-order low-pass of that cutoff (Hz)."""
    alpha = 1 / (1 + 1 / (2 * np.pi * cutoff * seconds))
    return old + alpha * (new - old)
