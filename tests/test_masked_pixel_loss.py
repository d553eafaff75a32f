"""masked_pixel_loss and inlier_mask against loops over pixels; what is cut, what is zero; half precision; arguments."""

import itertools
import math
from functools import partial

import pytest
import torch
from meshes import generator
from tolerances import assert_same_bits
from torch._subclasses.fake_tensor import FakeTensorMode

import focus_kernels as fk
from focus_kernels._extension import _C
from focus_kernels.ops.masked_pixel_loss import op

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
KINDS = ("squared", "l2", "l1", "gaussian_inlier")
REDUCTIONS = ("mean", "mask_mean", "batch_mask_mean", "sum", "none")
# Beside and across a vector, the 256 pixels of a run, and the 8192 of a job.
SIZES = [(1, 1), (3, 5), (4, 8), (15, 17), (5, 53), (1, 8192), (64, 129)]


def drawn(size, dtype, device="cpu", batch=2, seed=0):
    draw = lambda *shape: torch.rand(shape, generator=generator(seed + len(shape) * shape[1]), dtype=torch.float64)
    target = draw(batch, 3, *size)
    rendered = target + 0.3 * (draw(batch, 3, *size).flip(0, 1, 2, 3) - 0.5)
    return tuple(image.to(device, dtype) for image in (target, rendered, draw(batch, 1, *size)))


def pixel(target, rendered, weight, kind, sigma, threshold):
    """(cost, weight) of one pixel, in Python's floats."""
    d = [b - a for a, b in zip(target, rendered, strict=True)]
    r2 = sum(x * x for x in d)
    if threshold is not None and not r2 < threshold:
        return 0.0, 0.0
    likelihood = lambda x: -0.5 * (x / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))
    cost = {
        "squared": lambda: r2,
        "l2": lambda: math.sqrt(r2),
        "l1": lambda: sum(map(abs, d)),
        "gaussian_inlier": lambda: -sum(map(likelihood, d)),
    }[kind]()
    return weight * cost, weight


def by_loops(target, rendered, mask, kind, sigma, threshold, reduction):
    images = []
    for b in range(len(target)):
        columns = (image[b].double().cpu().flatten(1).T.tolist() for image in (target, rendered, mask))
        images.append([pixel(t, r, *m, kind, sigma, threshold) for t, r, m in zip(*columns, strict=True)])
    if reduction == "none":
        return torch.tensor([[cost for cost, _ in image] for image in images], dtype=torch.float64).view(mask.shape)
    costs, weights = ([math.fsum(one[k] for one in image) for image in images] for k in range(2))
    shares = [cost / max(weight, 1) for cost, weight in zip(costs, weights, strict=True)]
    total = {
        "sum": sum(costs),
        "mean": sum(costs) / mask.numel(),
        "mask_mean": sum(shares) / len(shares),
        "batch_mask_mean": sum(costs) / max(sum(weights), 1),
    }
    return torch.tensor(total[reduction], dtype=torch.float64)


@DTYPES
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_loop_over_pixels(backend, dtype, size):
    images = drawn(size, dtype, backend.device)
    modes = list(itertools.product(KINDS, REDUCTIONS, (None, 0.02)))
    if size != (3, 5):
        modes = [("squared", "mask_mean", None), ("l1", "none", 0.02), ("gaussian_inlier", "batch_mask_mean", 0.02)]
    for kind, reduction, threshold in modes:
        got = fk.masked_pixel_loss(*images, kind=kind, sigma=0.1, threshold=threshold, reduction=reduction)
        cut = 0.09 if threshold is None and kind == "gaussian_inlier" else threshold
        want = by_loops(*images, kind, 0.1, cut, reduction)
        assert got.dtype == dtype and got.shape == want.shape
        # A pixel rounds a dozen times, at the scale of the offset of "gaussian_inlier"; its sums a few times more.
        error = 32 * torch.finfo(dtype).eps * max(float(want.abs().max()), 1e-3)
        torch.testing.assert_close(got.double().cpu(), want, rtol=0, atol=error, msg=f"{kind} {reduction} {threshold}")


def test_long_sums_do_not_drift(backend):
    """A million equal terms, which all round the same way; added one by one in float32 they are off by 1e-3."""
    if backend.name == "triton" and backend.device == "cpu":
        pytest.skip("a thousand programs, interpreted")
    target = torch.zeros(1, 3, 1024, 1024, device=backend.device)
    for reduction, count in (("sum", 2**20), ("mean", 1)):
        got = fk.masked_pixel_loss(target, target + 0.1, target[:, :1] + 0.7, reduction=reduction)
        term = torch.tensor(0.1).double() ** 2 * 3 * torch.tensor(0.7).double()
        # A term rounds five times, and sixteen of them are added in float32, four sums of which are in a tree.
        assert abs(float(got) / (count * float(term)) - 1) < (5 + 16 + 4 + 1) * torch.finfo(torch.float32).eps / 2


def test_the_initialisation_of_the_authors(backend):
    """focus-spec 1.8: minus the mean over all pixels of m * (-sum d^2 / (2 sigma^2) + 6.683), |d|_2 < 3 sigma."""
    target, rendered, mask = drawn((9, 7), torch.float64, backend.device)
    r2 = (target - rendered).square().sum(1, keepdim=True)
    m = mask * (r2 < 0.016641)
    assert 0 < m.count_nonzero() < mask.numel()
    want = -(m * (-0.5 * r2 / 0.043**2 + 6.683)).mean()
    got = fk.masked_pixel_loss(target, rendered, mask, kind="gaussian_inlier")
    torch.testing.assert_close(got, want, rtol=0, atol=1e-3 * float(m.mean()))


@pytest.mark.parametrize("kind, reduction", list(zip(KINDS, REDUCTIONS[1:], strict=True)))
def test_what_is_cut_is_exactly_zero(backend, kind, reduction):
    """Whatever its numbers are; the rest does not see it."""
    images = drawn((5, 40), torch.float32, backend.device)
    cut = torch.rand(2, 1, 5, 40, generator=generator(7)).to(backend.device) < 0.3
    wild = torch.tensor([torch.nan, torch.inf, -torch.inf, 3e38, 1e30], device=backend.device)
    wild = wild[torch.arange(400, device=backend.device) % 5].view(2, 1, 5, 40)
    spoilt = [images[0], torch.where(cut, wild, images[1]), torch.where(cut, wild.flip(3), images[2])]
    call = partial(fk.masked_pixel_loss, kind=kind, sigma=0.5, threshold=1.0, reduction=reduction)
    spoilt = [image.clone().requires_grad_() for image in spoilt]
    clean = [images[0], torch.where(cut, 9.0, images[1]), torch.where(cut, 0.0, images[2])]
    clean = [image.requires_grad_() for image in clean]
    got, want = call(*spoilt), call(*clean)
    assert got.isfinite().all()
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    grads, want_grads = (torch.autograd.grad(loss.sum(), inputs) for loss, inputs in ((got, spoilt), (want, clean)))
    for grad, other in zip(grads, want_grads, strict=True):
        torch.testing.assert_close(grad, other, rtol=0, atol=0)
        assert grad[cut.expand_as(grad)].eq(0).all() and grad.count_nonzero()


def test_without_a_cut_nothing_is_hidden(backend):
    target, rendered, mask = drawn((4, 9), torch.float32, backend.device)
    rendered[1, 2, 3, 4] = torch.nan
    mask[1, 0, 3, 4] = 0
    for kind in KINDS[:3]:
        assert fk.masked_pixel_loss(target, rendered, mask, kind=kind).isnan()
        assert fk.masked_pixel_loss(target, rendered, mask, kind=kind, threshold=math.inf).isfinite()


def test_a_pixel_at_the_threshold_is_an_outlier(backend):
    zero = torch.zeros(1, 3, 1, 2, device=backend.device)
    rendered = zero.clone()
    rendered[0, 1, 0, 0] = 0.5
    mask = zero[:, :1] + 1
    assert fk.masked_pixel_loss(zero, rendered, mask, threshold=0.25, reduction="sum") == 0
    assert fk.masked_pixel_loss(zero, rendered, mask, threshold=0.2500001, reduction="sum") == 0.25
    assert fk.inlier_mask(zero, rendered, mask, threshold=0.25).flatten().tolist() == [0, 1]


@DTYPES
@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_no_gradient_at_zero(backend, kind, dtype):
    target, rendered, mask = drawn((3, 20), dtype, backend.device)
    tiny = torch.finfo(dtype).tiny  # its square is 0
    rendered[:, :, 0], rendered[:, :, 1] = target[:, :, 0], target[:, :, 1]
    target[:, :, 1], rendered[:, :, 1] = 0, tiny
    leaves = [image.requires_grad_() for image in (target, rendered, mask)]
    loss = fk.masked_pixel_loss(*leaves, kind=kind, reduction="sum")
    to_target, to_rendered, to_mask = torch.autograd.grad(loss, leaves)
    assert all(grad[:, :, 0].eq(0).all() for grad in (to_target, to_rendered, to_mask))
    if kind == "l2":
        assert to_rendered[:, :, 1].eq(0).all()
    else:
        torch.testing.assert_close(to_rendered[:, :, 1], mask[:, :, 1].expand(-1, 3, -1))
    assert to_rendered[:, :, 2].ne(0).all() and to_rendered.isfinite().all()
    torch.testing.assert_close(to_target, -to_rendered, rtol=0, atol=0)


@pytest.mark.parametrize("reduction", ["mask_mean", "batch_mask_mean"])
@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
def test_gradient_through_the_denominator(backend, reduction, weight):
    """None where the sum of the mask is below 1; at 1 it passes, as through torch.clamp."""
    target = torch.zeros(1, 3, 2, 2, device=backend.device)
    rendered = torch.tensor([1.0, 2, 3, 4], device=backend.device).view(1, 1, 2, 2).repeat(1, 3, 1, 1)
    mask = torch.full((1, 1, 2, 2), weight / 4, device=backend.device, requires_grad=True)
    loss = fk.masked_pixel_loss(target, rendered, mask, reduction=reduction)
    cost = 3 * rendered[:, :1] ** 2
    below = max(weight, 1)
    torch.testing.assert_close(loss, cost.sum() * weight / 4 / below)
    want = cost / below - (cost.mean() * weight / below**2 if weight >= 1 else 0)
    torch.testing.assert_close(torch.autograd.grad(loss, mask)[0], want)


def test_images_without_pixels(backend):
    for size in ((0, 5), (5, 0)):
        leaves = [torch.zeros(2, channels, *size, device=backend.device, requires_grad=True) for channels in (3, 3, 1)]
        for reduction in REDUCTIONS:
            loss = fk.masked_pixel_loss(*leaves, reduction=reduction)
            assert loss.shape == ((2, 1, *size) if reduction == "none" else ()) and not loss.abs().sum()
            assert [grad.shape for grad in torch.autograd.grad(loss.sum(), leaves)] == [leaf.shape for leaf in leaves]
        assert fk.inlier_mask(*leaves).shape == (2, 1, *size)


@pytest.mark.parametrize("sigma", [1e-300, 1e-30, 1e30, 1e300])
def test_any_sigma(backend, sigma):
    """Equal images at least cost what they should, or are no inliers where (3 sigma)^2 is no number."""
    image = torch.rand(1, 3, 4, 4, device=backend.device)
    mask = torch.ones(1, 1, 4, 4, device=backend.device)
    loss = fk.masked_pixel_loss(image, image, mask, kind="gaussian_inlier", sigma=sigma, threshold=1.0)
    torch.testing.assert_close(loss.cpu(), torch.tensor(1.5 * math.log(2 * math.pi) + 3 * math.log(sigma)))
    assert fk.masked_pixel_loss(image, image, mask, kind="gaussian_inlier", sigma=sigma).isfinite()
    assert fk.masked_pixel_loss(image, image, mask, threshold=1e300) == 0


def test_only_gradients_that_are_asked_for_exist(kernel, monkeypatch):
    made = []
    backward = op._BACKWARD
    monkeypatch.setattr(op, "_BACKWARD", lambda *args: made.append(backward(*args)) or made[-1])
    images = drawn((4, 5), torch.float32, kernel.device)
    every = [image.clone().requires_grad_() for image in images]
    want = torch.autograd.grad(fk.masked_pixel_loss(*every, kind="l2", reduction="mask_mean"), every)
    for asked in itertools.product((False, True), repeat=3):
        if any(asked):
            leaves = [image.clone().requires_grad_(ask) for image, ask in zip(images, asked, strict=True)]
            fk.masked_pixel_loss(*leaves, kind="l2", reduction="mask_mean").backward()
            assert len(made.pop()) == sum(asked)
            for leaf, grad, ask in zip(leaves, want, asked, strict=True):
                assert (leaf.grad is not None) == ask
                if ask:
                    assert_same_bits(leaf.grad, grad)


def test_nothing_but_the_inputs_and_sums_is_saved(kernel):
    images = [image.requires_grad_() for image in drawn((30, 50), torch.float32, kernel.device, batch=3)]
    for reduction, rows in (("mask_mean", 3), ("batch_mask_mean", 1), ("mean", 0), ("none", 0)):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: saved.append(x) or x, lambda x: x):
            fk.masked_pixel_loss(*images, reduction=reduction)
        *inputs, sums = saved
        assert {x.data_ptr() for x in inputs} <= {image.data_ptr() for image in images}
        assert sums.shape == (rows, 2) and sums.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_inlier_mask(backend, dtype):
    for size in SIZES[:4]:
        target, rendered, mask = drawn(size, dtype, backend.device)
        rendered[0, 0, 0, 0] = torch.nan
        mask[0, 0, 0, 0] = torch.nan
        got = fk.inlier_mask(target, rendered.requires_grad_(), mask.requires_grad_(), threshold=0.02)
        wide = torch.promote_types(dtype, torch.float32)
        r2 = (rendered.detach().to(wide) - target.to(wide)).square().sum(1, keepdim=True)
        assert got.dtype == dtype and not got.requires_grad
        assert_same_bits(got, torch.where(r2 < 0.02, mask.detach(), 0))


def test_inlier_mask_compiles(backend):
    images = drawn((6, 7), torch.float32, backend.device)
    want = fk.inlier_mask(*images)
    assert 0 < want.count_nonzero() < want.numel()
    torch.compiler.reset()
    assert_same_bits(torch.compile(fk.inlier_mask, fullgraph=True, backend="aot_eager")(*images), want)
    with FakeTensorMode() as mode:
        fake = fk.inlier_mask(*map(mode.from_tensor, images))
    assert (fake.shape, fake.dtype, fake.stride()) == (want.shape, want.dtype, want.stride())
    if backend.name != "ref":
        torch.library.opcheck(op._INLIERS, (*images, 0.02))


def test_inlier_mask_under_autocast(backend):
    target, rendered, mask = drawn((6, 7), torch.float32, backend.device)
    with torch.autocast(backend.device, dtype=torch.bfloat16):
        got = fk.inlier_mask(target, rendered, mask.bfloat16())
    assert_same_bits(got, fk.inlier_mask(target, rendered, mask.bfloat16().float()))


# Half precision in memory, through the op: at a distance of 1 the loss is the mask, and the gradient to the mask is the
# gradient of the loss, each as the kernel reads and writes it.


def at_one(mask):
    """Images with squared distance 1 beside `mask`, in its dtype."""
    target = torch.zeros_like(mask).expand(-1, 3, -1, -1)
    rendered = target.clone()
    rendered[:, 1] = 1
    return target, rendered


def patterns(dtype):
    return torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)


def shaped(kernel, layout, values):
    """One image, all of which runs in vectors; or images of one pixel, which do not."""
    if kernel.name == "triton" and kernel.device == "cpu" and layout == "scalars":
        pytest.skip("a hundred thousand programs, interpreted")
    shape = (1, 1, 1, len(values)) if layout == "vectors" else (len(values), 1, 1, 1)
    return values.to(kernel.device).view(shape)


LAYOUTS = pytest.mark.parametrize("layout", ["vectors", "scalars"])


@HALF
@LAYOUTS
def test_every_half_number_is_read_as_torch_reads_it(kernel, dtype, layout):
    values = shaped(kernel, layout, patterns(dtype))
    got = fk.masked_pixel_loss(*at_one(values), values, reduction="none")
    want = values.float()
    assert_same_bits(torch.where(got.isnan(), torch.nan, got), torch.where(want.isnan(), torch.nan, want))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # of NumPy, where Triton is interpreted
@HALF
@LAYOUTS
def test_numbers_are_rounded_to_half_as_torch_rounds_them(kernel, dtype, layout):
    """Every half number, every tie between two of them and its neighbours, overflow, subnormals of float32."""
    halves = patterns(dtype).float()
    halves = halves[halves.isfinite()].sort().values
    ties = (halves[1:] / 2 + halves[:-1] / 2).float()
    up, down = (ties.nextafter(torch.tensor(end)) for end in (torch.inf, -torch.inf))
    limits = torch.finfo(dtype)
    edge = torch.tensor(limits.max, dtype=torch.float64) * (1 + limits.eps / 4)
    special = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, -torch.nan, 1e-45, -1e-45, 1e-40, 3.4028234663852886e38]
    special = torch.tensor([*special, *(float(edge) * k for k in (1, -1, 1 - 1e-7, 1 + 1e-7))])
    values = shaped(kernel, layout, torch.cat([halves, ties, up, down, special]))
    ones = torch.ones_like(values, dtype=dtype).requires_grad_()
    loss = fk.masked_pixel_loss(*at_one(ones.detach()), ones, reduction="none")
    (got,) = torch.autograd.grad(loss, ones, values)
    assert_same_bits(got, values.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [(3, 5), (31, 33), (61, 143)], ids=str)
def test_same_bits_for_every_instruction_set_and_number_of_threads(kernel, dtype, size, instruction_sets, threads):
    if kernel.name != "native":
        pytest.skip("of the CPU kernels")
    leaves = [image.requires_grad_() for image in drawn(size, dtype, batch=3)]
    for kind, reduction in zip(KINDS, ("mask_mean", "none", "batch_mask_mean", "mean"), strict=True):
        first = None
        for name, count in itertools.product(instruction_sets, (1, 2, 3)):
            _C.set_cpu_isa(name)
            threads(count)
            loss = fk.masked_pixel_loss(*leaves, kind=kind, sigma=0.1, reduction=reduction)
            grads = torch.autograd.grad((loss * loss).sum(), leaves)
            result = [loss.detach(), *grads, fk.inlier_mask(*leaves)]
            first = first or result
            for one, other in zip(result, first, strict=True):
                assert_same_bits(one, other, f"{kind} {reduction} {name} {count}")


def test_an_image_has_the_same_bits_in_any_batch(kernel):
    images = drawn((31, 33), torch.float32, kernel.device, batch=3)
    for reduction in ("mean", "mask_mean", "sum"):
        alone = [fk.masked_pixel_loss(*(x[b : b + 1] for x in images), reduction=reduction) for b in range(3)]
        last = [fk.masked_pixel_loss(*(x[[b, b]] for x in images), reduction=reduction) for b in range(3)]
        for one, two in zip(alone, last, strict=True):
            assert_same_bits(two, 2 * one if reduction == "sum" else one)


def _bad(**change):
    zeros = torch.zeros
    return {"target": zeros(2, 3, 4, 5), "rendered": zeros(2, 3, 4, 5), "mask": zeros(2, 1, 4, 5), **change}


IMAGE_ERRORS = [
    ({"target": None}, TypeError, "target to be a torch.Tensor, got NoneType"),
    ({"mask": torch.zeros(2, 1, 4, 5).to_sparse()}, TypeError, "mask to be a dense torch.Tensor, got torch.sparse_coo"),
    ({"target": torch.zeros(2, 3, 4)}, ValueError, r"target to be shape \[\*, 3, \*, \*\], got \[2, 3, 4\]"),
    ({"target": torch.zeros(2, 1, 4, 5)}, ValueError, r"target to be shape \[\*, 3, \*, \*\], got \[2, 1, 4, 5\]"),
    ({"rendered": torch.zeros(2, 3, 5, 4)}, ValueError, r"rendered to be shape \[2, 3, 4, 5\], got \[2, 3, 5, 4\]"),
    ({"mask": torch.zeros(2, 4, 5)}, ValueError, r"mask to be shape \[2, 1, 4, 5\], got \[2, 4, 5\]"),
    ({"mask": torch.zeros(1, 1, 4, 5)}, ValueError, r"mask to be shape \[2, 1, 4, 5\], got \[1, 1, 4, 5\]"),
    ({"mask": torch.zeros(2, 1, 4, 5).bool()}, TypeError, "mask to be float32, float64, float16 or bfloat16, got bool"),
    ({"mask": torch.zeros(2, 1, 4, 5).half()}, TypeError, "mask to be float32 as target, got float16"),
    ({"rendered": torch.zeros(2, 3, 4, 5, device="meta")}, ValueError, "rendered to be on cpu as target, got meta"),
    ({"threshold": 0.0}, ValueError, "threshold to be > 0, got 0.0"),
    ({"threshold": -1}, ValueError, "threshold to be > 0, got -1.0"),
    ({"threshold": math.nan}, ValueError, "threshold to be > 0, got nan"),
    ({"threshold": "0.1"}, TypeError, "threshold to be a number, got str"),
    ({"threshold": True}, TypeError, "threshold to be a number, got bool"),
    ({"threshold": torch.tensor(0.1)}, TypeError, "threshold to be a number, got Tensor"),
]
ERRORS = [
    *IMAGE_ERRORS,
    ({"kind": "huber"}, ValueError, "kind to be one of 'squared', 'l2', 'l1', 'gaussian_inlier', got 'huber'"),
    ({"kind": 2}, TypeError, "kind to be one of 'squared', 'l2', 'l1', 'gaussian_inlier', got int"),
    (
        {"reduction": None},
        ValueError,
        "reduction to be one of 'mean', 'mask_mean', 'batch_mask_mean', 'sum', 'none', got None",
    ),
    ({"sigma": 0}, ValueError, "sigma to be finite and > 0, got 0.0"),
    ({"sigma": math.inf}, ValueError, "sigma to be finite and > 0, got inf"),
    ({"sigma": None}, TypeError, "sigma to be a number, got NoneType"),
]


@pytest.mark.parametrize("change, kind, message", ERRORS)
def test_errors(change, kind, message):
    with pytest.raises(kind, match=r"^masked_pixel_loss\(\): expected " + message + "$"):
        fk.masked_pixel_loss(**_bad(**change))


@pytest.mark.parametrize("change, kind, message", IMAGE_ERRORS)
def test_errors_of_inlier_mask(change, kind, message):
    with pytest.raises(kind, match=r"^inlier_mask\(\): expected " + message + "$"):
        fk.inlier_mask(**_bad(**change))
