"""neighbor_min_loss against loops over pixels and the FOCUS authors' program; ties, borders, what it keeps, errors."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from meshes import generator
from neighbors import AUTHORS_NEIGHBOR, neighbor_loops
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels._extension import _C

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
NAMES = ("target", "rendered", "mask")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
HALF = [torch.float16, torch.bfloat16]
OPTIONS = [
    {},
    {"search": "target"},
    {"power": 1},
    {"masking": "images"},
    {"border": "valid"},
    {"window": 5, "search": "target", "border": "valid"},
    {"window": 5, "masking": "images", "power": 1},
    {"window": 7},
    {"window": 7, "search": "target", "masking": "images", "border": "valid"},
    AUTHORS_NEIGHBOR,
]


def images(seed, B, H, W, steps=None):
    """target, rendered and mask in float64; of multiples of 1 / steps, so that all sums are exact and ties abound."""
    g = generator(seed)
    drawn = [torch.rand(B, channels, H, W, generator=g, dtype=torch.float64) for channels in (3, 3, 1)]
    return [(value * steps).round() / steps if steps else value for value in drawn]


def leaves(values, device="cpu", dtype=torch.float64):
    return [value.to(device, dtype).requires_grad_() for value in values]


@DTYPES
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", [(8, 9), (7, 26)], ids=str)
def test_loops_over_pixels(backend, dtype, options, size):
    """Quarters: nothing rounds, so the map and each gradient are equal bit for bit, ties included."""
    if backend.name == "triton" and size[1] > 9:
        pytest.skip("vectors are the CPU's")
    exact = options.get("power", 2) == 2
    values = images(1, 2, *size, steps=4 if exact else None)
    inputs = leaves(values, backend.device, dtype)
    out = fk.neighbor_min_loss(*inputs, reduction="none", **options)
    cotangent = torch.randint(-3, 4, out.shape, generator=generator(2)).to(out)
    want, want_grads = neighbor_loops(*(value.detach().cpu() for value in inputs), cotangent.cpu(), **options)
    assert out.shape == want.shape and out.dtype == dtype
    grads = torch.autograd.grad(out, inputs, cotangent)
    for got, true in zip([out.detach(), *grads], [want, *want_grads.values()], strict=True):
        # Of a norm, some thirty terms of order one.
        torch.testing.assert_close(got.cpu().double(), true, rtol=0, atol=0 if exact else 64 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 18, 19, 23, 24, 25, 31, 33, 40])
@pytest.mark.parametrize("window", [3, 5, 7])
def test_every_width(kernel, width, window):
    """Borders, whole vectors and the rest of a row; fewer columns and rows than the window."""
    if kernel.name == "triton" and width > 9:
        pytest.skip("vectors are the CPU's")
    inputs = leaves(images(width, 1, 4, width, steps=4), kernel.device, torch.float32)
    out = fk.neighbor_min_loss(*inputs, window=window, reduction="none")
    cotangent = torch.randint(-3, 4, out.shape, generator=generator(2)).to(out)
    want, want_grads = neighbor_loops(*(value.detach().cpu() for value in inputs), cotangent.cpu(), window)
    got = [out.detach(), *torch.autograd.grad(out, inputs, cotangent)]
    for one, other in zip(got, [want, *want_grads.values()], strict=True):
        assert torch.equal(one.cpu().double(), other)


@DTYPES
@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize("border", ["clip", "valid"])
@pytest.mark.parametrize("masking", ["weight", "images"])
def test_reductions_are_of_the_map(backend, dtype, window, border, masking):
    options = {"window": window, "border": border, "masking": masking}
    inputs = [value.to(backend.device, dtype) for value in images(3, 2, 7, 8, steps=4)]
    parts = fk.neighbor_min_loss(*inputs, reduction="none", **options).double()
    r = window // 2 if border == "valid" else 0
    weight = inputs[2][:, :, r : 7 - r, r : 8 - r].double().sum((1, 2, 3))
    assert weight.min() > 1
    per_image = parts.sum((1, 2, 3))
    for reduction, want in (
        ("mean", per_image.sum() / parts.numel()),
        ("mask_mean", (per_image / weight).mean()),
        ("sum", per_image.sum()),
    ):
        got = fk.neighbor_min_loss(*inputs, reduction=reduction, **options)
        assert got.shape == () and got.dtype == dtype
        torch.testing.assert_close(got.double(), want, rtol=4 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("total", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("masking", ["weight", "images"])
def test_the_divisor_of_mask_mean_is_at_least_one(backend, total, masking):
    """Its gradient to the mask begins where the sum of the mask is 1, as that of torch's clamp."""
    target, rendered, mask = images(4, 1, 4, 4, steps=8)
    mask = torch.zeros_like(mask)
    mask[0, 0, 1, 1:3] = total / 2
    inputs = leaves((target, rendered, mask), backend.device)
    parts = fk.neighbor_min_loss(*inputs, masking=masking, reduction="none").sum()
    want = torch.autograd.grad(parts / inputs[2].sum().clamp(min=1), inputs)
    got = torch.autograd.grad(fk.neighbor_min_loss(*inputs, masking=masking, reduction="mask_mean"), inputs)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("window", [3, 7])
def test_of_equals_the_first_in_row_order(backend, window):
    """Plain images: every neighbour is as near, so the upper left one that exists has the gradient."""
    H, W, r = 9, 12, window // 2
    inputs = leaves((torch.ones(1, 3, H, W), torch.zeros(1, 3, H, W), torch.ones(1, 1, H, W)), backend.device)
    rendered = torch.autograd.grad(fk.neighbor_min_loss(*inputs, window=window, reduction="sum"), inputs)[1]
    want = torch.zeros(H, W, dtype=torch.float64)
    for y in range(H):
        for x in range(W):
            want[max(y - r, 0), max(x - r, 0)] -= 2
    assert torch.equal(rendered.cpu(), want.expand(1, 3, H, W))


@DTYPES
@pytest.mark.parametrize("at", [(0, 0), (3, 9), (5, 20)])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_distance_of_nan_is_not_hidden(backend, dtype, at, bad):
    """A NaN is taken before all others (and infinity, among others, never), by the pixels around it alone."""
    target, rendered, mask = images(5, 1, 6, 21)
    rendered[0, 1, at[0], at[1]] = bad
    inputs = leaves((target, rendered, mask), backend.device, dtype)
    out = fk.neighbor_min_loss(*inputs, reduction="none")
    around = torch.zeros(6, 21, dtype=torch.bool)
    if bad != bad:
        around[max(at[0] - 1, 0) : at[0] + 2, max(at[1] - 1, 0) : at[1] + 2] = True
    assert torch.equal(out.isnan()[0, 0].cpu(), around)
    grads = torch.autograd.grad(out.sum(), inputs)
    assert grads[1].isnan().any(1).sum() == (bad != bad)  # of rendered: that pixel only
    for grad in (grads[0], grads[2]):
        assert torch.equal(grad.isnan().any(1)[0].cpu(), around)


def test_the_first_nan_is_taken(backend):
    target, rendered, mask = images(6, 1, 3, 3)
    rendered[0, :, 1, 1], rendered[0, :, 2, 2], mask[:] = torch.nan, torch.nan, 0
    mask[0, 0, 2, 1] = 1  # of its neighbours both are NaN
    inputs = leaves((target, rendered, mask), backend.device)
    weighted = fk.neighbor_min_loss(*inputs, reduction="none")[0, 0, 2, 1]
    grad = torch.autograd.grad(weighted, inputs[1])[0]
    assert grad.isnan().any(1)[0].nonzero().tolist() == [[1, 1]]


def test_infinite_distances_are_infinite(backend):
    """All of them are: the first that exists, not a NaN, and no neighbour from outside."""
    inputs = leaves((torch.full((1, 3, 3, 20), 3e38), torch.full((1, 3, 3, 20), -3e38), torch.ones(1, 1, 3, 20)))
    inputs = [value.detach().to(backend.device, torch.float32).requires_grad_() for value in inputs]
    assert fk.neighbor_min_loss(*inputs, reduction="none").eq(torch.inf).all()


@DTYPES
def test_a_norm_has_no_gradient_at_zero(backend, dtype):
    target, _, mask = images(7, 2, 5, 19)
    inputs = leaves((target, target, mask), backend.device, dtype)
    for masking in ("weight", "images"):
        out = fk.neighbor_min_loss(*inputs, power=1, masking=masking)
        assert out == 0
        assert all(grad.eq(0).all() for grad in torch.autograd.grad(out, inputs))


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (3, 0)])
@pytest.mark.parametrize("reduction", ["mean", "mask_mean", "sum", "none"])
def test_images_without_pixels(backend, size, reduction):
    inputs = leaves([torch.zeros(2, channels, *size) for channels in (3, 3, 1)], backend.device)
    out = fk.neighbor_min_loss(*inputs, reduction=reduction)
    assert out.sum() == 0 and out.shape == ((2, 1, *size) if reduction == "none" else ())
    assert all(grad.shape[2:] == size for grad in torch.autograd.grad(out.sum(), inputs))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("options", [{}, AUTHORS_NEIGHBOR, {"masking": "images", "reduction": "mask_mean"}], ids=str)
def test_gradients_one_by_one(kernel, wanted, options):
    """Each is the same bits whichever others are asked for."""
    values = [value.to(kernel.device, torch.float32) for value in images(8, 2, 9, 10)]
    inputs = [value.clone().requires_grad_() for value in values]
    every = torch.autograd.grad(fk.neighbor_min_loss(*inputs, **options), inputs)
    some = [value.clone().requires_grad_(k in wanted) for k, value in enumerate(values)]
    fk.neighbor_min_loss(*some, **options).backward()
    for k, value in enumerate(some):
        if k in wanted:
            assert_same_bits(value.grad, every[k], NAMES[k])
        else:
            assert value.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_one_byte_per_pixel_is_kept(kernel, dtype):
    inputs = leaves(images(9, 2, 9, 10), kernel.device, dtype)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        fk.neighbor_min_loss(*inputs)
    ours = {value.data_ptr() for value in inputs}
    own = [value for value in kept if value.data_ptr() not in ours]
    assert sorted(value.numel() * value.element_size() for value in own) == [2 * 2 * 4, 2 * 9 * 10]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
@pytest.mark.parametrize("options", [{}, {**AUTHORS_NEIGHBOR, "reduction": "mask_mean"}, {"window": 7}], ids=str)
def test_same_bits_for_any_threads_and_instruction_set(kernel, dtype, options, threads, instruction_sets):
    if kernel.name == "triton":
        pytest.skip("they are the CPU's")
    inputs = leaves(images(10, 2, 70, 83), kernel.device, dtype)
    cotangent = torch.tensor(1.5, dtype=torch.promote_types(dtype, torch.float32))
    first = None
    for name, count in product(instruction_sets, (1, 2, 3)):
        _C.set_cpu_isa(name)
        threads(count)
        out = fk.neighbor_min_loss(*inputs, **options)
        result = [out.detach(), *torch.autograd.grad(out, inputs, cotangent)]
        first = first or result
        for one, other in zip(result, first, strict=True):
            assert_same_bits(one, other, f"{name}, {count} threads")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
def test_the_result_is_at_least_float32(backend, dtype):
    inputs = [value.to(backend.device, dtype) for value in images(11, 1, 4, 5)]
    for reduction in ("mean", "none"):
        out = fk.neighbor_min_loss(*inputs, reduction=reduction)
        assert out.dtype == torch.promote_types(dtype, torch.float32)


@DTYPES
@pytest.mark.parametrize("name", ["a", "b"])
def test_golden(backend, dtype, name):
    """The FOCUS authors' program, in float32."""
    if not GOLDEN.is_dir():
        pytest.skip("needs ../shared/golden")
    with np.load(GOLDEN / f"focus_losses_{name}.npz") as file:
        data = {key: torch.from_numpy(file[key]) for key in (*NAMES, "window", "loss", "grad_rendered", "grad_mask")}
    inputs = leaves([data[key] for key in NAMES], backend.device, dtype)
    loss = fk.neighbor_min_loss(*inputs, **{**AUTHORS_NEIGHBOR, "window": int(data["window"])})
    torch.testing.assert_close(loss.detach().cpu().double(), data["loss"].double(), rtol=2e-7, atol=0)
    for grad, key in zip(torch.autograd.grad(loss, inputs[1:]), ("grad_rendered", "grad_mask"), strict=True):
        want = data[key].double()
        torch.testing.assert_close(grad.cpu().double(), want, rtol=0, atol=1e-6 * float(want.abs().max()))


def _three(*size):
    return torch.zeros(2, 3, *size)


ERRORS = [
    ({"target": None}, TypeError, "target to be a torch.Tensor, got NoneType"),
    ({"target": torch.zeros(2, 1, 5, 6)}, ValueError, r"target to be shape \[\*, 3, \*, \*\], got \[2, 1, 5, 6\]"),
    ({"rendered": _three(5, 7)}, ValueError, r"rendered to be shape \[2, 3, 5, 6\], got \[2, 3, 5, 7\]"),
    ({"rendered": _three(5, 6).half()}, TypeError, "rendered to be float32 as target, got float16"),
    ({"mask": torch.zeros(2, 5, 6)}, ValueError, r"mask to be shape \[2, 1, 5, 6\], got \[2, 5, 6\]"),
    ({"mask": torch.zeros(2, 1, 5, 6, device="meta")}, ValueError, "mask to be on cpu as target, got meta"),
    ({"window": 4}, ValueError, "window to be one of 3, 5, 7, got 4"),
    ({"window": 3.0}, TypeError, "window to be one of 3, 5, 7, got float"),
    ({"power": True}, TypeError, "power to be one of 2, 1, got bool"),
    ({"power": 3}, ValueError, "power to be one of 2, 1, got 3"),
    ({"search": "both"}, ValueError, "search to be one of 'rendered', 'target', got 'both'"),
    ({"masking": None}, ValueError, "masking to be one of 'weight', 'images', got None"),
    ({"border": "zeros"}, ValueError, "border to be one of 'clip', 'valid', got 'zeros'"),
    ({"reduction": 1}, TypeError, "reduction to be one of 'mean', 'mask_mean', 'sum', 'none', got int"),
    ({"window": 7, "border": "valid"}, ValueError, 'target to be at least 7 x 7 for border="valid", got 5 x 6'),
]


@pytest.mark.parametrize("change, kind, message", ERRORS)
def test_errors(change, kind, message):
    arguments = {"target": _three(5, 6), "rendered": _three(5, 6), "mask": torch.zeros(2, 1, 5, 6), **change}
    with pytest.raises(kind, match=r"neighbor_min_loss\(\): expected " + message):
        fk.neighbor_min_loss(**arguments)
