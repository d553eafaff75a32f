"""One step of FOCUS's training without its networks: from coefficients and masks to the losses, and back.

Shape and albedo of a linear model, FOCUS's camera, the render, then the losses of both networks (Eq. 8 and 12 without
the perceptual terms), with gradients to every coefficient and to the mask.
"""

from dataclasses import dataclass
from functools import lru_cache

import pytest
import torch
from torch import Tensor

import focus_kernels as fk

from . import check, shapes
from .peers import on_backend, plain_torch
from .race import cases

GRID = cases([(mesh, 12) for mesh in shapes.MESHES])
SHAPE, ALBEDO = 144, 80  # identity and expression in one basis; albedo
SIZES = (SHAPE, ALBEDO, 27, 6)
PIXEL, LANDMARK, PRIOR, NEIGHBOR = 0.5, 5e-4, 0.1, 15.0


@dataclass(frozen=True)
class Model:
    """A linear face model: means [V, 3], bases [K, V, 3] in standard deviations, 68 landmarks."""

    topology: fk.Topology
    mean_shape: Tensor
    shape_basis: Tensor
    mean_albedo: Tensor
    albedo_basis: Tensor
    landmarks: Tensor


@dataclass(frozen=True)
class Batch:
    """Coefficients [B, 257], photographs [B, 3, H, W], masks [B, 1, H, W], landmarks [B, 68, 2] in pixels."""

    theta: Tensor
    photo: Tensor
    segmentation: Tensor
    landmarks: Tensor

    def part(self, images: slice) -> "Batch":
        return Batch(*(value[images].clone() for value in vars(self).values()))


@lru_cache(maxsize=1)
def model(mesh: str, device: str) -> Model:
    """The free face model at 10k; else smooth random components on the stand-in for BFM, which cannot be shipped."""
    if mesh == "10k":
        from focus import FaceModel

        face = FaceModel.load(level=1)
        values = (face.mean_shape, face.shape_basis, face.mean_albedo, face.albedo_basis)
        topology, landmarks = face.topology, face.landmarks
    else:
        scene, g = shapes.scene(mesh), torch.Generator().manual_seed(7)
        mean, V = scene.vertices[0], scene.topology.num_vertices
        waves = torch.cat([(mean * k / 60).cos() for k in range(1, 9)], 1)  # [V, 24]
        draw = lambda count, size: size * (waves @ torch.randn(count, 24, 3, generator=g))
        values = (mean, draw(SHAPE, 0.03), scene.albedo[0], draw(ALBEDO, 2e-3))
        topology, landmarks = scene.topology, torch.randperm(V, generator=g)[:68]
    return Model(topology.to(device), *(value.to(device) for value in values), landmarks.to(device))


def batch_of(face: Model, batch: int) -> Batch:
    """Different people, poses and lights; as photographs other renders of theirs, with noise and a covered patch."""
    g, device = torch.Generator().manual_seed(11), face.mean_shape.device
    spread = torch.cat([torch.full((size,), s) for size, s in zip(SIZES, (0.6, 0.6, 0.1, 0.1), strict=True)])
    spread[-3:] = torch.tensor([3.0, 3.0, 20.0])
    theta = (spread * torch.randn(batch, len(spread), generator=g)).to(device)
    other = theta + (0.2 * spread * torch.randn(batch, len(spread), generator=g)).to(device)
    with torch.no_grad():
        render = rendered(face, other)
    photo = render.image + 0.05 * torch.randn(batch, 3, *shapes.SIZE, generator=g).to(device)
    photo[:, :, 80:140, 60:130] = 0.5
    segmentation = torch.rand(batch, 1, *shapes.SIZE, generator=g).to(device)
    return Batch(theta, photo, segmentation, render.positions[:, face.landmarks, :2])


def rendered(face: Model, theta: Tensor) -> fk.Render:
    from focus import focus_camera

    shape, albedo, light, pose = theta.split(SIZES, 1)
    vertices = fk.blend(face.mean_shape, face.shape_basis, shape)
    colors = fk.blend(face.mean_albedo, face.albedo_basis, albedo)
    ambient = light.new_tensor([4.39823] + [0.0] * 8)  # 0.7 * 2 pi
    camera = focus_camera(pose[:, :3], pose[:, 3:])
    return fk.render_sh(vertices, colors, light.view(-1, 3, 9) + ambient, face.topology, camera, shapes.SIZE)


def step(face: Model, batch: Batch):
    """A call that gives the losses and their gradients to the coefficients and the segmentation."""
    theta, segmentation = batch.theta.clone().requires_grad_(), batch.segmentation.clone().requires_grad_()

    def call():
        render = rendered(face, theta)
        mask = render.mask * segmentation
        pixel = fk.masked_pixel_loss(batch.photo, render.image, mask.detach(), reduction="mask_mean")
        neighbor = fk.neighbor_min_loss(batch.photo, render.image.detach(), mask)
        landmark = (render.positions[:, face.landmarks, :2] - batch.landmarks).square().sum(-1).mean()
        prior = theta[:, : SHAPE + ALBEDO].square().sum(1).mean() / 224
        total = PIXEL * pixel + LANDMARK * landmark + PRIOR * prior + NEIGHBOR * neighbor
        return total.detach(), *torch.autograd.grad(total, (theta, segmentation))

    return call


@GRID
def test_step(race, place, mesh, batch):
    face = model(mesh, place.device)
    data = batch_of(face, batch)
    few = step(face, data.part(slice(0, 2)))
    if mesh == "10k":  # the renderer at the other sizes is checked in bench_render_sh.py
        check.same_call(few(), on_backend("ref", few))
    peers = plain_torch(batch, step(face, data)) if mesh == "10k" else {}
    race(f"training step, {mesh}, batch {batch}", [step(face, data)], batch, peers)
    if mesh == "10k" and place.device == "cpu" and place.threads == 2:
        race.reach("step/plain torch", race.ratios.get("plain torch"))


@pytest.mark.slow
@cases([("53k", 12)], in_two_threads=[("53k", 12)])
def test_plain_torch_once(race, place, mesh, batch):
    """For the record: one round."""
    face = model(mesh, place.device)
    call = step(face, batch_of(face, batch))
    race(f"training step, {mesh}, batch {batch}, once", [call], batch, plain_torch(batch, call), rounds=1, warmup=0)
