"""`compat.nvdiffrast.interpolate` against its rule written out pixel by pixel in float64.

Where nvdiffrast itself is installed and there is a GPU, the tests that take `dr` hold it to the same rule.
"""

from importlib import import_module

import numpy as np
import pytest
import torch
from nvdiffrast_impl import IMPLEMENTATIONS, implementation

import focus_kernels.compat.nvdiffrast as ours
from focus_kernels import _backends


@pytest.fixture(params=IMPLEMENTATIONS)
def dr(request):
    return implementation(request.param)


def hand_made(seed, height=4, width=5, faces=6, vertices=7, batch=2):
    """A rast and rast_db that no mesh gives, so that nothing but the rule is tested."""
    rng = np.random.default_rng(seed)
    number = rng.integers(-1, faces, (batch, height, width))
    seen = (number >= 0)[..., None]
    rast = np.concatenate([rng.uniform(0, 0.5, (*number.shape, 3)), number[..., None] + 1.0], -1)
    rast[..., :3] *= seen
    tri = np.array([rng.permutation(vertices)[:3] for _ in range(faces)])
    return rast, rng.normal(size=(*number.shape, 4)) * seen, tri


def interpolated(attr, rast, tri, rast_db, channels):
    out = np.zeros((*rast.shape[:3], attr.shape[2]))
    out_da = np.zeros((*rast.shape[:3], 2 * len(channels)))
    for b, row, column in np.ndindex(rast.shape[:3]):
        u, v, _, number = rast[b, row, column]
        if number == 0:
            continue
        a0, a1, a2 = attr[b % len(attr)][tri[int(number) - 1]]
        out[b, row, column] = u * a0 + v * a1 + (1 - u - v) * a2
        ux, uy, vx, vy = rast_db[b, row, column]
        for k, channel in enumerate(channels):
            d0, d1 = a0[channel] - a2[channel], a1[channel] - a2[channel]
            out_da[b, row, column, 2 * k : 2 * k + 2] = ux * d0 + vx * d1, uy * d0 + vy * d1
    return out, out_da


@pytest.mark.parametrize("rank", ["instanced", "broadcast", "range"])
@pytest.mark.parametrize("diff_attrs", ["all", [2, 0], [1], []])
def test_interpolate_pixel_by_pixel(dr, rank, diff_attrs):
    if dr.name == "nvdiffrast-cuda" and diff_attrs == []:
        pytest.skip("not documented upstream")
    rast, rast_db, tri = hand_made(1)
    attr = np.random.default_rng(2).normal(size=({"instanced": 2}.get(rank, 1), 7, 3))
    given = dr.floats(attr[0] if rank == "range" else attr)
    out, out_da = dr.interpolate(given, dr.floats(rast), dr.ints(tri), dr.floats(rast_db), diff_attrs)
    channels = [0, 1, 2] if diff_attrs == "all" else diff_attrs
    want, want_da = interpolated(attr, rast, tri, rast_db, channels)
    assert out.is_contiguous() and out.dtype == dr.dtype and out_da.shape == (2, 4, 5, 2 * len(channels))
    # three products of numbers of the order of 1
    tolerance = {torch.float64: 1e-14, torch.float32: 4e-6}[dr.dtype]
    np.testing.assert_allclose(out.cpu().numpy(), want, atol=tolerance, rtol=0)
    np.testing.assert_allclose(out_da.cpu().numpy(), want_da, atol=tolerance, rtol=0)
    assert not out[dr.floats(rast)[..., 3] == 0].any()


def test_interpolate_without_derivatives(dr):
    rast, rast_db, tri = hand_made(3)
    attr = dr.floats(np.ones((2, 7, 4)))
    for rest in ((), (dr.floats(rast_db),)):
        out, out_da = dr.interpolate(attr, dr.floats(rast), dr.ints(tri), *rest)
        assert out.shape == (2, 4, 5, 4) and out_da.shape == (2, 4, 5, 0)


@pytest.mark.parametrize("rank", ["instanced", "broadcast", "range"])
def test_gradients_of_interpolate(rank):
    rast, rast_db, tri = (torch.from_numpy(values) for values in hand_made(4))
    generator = torch.Generator().manual_seed(5)
    attr = torch.rand({"instanced": 2}.get(rank, 1), 7, 3, dtype=torch.float64, generator=generator)
    attr = (attr[0] if rank == "range" else attr).clone().requires_grad_()
    channel, weights = rast[..., 3:], rast[..., :2].clone().requires_grad_()
    rast_db = rast_db.requires_grad_()

    def run(attr, weights, rast_db):
        whole = torch.cat([weights, torch.zeros_like(channel), channel], -1)
        return ours.interpolate(attr, whole, tri, rast_db, [2, 0])

    assert torch.autograd.gradcheck(run, (attr, weights, rast_db))
    grads = torch.autograd.grad(sum(v.sum() for v in run(attr, weights, rast_db)), (weights, rast_db))
    background = channel[..., 0] == 0
    assert background.any() and not any(grad[background].any() for grad in grads)


def test_gradients_do_not_depend_on_threads(threads, monkeypatch):
    reasons = import_module("focus_kernels._extension").why_not(torch.zeros(1))
    if reasons:
        pytest.skip("; ".join(reasons))
    monkeypatch.setattr(_backends, "FORCED", "native")  # the reference adds as torch does
    generator = torch.Generator().manual_seed(6)
    rast = torch.rand(2, 160, 160, 4, generator=generator)
    rast[..., 3] = torch.randint(0, 41, (2, 160, 160), generator=generator)
    tri = torch.randint(0, 30, (40, 3), generator=generator)
    attr, grads = torch.rand(1, 30, 4, generator=generator).requires_grad_(), []
    for count in (1, 4, 4):
        threads(count)
        out, out_da = ours.interpolate(attr, rast, tri, rast, "all")
        grads.append(torch.autograd.grad(out.square().sum() + out_da.sum(), attr)[0])
    assert torch.equal(grads[0], grads[1]) and torch.equal(grads[1], grads[2])


def test_odd_face_numbers_are_background():
    attr = torch.ones(3, 2)
    for dtype in (torch.float32, torch.float64):
        rast = torch.zeros(1, 1, 8, 4, dtype=dtype)
        rast[0, 0, :, 3] = torch.tensor([torch.nan, torch.inf, -torch.inf, -3, 0.5, 2, 1e30, 1])
        out, _ = ours.interpolate(attr.to(dtype), rast, torch.tensor([[0, 1, 2]]))
        assert out[0, 0, :, 0].tolist() == [0, 0, 0, 0, 0, 0, 0, 1]


def test_interpolate_errors():
    attr, rast, tri = torch.zeros(2, 3, 1), torch.zeros(2, 4, 4, 4), torch.tensor([[0, 1, 2]])

    def fails(kind, message, **changed):
        with pytest.raises(kind, match=rf"interpolate\(\): expected {message}"):
            ours.interpolate(**{"attr": attr, "rast": rast, "tri": tri, **changed})

    fails(TypeError, "attr to be a torch.Tensor, got ndarray", attr=attr.numpy())
    fails(TypeError, "rast to be float32 as attr, got float64", rast=rast.double())
    fails(ValueError, r"rast to be shape \[\*, \*, \*, 4\]", rast=rast[..., :3])
    fails(ValueError, r"attr to be shape \[\*, \*, \*\]", attr=attr[None])
    fails(ValueError, "attr to be of batch 1 or 2 as rast, got 3", attr=torch.zeros(3, 3, 1))
    fails(ValueError, r"tri to be in \[0, 3\), got 3", tri=tri + 1)
    fails(TypeError, "rast_db to be float32 as attr", rast_db=rast.double(), diff_attrs="all")
    fails(ValueError, r"rast_db to be shape \[2, 4, 4, 4\]", rast_db=rast[..., :0], diff_attrs="all")
    fails(ValueError, "diff_attrs to be 'all' or channel numbers, got 'some'", rast_db=rast, diff_attrs="some")
    fails(ValueError, r"diff_attrs to be in \[0, 1\), got 1", rast_db=rast, diff_attrs=[1])
    fails(TypeError, "diff_attrs to be 'all' or channel numbers, got 3", rast_db=rast, diff_attrs=3)
    fails(TypeError, r"diff_attrs to be 'all' or channel numbers, got \[0.5\]", rast_db=rast, diff_attrs=[0.5])
