"""shade_sh against the spherical harmonics of scipy, the angles of FOCUS, and its arguments."""

import math

import pytest
import torch
from meshes import generator
from tolerances import assert_same_bits

import focus_kernels as fk

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def harmonics(theta, phi):
    """Real spherical harmonics [N, 9] of bands 0 to 2, from Legendre functions with the Condon-Shortley sign."""
    lpmv = pytest.importorskip("scipy.special").lpmv
    rows = []
    for l in range(3):
        for m in range(-l, l + 1):
            n = abs(m)
            scale = math.sqrt((2 * l + 1) / (4 * math.pi) * math.factorial(l - n) / math.factorial(l + n))
            legendre = torch.as_tensor(lpmv(n, l, theta.cos().numpy()))
            turn = 1 if m == 0 else math.sqrt(2) * ((n * phi).sin() if m < 0 else (n * phi).cos())
            rows.append(scale * legendre * turn)
    return torch.stack(rows, -1)


def directions(N, seed=0):
    g = generator(seed)
    theta = math.pi * torch.rand(N, generator=g, dtype=torch.float64)
    phi = 2 * math.pi * torch.rand(N, generator=g, dtype=torch.float64)
    normals = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], -1)
    return theta, phi, normals


def lights(B, seed=1):
    return torch.randn(B, 3, 9, generator=generator(seed), dtype=torch.float64)


@DTYPES
@pytest.mark.parametrize("convention", ["unit", "focus"])
def test_spherical_harmonics_of_scipy(backend, dtype, convention):
    theta, phi, normals = directions(200)
    sh = lights(2)
    albedo = torch.rand(2, 200, 3, generator=generator(2), dtype=torch.float64)
    want = albedo * torch.einsum("bck,vk->bvc", sh, harmonics(theta, phi))
    given = [x.to(backend.device, dtype) for x in (normals.expand(2, -1, -1), albedo, sh)]
    got = fk.shade_sh(*given, convention=convention)
    # Sums of 9 products of values below 3, of normals that are themselves rounded: "focus" divides by sin(theta).
    scale = torch.finfo(dtype).eps * (1 if convention == "unit" else 1 / theta.sin().min())
    torch.testing.assert_close(got.double().cpu(), want, rtol=0, atol=32 * float(scale))


@DTYPES
def test_short_normals_by_the_angles_of_focus(backend, dtype):
    """theta = acos(nz), phi = atan2(ny, nx), whatever the length of the normal."""
    theta, phi, normals = directions(100, 3)
    short = normals * (0.5 + 0.5 * torch.rand(100, 1, generator=generator(4), dtype=torch.float64))
    want = torch.einsum("bck,vk->bvc", lights(1), harmonics(short[:, 2].acos(), phi))
    ones = torch.ones(1, 100, 3, dtype=torch.float64)
    got = fk.shade_sh(*(x.to(backend.device, dtype) for x in (short[None], ones, lights(1))), convention="focus")
    worst = torch.finfo(dtype).eps / float(theta.sin().min())
    torch.testing.assert_close(got.double().cpu(), want, rtol=0, atol=32 * worst)


def test_short_normals_as_they_are(backend):
    """ "unit" is the polynomial: bands 1 and 2 scale with the length, and 3z^2 - 1 keeps its constant."""
    _, _, normals = directions(50, 5)
    x, y, z = (0.5 * normals).unbind(-1)
    only = torch.zeros(9, 3, 9, dtype=torch.float64)
    only[torch.arange(9), :, torch.arange(9)] = 1
    ones = torch.ones(9, 50, 3, dtype=torch.float64)
    got = fk.shade_sh(*(v.to(backend.device) for v in ((0.5 * normals).expand(9, -1, -1), ones, only)))[..., 0].cpu()
    named = [0.282095 + 0 * x, -0.488603 * y, 0.488603 * z, -0.488603 * x, 1.092548 * x * y, -1.092548 * y * z]
    named += [0.315392 * (3 * z * z - 1), -1.092548 * x * z, 0.546274 * (x * x - y * y)]
    torch.testing.assert_close(got, torch.stack(named), rtol=0, atol=1e-6)  # the constants have six digits


POLES = [[0, 0, 1.0], [0, 0, -1.0], [0, 0, 0.0], [0, 0, 0.5], [1e-7, 0, 1.0], [1e-7, -1e-7, 0.9], [0, 0.5, 1.0]]
POLES += [
    [1.0, 0, 0],
    [0.0, 1, 0],
    [-0.0, -1, -0.0],
    [0.1, 0.2, 1.5],
    [0.1, 0.2, -1.5],
    [1e-20, 1e-20, 0.3],
    [0.6, 0.8, 0],
]


@DTYPES
@pytest.mark.parametrize("normal", POLES, ids=str)
def test_focus_is_finite_everywhere(backend, dtype, normal):
    normals = torch.tensor([[normal]], dtype=dtype, device=backend.device, requires_grad=True)
    albedo = torch.ones(1, 1, 3, dtype=dtype, device=backend.device, requires_grad=True)
    sh = lights(1).to(backend.device, dtype).requires_grad_()
    out = fk.shade_sh(normals, albedo, sh, convention="focus")
    assert out.isfinite().all()
    for grad in torch.autograd.grad(out.sum(), (normals, albedo, sh)):
        assert grad.isfinite().all()
    if abs(normal[2]) >= 1:  # the scaling is zero there: only z counts
        grad = torch.autograd.grad(fk.shade_sh(normals, albedo, sh, convention="focus").sum(), normals)[0]
        band = [0, 0, 0.488603, 0, 0, 0, 0.315392 * 6 * normal[2], 0, 0]
        want = (sh.detach().double().cpu()[0].sum(0) * torch.tensor(band)).sum()
        torch.testing.assert_close(grad[0, 0, 2].double().cpu(), want, rtol=1e-5, atol=1e-5)


def test_empty(backend):
    shapes = [(2, 0, 3), (2, 0, 3), (2, 3, 9)]
    inputs = [torch.randn(shape, device=backend.device, requires_grad=True) for shape in shapes]
    out = fk.shade_sh(*inputs)
    assert out.shape == (2, 0, 3)
    assert torch.autograd.grad(out.sum(), inputs)[2].eq(0).all()


@DTYPES
@pytest.mark.parametrize("convention", ["unit", "focus"])
def test_same_bits_for_any_number_of_threads(kernel, dtype, threads, convention):
    draw = lambda *shape: torch.randn(*shape, generator=generator(sum(shape)), dtype=torch.float64)
    inputs = [x.to(kernel.device, dtype).requires_grad_() for x in (draw(3, 5001, 3), draw(3, 5001, 3), draw(3, 3, 9))]
    cotangent = draw(3, 5001, 3).to(inputs[0])
    first = None
    for count in (1, 2, 3, 1):
        threads(count)
        out = fk.shade_sh(*inputs, convention=convention)
        result = [out.detach(), *torch.autograd.grad(out, inputs, cotangent)]
        first = first or result
        for one, other in zip(result, first, strict=True):
            assert_same_bits(one, other, f"{count} threads")


ERRORS = [
    ({"normals": 1}, TypeError, "normals to be a torch.Tensor, got int"),
    ({"normals": torch.zeros(4, 3)}, ValueError, r"normals to be shape \[\*, \*, 3\], got \[4, 3\]"),
    ({"albedo": torch.zeros(2, 5, 3)}, ValueError, r"albedo to be shape \[2, 4, 3\], got \[2, 5, 3\]"),
    ({"albedo": torch.zeros(2, 4, 3, device="meta")}, ValueError, "albedo to be on cpu as normals, got meta"),
    ({"sh_coeffs": torch.zeros(2, 27)}, ValueError, r"sh_coeffs to be shape \[2, 3, 9\], got \[2, 27\]"),
    ({"sh_coeffs": torch.zeros(1, 3, 9)}, ValueError, r"sh_coeffs to be shape \[2, 3, 9\], got \[1, 3, 9\]"),
    ({"convention": "deca"}, ValueError, "convention to be one of 'unit', 'focus', got 'deca'"),
]


@pytest.mark.parametrize("change, kind, message", ERRORS)
def test_errors(change, kind, message):
    shapes = {"normals": (2, 4, 3), "albedo": (2, 4, 3), "sh_coeffs": (2, 3, 9)}
    arguments = {**{name: torch.zeros(shape) for name, shape in shapes.items()}, **change}
    with pytest.raises(kind, match=r"shade_sh\(\): expected " + message):
        fk.shade_sh(**arguments)
