"""The bounds of rounding hold what float32 does, and little more."""

import pytest
import torch
from meshes import generator
from rounding import Rounded, assert_within, total

X, Y, Z = (torch.randn(1000, generator=generator(seed), dtype=torch.float64).float() for seed in range(3))


def formula(x, y, z):
    return (x * y - z) / (x * x + y * y) + z


def bounded(dtype=torch.float32):
    return formula(*(Rounded.exact(value.double(), dtype) for value in (X, Y, Z)))


def test_float32_is_within_and_the_bound_is_near():
    got, bound = formula(X, Y, Z), bounded()
    assert_within(got, bound)
    error = (got.double() - bound.value).abs()
    assert (error > 0).any() and (bound.error < 200 * torch.finfo(torch.float32).eps * (1 + bound.value.abs())).any()
    assert bound.error.median() < 50 * error.median()


def test_more_than_rounding_is_refused():
    bound = bounded()
    with pytest.raises(AssertionError, match=r"what: 1 of 1000 at \[\[3\]\]"):
        wrong = formula(X, Y, Z)
        wrong[3] += 2 * float(bound.error[3])
        assert_within(wrong, bound, "what")
    with pytest.raises(AssertionError, match="1000 of 1000"):
        assert_within(formula(X, Y, Z) * torch.nan, bound)


def test_sums_by_row():
    index = torch.randint(10, (1000,), generator=generator(3))
    bound = Rounded.exact(X.double(), torch.float32).sum_into(index, 10)
    got = torch.zeros(10).index_add(0, index, X)
    assert_within(got, bound)
    assert (bound.error < 5e-3).all()
    with pytest.raises(AssertionError):
        assert_within(got + 5e-3, bound)


def test_what_cannot_be_bounded_is_not_judged():
    value = lambda *numbers: Rounded.exact(torch.tensor(numbers), torch.float32)
    by_zero = value(1.0, 1.0) / (value(1.0, 1.0) - value(1.0, 0.5))
    assert by_zero.error.isinf().tolist() == [True, False]
    too_large = total([value(3e38, 1.0)] * 2)
    assert too_large.error.isinf().tolist() == [True, False]
    assert_within(torch.tensor([torch.nan, 2.0]), too_large)
