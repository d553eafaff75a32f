"""blend: the linear face model, 224 components (shape and albedo) as FOCUS uses them, against torch's product."""

import torch

import focus_kernels as fk

from . import check, shapes
from .peers import plain_torch
from .race import TWO, cases

COMPONENTS = 224
BATCHES = cases([("53k", batch) for batch in shapes.BATCHES])


def model(mesh, device, dtype=torch.float32):
    """mean [V, 3] and basis [K, V, 3]."""
    mean = shapes.scene(mesh).vertices[0]
    basis = torch.randn(COMPONENTS, *mean.shape, generator=torch.Generator().manual_seed(0))
    return mean.to(device), basis.to(device, dtype)


def coefficients(batch):
    """[batch, 224]."""
    return torch.randn(shapes.LARGEST, COMPONENTS, generator=torch.Generator().manual_seed(1))[:batch]


@BATCHES
def test_forward(race, place, mesh, batch):
    forward(race, place, mesh, batch, torch.float32)


@BATCHES
def test_forward_bfloat16(race, place, mesh, batch):
    """The peer has the basis in float32."""
    forward(race, place, mesh, batch, torch.bfloat16)


@BATCHES
def test_forward_backward(race, place, mesh, batch):
    """To the coefficients, as in training."""
    both(race, place, mesh, batch, torch.float32)


@BATCHES
def test_forward_backward_bfloat16(race, place, mesh, batch):
    both(race, place, mesh, batch, torch.bfloat16)


def forward(race, place, mesh, batch, dtype):
    mean, wide = model(mesh, place.device)
    basis, own = wide.to(dtype), coefficients(batch).to(place.device)
    check.blend("blend", mean, basis, own, (fk.blend(mean, basis, own),))
    name = f"blend forward, {str(dtype).removeprefix('torch.')}, {mesh}, batch {batch}"
    race(name, [lambda: fk.blend(mean, basis, own)], batch, plain_torch(batch, lambda: fk.blend(mean, wide, own)))
    judged(race, place, batch, dtype, backward=False)


def both(race, place, mesh, batch, dtype):
    mean, wide = model(mesh, place.device)
    basis, own = wide.to(dtype), coefficients(batch).to(place.device).requires_grad_()
    seed = shapes.cotangent(batch, *mean.shape).to(place.device)

    def call(basis):
        vertices = fk.blend(mean, basis, own)
        return vertices, torch.autograd.grad(vertices, own, seed)

    vertices, (grad,) = call(basis)
    check.blend("blend", mean, basis, own, (vertices,))
    check.close("blend", grad, torch.einsum("bvc,kvc->bk", seed.double(), basis.double()), seed.abs().sum((1, 2)).max())
    name = f"blend forward + backward, {str(dtype).removeprefix('torch.')}, {mesh}, batch {batch}"
    race(name, [lambda: call(basis)], batch, plain_torch(batch, lambda: call(wide)))
    judged(race, place, batch, dtype, backward=True)


def judged(race, place, batch, dtype, backward):
    """Plain torch is one product of matrices here, the fastest that torch has."""
    ratio = race.ratios.get("plain torch")
    if place == TWO and dtype == torch.float32:
        race.reach_least("blend/torch.matmul", ratio, f"batch {batch}, {'backward too' if backward else 'forward'}")
    elif place == TWO and batch == 1 and not backward:
        race.reach("blend/bfloat16", ratio)
    elif place.device == "cuda" and dtype == torch.float32:
        race.reach_least("blend/cuda", ratio, f"batch {batch}, {'backward too' if backward else 'forward'}")
