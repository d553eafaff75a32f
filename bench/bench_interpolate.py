"""interpolate: colours of vertices at pixels."""

import torch

import focus_kernels as fk

from . import check, shapes
from .peers import plain_torch
from .race import cases

FEW = cases(shapes.FEW)


def prepared(mesh, batch, place):
    """Pairs of a scene and its raster."""
    turns = shapes.turns(mesh, batch, place.device)
    return [(s, fk.rasterize(s.camera.project(s.vertices), s.topology, shapes.SIZE)) for s in turns]


@FEW
def test_forward(race, place, mesh, batch):
    turns = prepared(mesh, batch, place)
    paint = lambda scene, raster: fk.interpolate(scene.albedo, raster, scene.topology)
    scene, raster = turns[0]
    check.interpolate(scene, scene.albedo, raster, (paint(scene, raster),))
    race(f"interpolate forward, {mesh}, batch {batch}", [lambda t=t: paint(*t) for t in turns], batch)


@FEW
def test_forward_backward(race, place, mesh, batch):
    turns = prepared(mesh, batch, place)
    seed = shapes.cotangent(batch, 3, *shapes.SIZE).to(place.device)

    def both(scene, raster):
        attributes, barycentrics = (x.clone().requires_grad_() for x in (scene.albedo, raster.barycentrics))
        raster = raster._replace(barycentrics=barycentrics)

        def call():
            image = fk.interpolate(attributes, raster, scene.topology)
            return image, torch.autograd.grad(image, (attributes, barycentrics), seed)

        return call

    scene, raster = turns[0]
    image, grads = both(scene, raster)()
    check.interpolate(scene, scene.albedo, raster, (image,), (seed,), grads)
    calls = [both(*turn) for turn in turns]
    peers = plain_torch(batch, calls[0]) if (mesh, batch) in shapes.SMALL and place.threads == 1 else {}
    race(f"interpolate forward + backward, {mesh}, batch {batch}", calls, batch, peers)
