"""The FOCUS authors' `encoder` and `camera_matrix` in `compat.focus`: their answers, their formulas in float64."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_compat_focus import GOLDEN, scene
from test_compat_focus_functions import random

from focus_kernels.compat import focus
from focus_kernels.compat.focus.camera_matrix import calc_extrinxic_camera_matrix, euler_rotation
from focus_kernels.compat.focus.encoder import convert_params, convert_params_noexp

T_INI = torch.tensor([0.0, 0.0, 1000.0], dtype=torch.float64)
SH_INI = torch.zeros(3, 9, dtype=torch.float64)
SH_INI[:, 0] = 0.7 * 2 * math.pi
SH_INI = SH_INI.reshape(-1)


def rotation(a, b, c):
    rx = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    ry = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    rz = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    return rx @ ry @ rz


def model(seed=0, vertices=5, counts=(4, 3, 2), flat=False, dtype=torch.float64):
    obj = SimpleNamespace()
    for index, (part, count) in enumerate(zip(("shape", "exp", "color"), counts, strict=True)):
        mean = random(seed + index, 3, vertices, dtype=dtype)
        setattr(obj, f"{part}_mean", mean.flatten() if flat else mean)
        setattr(obj, f"{part}_basis", random(seed + 10 + index, count, 3, vertices, dtype=dtype))
        setattr(obj, f"{part}_dim", count)
    return obj


def parameters(seed=0, batch=2, counts=(4, 3, 2), dtype=torch.float64):
    return [random(seed + 20 + index, batch, count, dtype=dtype) for index, count in enumerate((*counts, 6, 27))]


def test_euler_rotation():
    angles = random(0, 4, 5)  # columns from the fourth on are not read
    expected = np.stack([rotation(*row[:3]) for row in angles.tolist()])
    np.testing.assert_allclose(euler_rotation(angles), expected, atol=1e-14)
    assert torch.equal(euler_rotation(torch.zeros(1, 3)), torch.eye(3)[None])


def test_camera():
    param = random(1, 3, 6)
    R, T = calc_extrinxic_camera_matrix(param, T_INI, False)
    for b in range(3):
        expected = np.diag([1, -1, -1]) @ rotation(*param[b, :3].tolist())
        np.testing.assert_allclose(R[b], expected, atol=1e-14)
        np.testing.assert_allclose(T[b, :, 0], param[b, 3:] + T_INI, rtol=1e-14)
    # the default is the way back
    back_R, back_T = calc_extrinxic_camera_matrix(param, T_INI)
    points = random(2, 3, 3, 8)
    torch.testing.assert_close(back_R @ (R @ points + T) + back_T, points, rtol=0, atol=1e-11)
    each = calc_extrinxic_camera_matrix(param, T_INI.expand(3, 3), False)[1]
    assert torch.equal(each, T)


@pytest.mark.parametrize("flat", [False, True])
def test_convert_params(flat):
    obj, params = model(flat=flat), parameters()
    vertex, color, R, T, sh_coef = convert_params(*params, obj, T_INI, SH_INI, False)
    neutral = convert_params_noexp(*params, obj, T_INI, SH_INI, False)
    for b in range(2):

        def blended(part, index, b=b):
            basis = getattr(obj, f"{part}_basis").numpy()
            mean = getattr(obj, f"{part}_mean").numpy().reshape(3, 5)
            return mean + sum(params[index][b, k].item() * basis[k] for k in range(len(basis)))

        np.testing.assert_allclose(vertex[b], blended("shape", 0) + blended("exp", 1), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(neutral[0][b], blended("shape", 0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(color[b], blended("color", 2), rtol=1e-12, atol=1e-12)
    camera = calc_extrinxic_camera_matrix(params[3], T_INI, False)
    assert torch.equal(R, camera[0]) and torch.equal(T, camera[1])
    assert torch.equal(sh_coef, params[4] + SH_INI)
    assert all(torch.equal(a, b) for a, b in zip(neutral[1:], (color, R, T, sh_coef), strict=True))
    back = convert_params(*params, obj, T_INI, SH_INI)
    assert torch.equal(back[2], R.transpose(1, 2))


def test_noexp_reads_nothing_of_the_expression():
    obj, params = model(), parameters()
    expected = convert_params_noexp(*params, obj, T_INI, SH_INI, False)
    params[1] = None
    for name in ("exp_mean", "exp_basis", "exp_dim"):
        delattr(obj, name)
    for ours, theirs in zip(convert_params_noexp(*params, obj, T_INI, SH_INI, False), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_converted_faces_render():
    inputs = scene(batch=2)
    count = inputs["vertex"].shape[2]
    obj = model(vertices=count)
    obj.shape_mean, obj.exp_mean = inputs["vertex"][0], torch.zeros(3, count, dtype=torch.float64)
    params = [0.1 * value for value in parameters()]
    leaves = [value.requires_grad_() for value in params]
    vertex, color, R, T, sh_coef = convert_params(*leaves, obj, T_INI, SH_INI, False)
    image, mask = focus.Renderer()(
        inputs["face"], vertex, color, sh_coef, inputs["A"], R, T, inputs["image"], focus.RASTERIZE_DIFFERENTIABLE_IMAGE
    )[4:]
    assert mask.flatten(1).sum(1).min() > 60
    for grad in torch.autograd.grad(image.square().sum(), leaves):
        assert grad.isfinite().all() and grad.any()


def test_errors_of_convert_params():
    def fails(kind, message, obj=None, **changes):
        names = ("shape_param", "exp_param", "color_param", "camera_param", "sh_param")
        arguments = dict(zip(names, parameters(), strict=True)) | {"T_ini": T_INI, "sh_ini": SH_INI}
        with pytest.raises(kind, match=message):
            convert_params(**{**arguments, **changes}, obj=obj or model())

    fails(ValueError, r"convert_params\(\): expected exp_param to be shape \[2, 3\]", exp_param=random(0, 2, 4))
    fails(ValueError, r"color_param to be shape \[2, 2\], got \[1, 2\]", color_param=random(0, 1, 2))
    fails(ValueError, r"sh_param to be shape \[2, 27\]", sh_param=random(0, 2, 9))
    fails(ValueError, r"sh_ini to be shape \[27\]", sh_ini=SH_INI.view(3, 9))
    fails(TypeError, "camera_param to be float64 as shape_param", camera_param=random(0, 2, 6).float())
    fails(TypeError, "obj to be a face model with shape_mean", obj=SimpleNamespace(shape_dim=4))
    fails(TypeError, "obj.shape_mean to be float64 as shape_param", obj=model(dtype=torch.float32))
    for name, value, message in (
        ("exp_mean", torch.zeros(3, 4, dtype=torch.float64), "obj.exp_basis to be 3 x 12 numbers"),
        ("color_mean", torch.zeros(7, dtype=torch.float64), "obj.color_mean to be 3 N numbers, got 7"),
        ("shape_dim", 5, r"shape_param to be shape \[2, 5\]"),
    ):
        obj = model()
        setattr(obj, name, value)
        fails(ValueError, message, obj=obj)
    obj = model()
    obj.exp_mean, obj.exp_basis = obj.exp_mean[:, :4], obj.exp_basis[:, :, :4]
    fails(ValueError, "obj.exp_mean to be 15 numbers as obj.shape_mean, got 12", obj=obj)


@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(batch):
    vertex, color, R, T, sh_coef = convert_params(*parameters(batch=batch), model(), T_INI, SH_INI)
    assert vertex.shape == color.shape == (batch, 3, 5) and R.shape == (batch, 3, 3) and T.shape == (batch, 3, 1)
    assert sh_coef.shape == (batch, 27)


def test_gradcheck():
    check = lambda function, *inputs: torch.autograd.gradcheck(
        function, [value.clone().requires_grad_() for value in inputs], eps=1e-6, atol=1e-5
    )
    for camera2world in (False, True):
        assert check(lambda p, t, way=camera2world: calc_extrinxic_camera_matrix(p, t, way), random(6, 2, 6), T_INI)
    obj = model(vertices=2)

    def convert(*values):
        for name, value in zip(("shape_mean", "shape_basis", "exp_basis", "color_basis"), values[5:9], strict=True):
            setattr(obj, name, value)
        return convert_params(*values[:5], obj, *values[9:], False)

    bases = [obj.shape_mean, obj.shape_basis, obj.exp_basis, obj.color_basis]
    assert check(convert, *parameters(batch=2), *bases, T_INI, SH_INI)


def test_autocast_does_not_reach_the_geometry():
    params, obj = parameters(dtype=torch.float32), model(dtype=torch.float32)
    run = lambda: [
        *calc_extrinxic_camera_matrix(params[3], T_INI.float()),
        *convert_params(*params, obj, T_INI.float(), SH_INI.float()),
    ]
    expected = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(run(), expected, strict=True))


def test_errors_of_the_camera():
    def fails(kind, message, function, *args):
        with pytest.raises(kind, match=message):
            function(*args)

    fails(ValueError, r"rot_param to be shape \[\*, 3\]", euler_rotation, T_INI)
    fails(
        TypeError, "rot_param to be float32 or float64, got int64", euler_rotation, torch.zeros(2, 3, dtype=torch.int64)
    )
    fails(ValueError, r"param to be shape \[\*, 6\]", calc_extrinxic_camera_matrix, random(0, 2, 5), T_INI)
    fails(ValueError, r"T_ini to be shape \[3\]", calc_extrinxic_camera_matrix, random(0, 2, 6), T_INI[:2])
    fails(TypeError, "T_ini to be float64 as param", calc_extrinxic_camera_matrix, random(0, 2, 6), T_INI.float())
    fails(TypeError, "camera2world to be a bool, got str", calc_extrinxic_camera_matrix, random(0, 2, 6), T_INI, "no")


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden")
def test_golden_camera(device):
    data = {name: torch.from_numpy(value).to(device) for name, value in np.load(GOLDEN).items()}
    R, T = calc_extrinxic_camera_matrix(data["euler_translation"], T_INI.to(device, torch.float32), False)
    # upstream's zeros are cosines of a rounded pi / 2, 4.4e-8 off, and its two products round
    assert (R - data["R"]).abs().max() <= 5e-7
    assert torch.equal(T, data["T"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_the_cpus_answers():
    obj, params = model(), parameters()

    def answers(place):
        leaves = [value.to(place).requires_grad_() for value in params]
        there = SimpleNamespace(**{k: v.to(place) if isinstance(v, torch.Tensor) else v for k, v in vars(obj).items()})
        values = convert_params(*leaves, there, T_INI.to(place), SH_INI.to(place), False)
        grads = torch.autograd.grad(sum(value.sin().sum() for value in values), leaves)
        return [value.cpu() for value in (*values, *grads)]

    for ours, theirs in zip(answers("cuda"), answers("cpu"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)  # float64, other orders of summation
