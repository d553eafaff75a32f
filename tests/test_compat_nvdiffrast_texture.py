"""`compat.nvdiffrast.texture` against its documented rules, one sample at a time in float64."""

import inspect
import math

import numpy as np
import pytest
import torch
from texture_loops import BOUNDARIES, FILTERS, MIPMAPPED, assert_by_rule, directions, footprints, rand

from focus_kernels.compat.nvdiffrast import texture, texture_construct_mip


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("filter_mode", ["nearest", "linear"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 3), (4, 8)])
@pytest.mark.parametrize("batch", [1, 2])
def test_2d_sample_by_sample(boundary, filter_mode, size, batch):
    assert_by_rule(
        texture,
        rand(batch, *size, 3, seed=1),
        rand(2, 7, 9, 2, seed=2, low=-2.0, high=3.0),
        filter_mode=filter_mode,
        boundary=boundary,
    )


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("filter_mode", MIPMAPPED)
@pytest.mark.parametrize("which", ["uv_da", "bias", "both"])
@pytest.mark.parametrize("size", [(8, 16), (1, 16), (16, 2)])
def test_mip_levels_sample_by_sample(boundary, filter_mode, which, size):
    uv = rand(2, 6, 7, 2, seed=3, low=-0.5, high=1.5)
    uv_da = None if which == "bias" else footprints(2, 6, 7, 4, seed=4)
    bias = None if which == "uv_da" else rand(2, 6, 7, seed=5, low=-2.0, high=6.0)
    tex = rand(2, *size, 2, seed=6)
    assert_by_rule(texture, tex, uv, uv_da, bias, filter_mode, boundary)
    assert_by_rule(texture, tex[:1], uv, uv_da, bias, filter_mode, boundary, highest=2)


def test_footprint_is_the_major_axis_in_texels():
    """A texture whose levels hold their number reads the level back."""
    tex = torch.zeros(1, 16, 16, 1, dtype=torch.float64)
    mip = [torch.full((1, 16 >> i, 16 >> i, 1), float(i), dtype=torch.float64) for i in (1, 2, 3, 4)]
    turn = math.radians(30)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    stretched = rotation @ np.diag([6 / 16, 1 / 16]) @ rotation.T
    cases = {
        (2 / 16, 0, 0, 2 / 16): 1.0,  # a circle of 2 texels
        (0, 0, 4 / 16, 0): 2.0,  # a segment
        tuple(stretched.ravel()): math.log2(6),
        (0, 0, 0, 0): 0.0,
        (0.5 / 16, 0, 0, 0.25 / 16): 0.0,
        (100, 0, 0, 0): 4.0,
        (1e200, 1e200, -1e200, 0): 4.0,
        (1e-310, 0, 0, 0): 0.0,
    }
    uv_da = torch.tensor(list(cases), dtype=torch.float64)[None, None]
    levels = texture(tex, torch.full((1, 1, len(cases), 2), 0.4, dtype=torch.float64), uv_da, mip=mip)
    np.testing.assert_allclose(levels.flatten(), list(cases.values()), rtol=0, atol=1e-14)


def test_auto_is_linear_or_trilinear():
    tex, uv, uv_da, bias = rand(1, 8, 8, 3), rand(1, 5, 6, 2), footprints(1, 5, 6, 4), rand(1, 5, 6, high=3.0)
    for arguments in ((None, None), (uv_da, None), (None, bias), (uv_da, bias)):
        filter_mode = "linear" if arguments == (None, None) else "linear-mipmap-linear"
        out = texture(tex, uv, *arguments)
        assert torch.equal(out, texture(tex, uv, *arguments, filter_mode=filter_mode))
    # without mipmapping the footprint has no effect
    assert torch.equal(texture(tex, uv, uv_da, filter_mode="linear"), texture(tex, uv))


@pytest.mark.parametrize("boundary", ["clamp", "cube"])
def test_mip_list_and_stack(boundary):
    cube = boundary == "cube"
    tex = rand(2, *([6] if cube else []), 8, 8, 2, seed=1)
    uv = directions(2, 4, 5, seed=2) if cube else rand(2, 4, 5, 2, seed=2)
    bias = rand(2, 4, 5, seed=3, high=4.0)
    mip = [rand(2, *([6] if cube else []), size, size, 2, seed=size) for size in (4, 2)]
    assert_by_rule(texture, tex, uv, None, bias, "linear-mipmap-linear", boundary, mip=mip)

    def sampled(tex, **options):
        return texture(tex, uv, None, bias, boundary_mode=boundary, **options)

    assert torch.equal(sampled(tex, mip=mip, max_mip_level=1), sampled(tex, mip=mip[:1]))
    assert torch.equal(sampled(tex, mip=[]), texture(tex, uv, boundary_mode=boundary))
    for made, used in ((None, None), (2, None), (None, 2), (0, 3)):
        stack = texture_construct_mip(tex, made, cube_mode=cube)
        limit = min((x for x in (made, used) if x is not None), default=None)
        assert torch.equal(sampled(tex, mip=stack, max_mip_level=used), sampled(tex, max_mip_level=limit))


def test_gradient_reaches_the_texture_through_a_stack_many_times_and_a_list_keeps_its_own():
    tex, uv, bias = rand(2, 4, 8, 2, seed=1), rand(2, 4, 5, 2, seed=2), rand(2, 4, 5, seed=3, high=3.0)
    weight = rand(2, 4, 5, 2, seed=4)
    stack = texture_construct_mip(tex.clone().requires_grad_())
    with torch.inference_mode():
        inferred = texture_construct_mip(tex.clone())
    grads = []
    for mip in (None, stack, stack, inferred):
        leaf = tex.clone().requires_grad_()
        (texture(leaf, uv, None, bias, mip=mip) * weight).sum().backward()
        grads.append(leaf.grad)
    # the sums over levels are made in another order
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=1e-14)
    assert torch.equal(grads[2], grads[1]) and torch.equal(grads[3], grads[1])
    # the weights of a sample add up to 1
    torch.testing.assert_close(grads[0].sum(), weight.sum())

    levels = [level.requires_grad_() for level in texture_construct_mip(tex).levels]
    leaf = tex.clone().requires_grad_()
    (texture(leaf, uv, None, bias, mip=levels) * weight).sum().backward()
    assert all(level.grad.abs().sum() > 0 for level in levels)
    # what stays with the levels is missing here
    assert (leaf.grad - grads[0]).abs().max() > 1e-3


@pytest.mark.parametrize("boundary", [*BOUNDARIES, "cube"])
@pytest.mark.parametrize("filter_mode", FILTERS)
def test_gradcheck(boundary, filter_mode):
    cube = boundary == "cube"
    tex = rand(1, *([6, 4, 4] if cube else [4, 8]), 2, seed=1).requires_grad_()
    uv = directions(2, 3, 4, seed=11) if cube else rand(2, 3, 4, 2, seed=2, low=-0.6, high=1.6)
    uv_da = (8 if cube else 2) * footprints(2, 3, 4, 6 if cube else 4, seed=3)
    bias = rand(2, 3, 4, seed=4, low=0.0, high=1.0)
    arguments = [tex, uv.requires_grad_(), uv_da.requires_grad_(), bias.requires_grad_()]
    if filter_mode not in MIPMAPPED:
        arguments = arguments[:2]
    stack = texture_construct_mip(tex, cube_mode=cube)

    def sampled(*values, mip=None):
        return texture(*values, mip=mip, filter_mode=filter_mode, boundary_mode=boundary)

    assert torch.autograd.gradcheck(sampled, arguments)
    if filter_mode in MIPMAPPED:
        levels = [level.clone().requires_grad_() for level in stack.levels]
        assert torch.autograd.gradcheck(lambda *m: sampled(*arguments, mip=m), levels)
        # differences cannot see the gradient through a stack, whose values stay
        grads, expected = (
            torch.autograd.grad(sampled(*arguments, mip=m).square().sum(), arguments, materialize_grads=True)
            for m in (stack, None)
        )
        for grad, other in zip(grads, expected, strict=True):
            torch.testing.assert_close(grad, other, rtol=1e-12, atol=1e-12)


def test_gradcheck_at_round_footprints():
    """Where both axes are equal the major axis has a kink; the gradient is the mean of both sides and is finite."""
    tex = rand(1, 16, 16, 1, seed=1)
    uv_da = torch.tensor([3 / 16, 0, 0, 3 / 16], dtype=torch.float64).view(1, 1, 1, 4).requires_grad_()
    texture(tex, torch.full((1, 1, 1, 2), 0.3, dtype=torch.float64), uv_da).sum().backward()
    grad = uv_da.grad.flatten()
    assert grad.isfinite().all() and grad[0] == grad[3] != 0 and grad[1] == grad[2] == 0


def test_gradients_are_zero_where_levels_or_coordinates_are_limited():
    tex = rand(1, 8, 8, 1, seed=1)
    uv = torch.full((1, 1, 2, 2), 0.3, dtype=torch.float64)
    bias = torch.tensor([[[-1.5, 7.5]]], dtype=torch.float64, requires_grad=True)
    texture(tex, uv, None, bias).sum().backward()
    assert (bias.grad == 0).all()
    uv = torch.tensor([[[[-0.2, 0.3], [0.3, 1.2]]]], dtype=torch.float64, requires_grad=True)
    texture(tex, uv, boundary_mode="clamp").sum().backward()
    assert uv.grad[0, 0, 0, 0] == 0 != uv.grad[0, 0, 0, 1]
    assert uv.grad[0, 0, 1, 1] == 0 != uv.grad[0, 0, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("boundary", [*BOUNDARIES, "cube"])
@pytest.mark.parametrize("filter_mode", FILTERS)
def test_what_is_not_finite_gives_zero_and_no_gradient(dtype, boundary, filter_mode):
    cube = boundary == "cube"
    tex = rand(1, *([6, 4, 4] if cube else [4, 4]), 2, seed=1, low=0.5).to(dtype).requires_grad_()
    uv = (directions(1, 4, 8, seed=2) if cube else rand(1, 4, 8, 2, seed=2)).to(dtype)
    uv_da = footprints(1, 4, 8, 6 if cube else 4, seed=3).to(dtype)
    bias = torch.zeros(1, 4, 8, dtype=dtype)
    bad = torch.zeros(1, 4, 8, dtype=torch.bool)
    for column, value in enumerate((math.nan, math.inf, -math.inf)):
        uv[0, 0, column, -1] = value
        uv_da[0, 1, column, 1] = value
        bias[0, 2, column] = value
    bad[0, 0, :3] = True
    bad[0, 1:3, :3] = filter_mode in MIPMAPPED
    if cube:
        uv[0, 3, :2] = 0
        uv[0, 3, 1, 0] = 1e-160 if dtype == torch.float64 else 1e-20
        bad[0, 3, :2] = True
    for leaf in (uv, uv_da, bias):
        leaf.requires_grad_()
    out = texture(tex, uv, uv_da, bias, filter_mode=filter_mode, boundary_mode=boundary)
    assert (out[bad] == 0).all()
    assert boundary == "zero" or (out[~bad] > 0.4).all()
    out.square().sum().backward()
    assert tex.grad.isfinite().all() and tex.grad.abs().sum() > 0
    for leaf in (uv, uv_da, bias):
        if leaf.grad is not None:
            assert (leaf.grad[bad] == 0).all() and leaf.grad.isfinite().all()


@pytest.mark.parametrize("boundary", [*BOUNDARIES, "cube"])
def test_extreme_values_stay_finite(boundary):
    cube = boundary == "cube"
    powers = [s * 10.0**e for e in (-45, -38, -30, -19, -10, 0, 10, 19, 30, 38) for s in (1, -1)]
    values = torch.tensor(powers, dtype=torch.float32)
    pick = torch.Generator().manual_seed(0)
    uv, uv_da = (values[torch.randint(20, (1, 40, 40, n), generator=pick)] for n in ((3, 6) if cube else (2, 4)))
    tex = rand(1, *([6] if cube else []), 4, 4, 1).float()
    for leaf in (tex, uv, uv_da):
        leaf.requires_grad_()
    out = texture(tex, uv, uv_da, boundary_mode=boundary)
    assert out.isfinite().all() and (out >= 0).all() and (out <= 1.000001).all()
    out.sum().backward()
    assert not any(leaf.grad.isnan().any() for leaf in (tex, uv, uv_da))


def test_float32_is_close_to_float64():
    for boundary, width in (("wrap", 2), ("cube", 3)):
        tex = rand(2, *([6] if width == 3 else []), 16, 16, 3)
        uv = directions(2, 16, 16, seed=1) if width == 3 else rand(2, 16, 16, 2, low=-1.0, high=2.0)
        uv_da = footprints(2, 16, 16, 2 * width)
        exact = texture(tex, uv, uv_da, boundary_mode=boundary)
        out = texture(tex.float(), uv.float(), uv_da.float(), boundary_mode=boundary)
        assert out.dtype == torch.float32
        # positions of up to 16 texels (48 before wrapping) are off by up to 48 * 6e-8, at slopes of up to 1 per texel
        assert (out - exact).abs().max() < 2e-5


def run_once(device="cpu"):
    tex = rand(1, 6, 8, 8, 3, seed=1).float().to(device).requires_grad_()
    uv = directions(2, 64, 64, seed=2).float().to(device).requires_grad_()
    uv_da = footprints(2, 64, 64, 6, seed=3).float().to(device).requires_grad_()
    out = texture(tex, uv, uv_da, boundary_mode="cube")
    out.square().sum().backward()
    flat = rand(1, 8, 8, 3, seed=1).float().to(device).requires_grad_()
    texture(flat, uv[..., :2].detach(), uv_da[..., :4].detach()).square().sum().backward()
    return [out.detach(), tex.grad, uv.grad, uv_da.grad, flat.grad]


def test_same_bits_for_any_number_of_threads():
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5, 2):
            torch.set_num_threads(count)
            results.append(run_once())
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees_with_the_cpu_and_repeats_itself():
    first, second, reference = run_once("cuda"), run_once("cuda"), run_once()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for value, expected in zip(first, reference, strict=True):
        relative = (value.cpu() - expected).norm() / expected.norm()
        assert relative < 1e-4  # float32; a few of 8192 footprints are stretched a thousandfold


def test_layouts_empty_images_and_inference_mode():
    tex, uv = rand(2, 4, 8, 3), rand(2, 5, 6, 2)
    expected = texture(tex, uv)
    assert expected.is_contiguous()
    apart = tex.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(texture(apart, uv.transpose(1, 2).contiguous().transpose(1, 2)), expected)
    with torch.inference_mode():
        assert torch.equal(texture(tex, uv), expected)
    for shape in ((0, 5, 6), (2, 0, 6), (2, 5, 0)):
        for boundary, width, shown in (("wrap", 2, tex[:1]), ("cube", 3, rand(1, 6, 4, 4, 3))):
            empty = torch.zeros(*shape, width, dtype=torch.float64, requires_grad=True)
            out = texture(shown, empty, torch.zeros(*shape, 2 * width, dtype=torch.float64), boundary_mode=boundary)
            assert out.shape == (*shape, 3)
            out.sum().backward()
    assert texture(tex[..., :0], uv, None, uv[..., 0]).shape == (2, 5, 6, 0)


def test_a_second_derivative_is_refused():
    tex = rand(1, 4, 4, 1).requires_grad_()
    (grad,) = torch.autograd.grad(texture(tex, rand(1, 2, 2, 2)).square().sum(), tex, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_signatures():
    def given(function):
        parameters = inspect.signature(function).parameters.values()
        return [p.name if p.default is p.empty else (p.name, p.default) for p in parameters]

    assert given(texture) == [
        "tex",
        "uv",
        ("uv_da", None),
        ("mip_level_bias", None),
        ("mip", None),
        ("filter_mode", "auto"),
        ("boundary_mode", "wrap"),
        ("max_mip_level", None),
    ]
    assert given(texture_construct_mip) == ["tex", ("max_mip_level", None), ("cube_mode", False)]


TEX, UV, DA, CUBE = (torch.zeros(s) for s in ((2, 6, 4, 3), (2, 5, 5, 2), (2, 5, 5, 4), (1, 6, 4, 4, 3)))


@pytest.mark.parametrize(
    "kind, words, arguments, options",
    [
        (TypeError, "tex .*Tensor.*list", ([1.0], UV), {}),
        (TypeError, "tex .*float32.*int64", (TEX.long(), UV), {}),
        (TypeError, "uv .*float32.*float64", (TEX, UV.double()), {}),
        (TypeError, "uv_da .*float32.*float64", (TEX, UV, DA.double()), {}),
        (TypeError, "mip_level_bias .*float32.*int64", (TEX, UV, None, UV[..., 0].long()), {}),
        (TypeError, "mip .*list of tensors.*int", (TEX, UV, DA), {"mip": 3}),
        (TypeError, r"mip\[1\] .*Tensor.*NoneType", (TEX, UV, DA), {"mip": [TEX[:, ::2, ::2], None]}),
        (TypeError, "filter_mode .*nearest.*int", (TEX, UV), {"filter_mode": 1}),
        (TypeError, "max_mip_level .*int.*float", (TEX, UV), {"max_mip_level": 1.0}),
        (ValueError, "filter_mode .*nearest.*'cubic'", (TEX, UV), {"filter_mode": "cubic"}),
        (ValueError, "boundary_mode .*wrap.*'repeat'", (TEX, UV), {"boundary_mode": "repeat"}),
        (ValueError, "max_mip_level .*at least 0.*-1", (TEX, UV), {"max_mip_level": -1}),
        (ValueError, r"tex .*shape \[\*, \*, \*, \*\]", (CUBE, UV), {}),
        (ValueError, r"tex .*shape \[\*, 6, \*, \*, \*\]", (TEX, UV), {"boundary_mode": "cube"}),
        (ValueError, "tex .*square.*4 x 2", (CUBE[..., :2, :], DA[..., :3]), {"boundary_mode": "cube"}),
        (ValueError, "tex .*one texel.*0 x 4", (TEX[:, :0], UV), {}),
        (ValueError, "tex .*batch size 1 or 1.*2", (TEX, UV[:1]), {}),
        (ValueError, r"uv .*\[\*, \*, \*, 2\].*3\]", (TEX, DA[..., :3]), {}),
        (ValueError, r"uv .*\[\*, \*, \*, 3\]", (CUBE, UV), {"boundary_mode": "cube"}),
        (ValueError, r"uv_da .*\[2, 5, 5, 4\].*\[2, 5, 5, 2\]", (TEX, UV, UV), {}),
        (ValueError, r"mip_level_bias .*\[2, 5, 5\]", (TEX, UV, None, UV), {}),
        (ValueError, "uv_da or mip_level_bias .*linear-mipmap-linear", (TEX, UV), {"filter_mode": FILTERS[3]}),
        (ValueError, "tex at level 1 .*max_mip_level=1.*3 x 2", (TEX, UV, DA), {}),
        (ValueError, "tex at level 1 .*3 x 2", (TEX, UV, DA), {"mip": [TEX[:, ::2, ::2], TEX[:, :1, :1]]}),
        (ValueError, r"mip\[0\] .*\[\*, 3, 2, 3\]", (TEX, UV, DA), {"mip": [TEX]}),
        (ValueError, r"mip\[0\] .*batch size 2.*1", (TEX, UV, DA), {"mip": [TEX[:1, ::2, ::2]]}),
        (ValueError, "mip .*0 levels.*1 levels", (TEX[:, :1, :1], UV, DA), {"mip": [TEX[:, :1, :1]]}),
        (ValueError, "mip .*made of", (TEX, UV, DA), {"mip": texture_construct_mip(TEX[:1], 1)}),
        (TypeError, "mip .*float32.*float64", (TEX, UV, DA), {"mip": texture_construct_mip(TEX.double(), 1)}),
    ],
)
def test_errors_name_the_argument(kind, words, arguments, options):
    with pytest.raises(kind, match=rf"texture\(\): expected {words}"):
        texture(*arguments, **options)


def test_errors_of_construct_mip():
    with pytest.raises(ValueError, match=r"texture_construct_mip\(\): expected tex at level 1 .*3 x 2"):
        texture_construct_mip(TEX)
    with pytest.raises(ValueError, match=r"texture_construct_mip\(\): expected tex .*6"):
        texture_construct_mip(TEX, cube_mode=True)
    with pytest.raises(TypeError, match=r"texture_construct_mip\(\): expected cube_mode .*bool"):
        texture_construct_mip(TEX, 1, cube_mode=1)
    assert len(texture_construct_mip(TEX, 1).levels) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="nvdiffrast needs CUDA")
@pytest.mark.parametrize("boundary", [*BOUNDARIES, "cube"])
@pytest.mark.parametrize("filter_mode", FILTERS)
def test_cuda_against_nvdiffrast(boundary, filter_mode):
    dr = pytest.importorskip("nvdiffrast.torch", reason="nvdiffrast is not installed")
    if (dr.__spec__.origin or "").startswith("focus_kernels"):
        pytest.skip("nvdiffrast is the drop-in itself")
    cube = boundary == "cube"
    tex = rand(2, *([6] if cube else []), 16, 16, 3, seed=1).float().cuda()
    uv = directions(2, 32, 32, seed=2) if cube else rand(2, 32, 32, 2, seed=2, low=-1.0, high=2.0)
    uv_da = footprints(2, 32, 32, 6 if cube else 4, seed=3)
    arguments = [uv.float().cuda()] + ([uv_da.float().cuda()] if filter_mode in MIPMAPPED else [])
    results = []
    for function in (texture, dr.texture):
        leaves = [value.clone().requires_grad_() for value in (tex, *arguments)]
        out = function(*leaves, filter_mode=filter_mode, boundary_mode=boundary)
        out.square().sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        if ours is not None and theirs is not None and theirs.norm() > 0:
            # float32; where a rounding falls on the other side of a texel or level single samples differ
            different = (ours - theirs).abs() > 1e-3 * theirs.abs().max()
            assert different.float().mean() < 2e-3
