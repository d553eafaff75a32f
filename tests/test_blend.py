"""blend against a sum over components, half-precision bases, views of a basis, what it does not read, its arguments."""

import pytest
import torch
from meshes import generator
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels import _backends
from focus_kernels._extension import _C
from focus_kernels.ops.blend import op


def drawn(B, K, V, dtype=torch.float64):
    draw = lambda seed, *shape: torch.randn(*shape, generator=generator(seed), dtype=torch.float64).to(dtype)
    return draw(0, V, 3), draw(1, K, V, 3), draw(2, B, K)


# Sizes about the blocks of the kernels: 16 to 4096 columns, 6 and 16 components, 6 and 32 images.
SIZES = [(1, 1, 1), (2, 5, 7), (3, 224, 50), (2, 0, 7), (0, 5, 7), (2, 5, 0), (1, 19, 1400), (33, 17, 90), (7, 37, 171)]
HALVES = pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("B, K, V", SIZES)
def test_sum_over_components(backend, dtype, B, K, V):
    mean, basis, coeffs = drawn(B, K, V, dtype)
    got = fk.blend(*(x.to(backend.device) for x in (mean, basis, coeffs))).cpu()
    assert got.shape == (B, V, 3) and got.dtype == dtype
    want, size = mean.double().expand(B, V, 3).clone(), mean.double().abs().expand(B, V, 3).clone()
    for k in range(K):
        term = coeffs[:, k, None, None].double() * basis[k].double()
        want, size = want + term, size + term.abs()
    # The usual bound of a sum of K products: K roundings of the partial sums.
    assert ((got.double() - want).abs() <= (K + 1) * torch.finfo(dtype).eps * size).all()


def gradients(inputs, grad):
    leaves = [x.detach().requires_grad_() for x in inputs]
    return torch.autograd.grad(fk.blend(*leaves), leaves, grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("B, K, V", SIZES)
def test_gradients_are_sums_of_products(kernel, dtype, B, K, V):
    inputs = [x.to(kernel.device) for x in drawn(B, K, V, dtype)]
    grad = torch.randn(B, V, 3, generator=generator(3), dtype=torch.float64).to(kernel.device, dtype)
    _, basis, coeffs = (x.double() for x in inputs)
    g, eps = grad.double(), torch.finfo(dtype).eps
    sums = {
        "bvc->vc": (B, g),
        "bk,bvc->kvc": (B, coeffs, g),
        "bvc,kvc->bk": (3 * V, g, basis),
    }
    for got, (equation, (terms, *factors)) in zip(gradients(inputs, grad), sums.items(), strict=True):
        error = (got.double() - torch.einsum(equation, *factors)).abs()
        assert (error <= (terms + 1) * eps * torch.einsum(equation, *(x.abs() for x in factors))).all(), equation


@HALVES
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("B", [1, 3, 9])
def test_half_basis_is_summed_in_float32(backend, half, autocast, B):
    mean, basis, coeffs = (x.to(backend.device) for x in drawn(B, 37, 50, torch.float32))
    basis = basis.to(half)
    with torch.autocast(backend.device, dtype=torch.bfloat16, enabled=autocast):
        got = fk.blend(mean, basis, coeffs)
    assert got.dtype == torch.float32
    assert_same_bits(got, fk.blend(mean, basis.float(), coeffs))
    grad = torch.randn(got.shape, generator=generator(3)).to(backend.device)
    own, wide = gradients((mean, basis, coeffs), grad), gradients((mean, basis.float(), coeffs), grad)
    assert own[1].dtype == half and own[1].equal(wide[1].to(half))
    assert_same_bits(own[0], wide[0])
    assert_same_bits(own[2], wide[2])


@HALVES
def test_half_basis_is_summed_in_float64_for_a_mean_in_float64(backend, half):
    mean, basis, coeffs = (x.to(backend.device) for x in drawn(2, 5, 7))
    assert_same_bits(fk.blend(mean, basis.to(half), coeffs), fk.blend(mean, basis.to(half).double(), coeffs))


VIEWS = {
    "first": lambda basis: basis[:3],
    "every other": lambda basis: basis[::2],
    "last": lambda basis: basis[5:],
    "one, expanded": lambda basis: basis[4:5].expand(6, -1, -1),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_views_of_a_basis_are_not_copied(kernel, view, dtype, monkeypatch):
    mean, basis, _ = drawn(2, 9, 400, torch.float32)
    rows = VIEWS[view](basis.to(kernel.device, dtype))
    coeffs = torch.randn(2, len(rows), generator=generator(4)).to(kernel.device)
    inputs, grad = (mean.to(kernel.device), rows, coeffs), torch.ones(2, 400, 3, device=kernel.device)
    want = fk.blend(inputs[0], rows.clone(memory_format=torch.contiguous_format), coeffs), *gradients(inputs, grad)
    seen = []
    for name in ("_FORWARD", "_BACKWARD"):
        raw = getattr(op, name)
        monkeypatch.setattr(op, name, lambda *args, raw=raw: seen.append(args[1].data_ptr()) or raw(*args))
    leaves = [inputs[0].requires_grad_(), rows, coeffs.requires_grad_()]
    got = fk.blend(*leaves)
    grads = torch.autograd.grad(got, [leaves[0], leaves[2]], grad)
    assert seen == [rows.data_ptr()] * 2
    for one, other in zip([got.detach(), *grads], [want[0].detach(), want[1], want[3]], strict=True):
        assert_same_bits(one, other)


def test_components_that_no_image_has_are_not_read(kernel):
    if kernel.name != "native":
        pytest.skip("the kernels of the CPU look")
    mean, basis, coeffs = drawn(2, 40, 30, torch.float32)
    coeffs[:, 3], coeffs[0, 5], coeffs[:, 20:] = 0, 0, -0.0
    want = fk.blend(mean, basis, coeffs)
    basis[3] = basis[20:] = torch.nan
    assert_same_bits(fk.blend(mean, basis, coeffs), want)
    coeffs[1, 20] = torch.nan
    basis[20] = 0
    assert fk.blend(mean, basis, coeffs)[1].isnan().all() and not fk.blend(mean, basis, coeffs)[0].isnan().any()


@pytest.mark.parametrize("wanted", range(1, 8))
def test_gradients_that_nobody_wants_are_not_computed(kernel, wanted, monkeypatch):
    inputs = [x.to(kernel.device) for x in drawn(2, 9, 7, torch.float32)]
    names = [bool(wanted >> i & 1) for i in range(3)]
    grad = torch.ones(2, 7, 3, device=kernel.device)
    every = gradients(inputs, grad)
    seen, raw = [], op._BACKWARD
    monkeypatch.setattr(op, "_BACKWARD", lambda *args: seen.append(raw(*args)) or seen[-1])
    leaves = [x.requires_grad_(needed) for x, needed in zip(inputs, names, strict=True)]
    got = torch.autograd.grad(fk.blend(*leaves), [x for x in leaves if x.requires_grad], grad)
    for one, other in zip(got, [value for value, needed in zip(every, names, strict=True) if needed], strict=True):
        assert_same_bits(one, other)
    assert [value.numel() > 0 for value in seen[0]] == names


@pytest.mark.parametrize("B", [1, 3, 4, 13, 40])
def test_same_bits_for_threads_splits_and_instruction_sets(B, threads, instruction_sets, monkeypatch):
    monkeypatch.setattr(_backends, "FORCED", "native")
    if op.BACKENDS["native"].why_not(torch.zeros(1)):
        pytest.skip("CUDA is emulated")
    inputs = drawn(B, 23, 1500, torch.float32)
    grad = torch.randn(B, 1500, 3, generator=generator(3))
    call = lambda: [fk.blend(*inputs), *gradients(inputs, grad)]
    threads(1)
    want = call()
    for name in instruction_sets:
        _C.set_cpu_isa(name)
        for one, other in zip(call(), want, strict=True):
            assert_same_bits(one, other, name)
    threads(3)
    for one, other in zip(call(), want, strict=True):
        assert_same_bits(one, other, "3 threads")
    for part in (slice(0, 1), slice(B // 2, B)):
        mean, basis, coeffs = inputs
        assert_same_bits(fk.blend(mean, basis, coeffs[part]), want[0][part])
        assert_same_bits(gradients((mean, basis, coeffs[part]), grad[part])[2], want[3][part])


def test_second_derivatives_of_the_definition(monkeypatch):
    monkeypatch.setattr(_backends, "FORCED", "ref")
    inputs = [x.requires_grad_() for x in drawn(2, 3, 4)]
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
