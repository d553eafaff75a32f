"""blend: the linear face model, 224 components (shape and albedo) as FOCUS uses them."""

import pytest
import torch

import focus_kernels as fk

from . import check, shapes
from .race import cases

COMPONENTS = 224
BATCHES = cases([("53k", batch) for batch in shapes.BATCHES])


def model(mesh, device, dtype=torch.float32):
    """mean [V, 3] and basis [K, V, 3]."""
    mean = shapes.scene(mesh).vertices[0]
    basis = torch.randn(COMPONENTS, *mean.shape, generator=torch.Generator().manual_seed(0))
    return mean.to(device), basis.to(device, dtype)


def coefficients():
    """[32, 224]."""
    return torch.randn(shapes.LARGEST, COMPONENTS, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def coeffs():
    return coefficients()


@BATCHES
def test_forward(race, place, coeffs, mesh, batch):
    mean, basis = model(mesh, place.device)
    own = coeffs[:batch].to(place.device)
    check.blend("blend", mean, basis, own, (fk.blend(mean, basis, own),))
    race(f"blend forward, {mesh}, batch {batch}", [lambda: fk.blend(mean, basis, own)], batch)


@BATCHES
def test_forward_backward(race, place, coeffs, mesh, batch):
    """To the coefficients, as in training."""
    mean, basis = model(mesh, place.device)
    own = coeffs[:batch].to(place.device).requires_grad_()
    seed = shapes.cotangent(batch, *mean.shape).to(place.device)

    def call():
        vertices = fk.blend(mean, basis, own)
        return vertices, torch.autograd.grad(vertices, own, seed)

    vertices, (grad,) = call()
    check.blend("blend", mean, basis, own, (vertices,))
    check.close("blend", grad, torch.einsum("bvc,kvc->bk", seed.double(), basis.double()), seed.abs().sum((1, 2)).max())
    race(f"blend forward + backward, {mesh}, batch {batch}", [call], batch)
