"""A bound of what rounding may do to a formula, for inputs on which two ways to compute it may differ by any factor."""

from __future__ import annotations

import torch
from torch import Tensor


class Rounded:
    """Values in float64 beside a bound of the error that the same formula makes in another dtype (running analysis).

    Twice the unit roundoff is charged for each operation: once for the formula under test, once for the one it is held
    against, whatever the order of its sums. An error that cannot be bounded (a division by what may be zero, an
    overflow) is infinite.
    """

    def __init__(self, value: Tensor, error: Tensor, dtype: torch.dtype):
        limits = torch.finfo(dtype)
        error = error + limits.eps * value.abs() + limits.tiny
        self.value, self.dtype = value, dtype
        self.error = torch.where(value.abs() + error < limits.max, error, torch.inf)

    @classmethod
    def exact(cls, value: Tensor, dtype: torch.dtype) -> Rounded:
        held = cls.__new__(cls)
        held.value, held.error, held.dtype = value.double(), torch.zeros_like(value, dtype=torch.float64), dtype
        return held

    def __add__(self, other: Rounded) -> Rounded:
        return Rounded(self.value + other.value, self.error + other.error, self.dtype)

    def __sub__(self, other: Rounded) -> Rounded:
        return Rounded(self.value - other.value, self.error + other.error, self.dtype)

    def __mul__(self, other: Rounded) -> Rounded:
        crossed = _times(self.value.abs(), other.error) + _times(other.value.abs(), self.error)
        return Rounded(self.value * other.value, crossed + _times(self.error, other.error), self.dtype)

    def __truediv__(self, other: Rounded) -> Rounded:
        least = other.value.abs() - other.error
        value = self.value / other.value
        error = torch.where(least > 0, (self.error + _times(value.abs(), other.error)) / least, torch.inf)
        return Rounded(value.nan_to_num(), error, self.dtype)

    def sum_into(self, index: Tensor, rows: int) -> Rounded:
        """Row i of the result is the sum of the entries whose index is i, added up in any order."""
        add = lambda terms: torch.zeros(rows, dtype=torch.float64).index_add(0, index, terms)
        steps = add(torch.ones_like(self.value)) * torch.finfo(self.dtype).eps
        return Rounded(add(self.value), add(self.error) + _times(steps, add(self.value.abs())), self.dtype)


def total(terms: list[Rounded]) -> Rounded:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


def assert_within(got: Tensor, bound: Rounded, what: str = "") -> None:
    """`got` is as far from the value as rounding allows at the most; what has no bound is not judged."""
    assert got.dtype == bound.dtype and got.shape == bound.value.shape, (got.dtype, got.shape, bound.value.shape)
    error = (got.double() - bound.value).abs()
    wrong = ~(error <= bound.error) & bound.error.isfinite()
    where = wrong.nonzero()[:3].tolist()
    worst = [(float(got[tuple(i)]), float(bound.value[tuple(i)]), float(bound.error[tuple(i)])) for i in where]
    assert not wrong.any(), f"{what}: {int(wrong.sum())} of {got.numel()} at {where} (got, want, bound): {worst}"


def _times(a: Tensor, b: Tensor) -> Tensor:
    """a * b of bounds, where zero times infinity is zero."""
    return torch.where((a == 0) | (b == 0), 0, a * b)
