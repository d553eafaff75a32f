"""masked_pixel_loss: what the presets of FOCUS compute, with gradients to the render and the mask."""

import math
from functools import lru_cache

import torch
from torch import Tensor

import focus_kernels as fk
from focus_kernels.ops.masked_pixel_loss import ref
from focus_kernels.ops.masked_pixel_loss.rule import KINDS, REDUCTIONS

from . import check, memory, shapes
from .peers import compiled_torch, plain_torch
from .race import TWO, cases

PICTURE = "x".join(map(str, shapes.SIZE))
EVERY = cases([(PICTURE, batch) for batch in shapes.BATCHES])
ONE = cases([(PICTURE, 12)])
SIGMA = 0.043


@lru_cache(maxsize=1)
def images(batch: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """A photograph, a render a tenth off and less in most pixels, a soft mask."""
    g = torch.Generator().manual_seed(5)
    target = torch.rand(batch, 3, *shapes.SIZE, generator=g)
    rendered = target + 0.1 * torch.randn(batch, 3, *shapes.SIZE, generator=g) ** 3
    mask = torch.rand(batch, 1, *shapes.SIZE, generator=g)
    return target.to(device), rendered.to(device), mask.to(device)


def rule(kind: str, reduction: str) -> tuple:
    """As the definition takes it."""
    scale, offset, threshold = 1.0, 0.0, None
    if kind == "gaussian_inlier":
        scale, offset = 0.5 / SIGMA**2, 1.5 * math.log(2 * math.pi) + 3 * math.log(SIGMA)
        threshold = (3 * SIGMA) ** 2
    return KINDS[kind], scale, offset, threshold, REDUCTIONS[reduction]


def compare(race, place, batch: int, kind: str, reduction: str, dtype: torch.dtype = torch.float32) -> None:
    target, *others = (image.to(dtype) for image in images(batch, place.device))
    leaves = [image.clone().requires_grad_() for image in others]
    one = torch.ones((), device=place.device)

    def both(loss_of):
        loss = loss_of(target, *leaves)
        return loss, torch.autograd.grad(loss, leaves, one)

    call = lambda: both(lambda *x: fk.masked_pixel_loss(*x, kind=kind, sigma=SIGMA, reduction=reduction))
    loss, grads = call()
    numbers = rule(kind, reduction)
    name = f"masked_pixel_loss {kind} forward + backward, {str(dtype).removeprefix('torch.')}, batch {batch}"
    check.masked_pixel_loss(name, (target, *others), numbers, (loss, *grads))
    compiled = torch.compile(ref.forward)
    peers = plain_torch(batch, call) | compiled_torch(batch, lambda: both(lambda *x: compiled(*x, *numbers)))
    race(name, [call] * 4, batch, peers)
    if (kind, batch, dtype, place) == ("squared", 12, torch.float32, TWO):
        for peer in peers:
            race.reach(f"masked_pixel_loss/{peer}", race.ratios.get(peer))
        if peak := memory.measured("masked_pixel_loss"):
            batches = {name: peak[name] / peak["image batch"] for name in memory.GRADIENTS}
            note = ", ".join(f"{size:.2f} {name}" for name, size in batches.items())
            race.reach("masked_pixel_loss/memory", batches["to rendered and mask"], note)


@EVERY
def test_squared(race, place, mesh, batch):
    """L_pixel of the `paper` preset."""
    compare(race, place, batch, "squared", "mask_mean")


@ONE
def test_squared_bfloat16(race, place, mesh, batch):
    compare(race, place, batch, "squared", "mask_mean", torch.bfloat16)


@ONE
def test_l2(race, place, mesh, batch):
    """L_pixel of the `authors` preset."""
    compare(race, place, batch, "l2", "batch_mask_mean")


@ONE
def test_l1(race, place, mesh, batch):
    compare(race, place, batch, "l1", "mean")


@ONE
def test_gaussian_inlier(race, place, mesh, batch):
    """The initialisation of the `authors` preset."""
    compare(race, place, batch, "gaussian_inlier", "mean")


@ONE
def test_inlier_mask(race, place, mesh, batch):
    pictures = images(batch, place.device)
    call = lambda: fk.inlier_mask(*pictures)
    assert torch.equal(call(), ref.inliers(*pictures, 0.016641))
    race(f"inlier_mask, batch {batch}", [call] * 4, batch, plain_torch(batch, call))
