"""blend against a sum over components, half-precision bases, and its arguments."""

import pytest
import torch
from meshes import generator

import focus_kernels as fk


def drawn(B, K, V, dtype=torch.float64):
    draw = lambda seed, *shape: torch.randn(*shape, generator=generator(seed), dtype=torch.float64).to(dtype)
    return draw(0, V, 3), draw(1, K, V, 3), draw(2, B, K)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("B, K, V", [(1, 1, 1), (2, 5, 7), (3, 224, 50), (2, 0, 7), (0, 5, 7), (2, 5, 0)])
def test_sum_over_components(device, dtype, B, K, V):
    mean, basis, coeffs = drawn(B, K, V, dtype)
    got = fk.blend(*(x.to(device) for x in (mean, basis, coeffs))).cpu()
    assert got.shape == (B, V, 3) and got.dtype == dtype
    want, size = mean.double().expand(B, V, 3).clone(), mean.double().abs().expand(B, V, 3).clone()
    for k in range(K):
        term = coeffs[:, k, None, None].double() * basis[k].double()
        want, size = want + term, size + term.abs()
    # The usual bound of a sum of K products: K roundings of the partial sums.
    assert ((got.double() - want).abs() <= (K + 1) * torch.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_half_basis_is_summed_in_float32(device, half, autocast):
    mean, basis, coeffs = (x.to(device) for x in drawn(3, 224, 50, torch.float32))
    basis = basis.to(half).requires_grad_()
    with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
        got = fk.blend(mean, basis, coeffs)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, fk.blend(mean, basis.float(), coeffs), rtol=0, atol=0)
    assert torch.autograd.grad(got.sum(), basis)[0].dtype == half


def test_second_derivatives(device):
    inputs = [x.to(device).requires_grad_() for x in drawn(2, 3, 4)]
    assert torch.autograd.gradgradcheck(fk.blend, inputs)


ERRORS = [
    ({"mean": None}, TypeError, "mean to be a torch.Tensor, got NoneType"),
    ({"mean": torch.zeros(5, 3, 1)}, ValueError, r"mean to be shape \[\*, 3\], got \[5, 3, 1\]"),
    ({"basis": torch.zeros(4, 6, 3)}, ValueError, r"basis to be shape \[\*, 5, 3\], got \[4, 6, 3\]"),
    ({"basis": torch.zeros(4, 5, 3).double()}, TypeError, "basis to be float32 as mean, got float64"),
    ({"basis": torch.zeros(4, 5, 3).int()}, TypeError, "basis to be float32 or float64, got int32"),
    ({"basis": torch.zeros(4, 5, 3, device="meta").half()}, ValueError, "basis to be on cpu as mean, got meta"),
    ({"coeffs": torch.zeros(2, 80)}, ValueError, r"coeffs to be shape \[\*, 4\], got \[2, 80\]"),
    ({"coeffs": torch.zeros(4)}, ValueError, r"coeffs to be shape \[\*, 4\], got \[4\]"),
]


@pytest.mark.parametrize("change, kind, message", ERRORS)
def test_errors(change, kind, message):
    arguments = {"mean": torch.zeros(5, 3), "basis": torch.zeros(4, 5, 3), "coeffs": torch.zeros(2, 4), **change}
    with pytest.raises(kind, match=r"blend\(\): expected " + message):
        fk.blend(**arguments)
