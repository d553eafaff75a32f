"""blend: the linear face model, 224 components (shape and albedo) as FOCUS uses them."""

import pytest
import torch

import focus_kernels as fk

from . import check, shapes

COMPONENTS = 224
BATCHES = pytest.mark.parametrize("batch", shapes.BATCHES)


def model(device, dtype=torch.float32):
    """mean [V, 3] and basis [K, V, 3] of the larger mesh."""
    mean = shapes.scene("53k").vertices[0]
    basis = torch.randn(COMPONENTS, *mean.shape, generator=torch.Generator().manual_seed(0))
    return mean.to(device), basis.to(device, dtype)


@pytest.fixture(scope="module")
def coeffs():
    return torch.randn(shapes.LARGEST, COMPONENTS, generator=torch.Generator().manual_seed(1))


@BATCHES
def test_forward(race, place, coeffs, batch):
    mean, basis = model(place.device)
    own = coeffs[:batch].to(place.device)
    check.blend("blend", mean, basis, own, (fk.blend(mean, basis, own),))
    race(f"blend forward, 53k, batch {batch}", [lambda: fk.blend(mean, basis, own)], batch)


@BATCHES
def test_forward_backward(race, place, coeffs, batch):
    """To the coefficients, as in training."""
    mean, basis = model(place.device)
    own = coeffs[:batch].to(place.device).requires_grad_()
    seed = shapes.cotangent(batch, *mean.shape).to(place.device)

    def call():
        vertices = fk.blend(mean, basis, own)
        return vertices, torch.autograd.grad(vertices, own, seed)

    vertices, (grad,) = call()
    check.blend("blend", mean, basis, own, (vertices,))
    check.close("blend", grad, torch.einsum("bvc,kvc->bk", seed.double(), basis.double()), seed.abs().sum((1, 2)).max())
    race(f"blend forward + backward, 53k, batch {batch}", [call], batch)
