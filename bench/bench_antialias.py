"""antialias: silhouettes of a drawn picture. Beside it stands what it comes after: `rasterize` of the same scene."""

import torch

import focus_kernels as fk

from . import check, shapes
from .peers import Peer, plain_torch
from .race import cases

FEW = cases(shapes.FEW)


def prepared(mesh, batch, place):
    """Scenes with their image, raster and positions."""
    turns = []
    for scene in shapes.turns(mesh, batch, place.device):
        positions = scene.camera.project(scene.vertices)
        raster = fk.rasterize(positions, scene.topology, shapes.SIZE)
        turns.append((scene, fk.interpolate(scene.albedo, raster, scene.topology), raster, positions))
    return turns


def smooth(scene, image, raster, positions):
    return fk.antialias(image, raster, positions, scene.topology)


@FEW
def test_forward(race, place, mesh, batch):
    turns = prepared(mesh, batch, place)
    check.antialias(*turns[0], (smooth(*turns[0]),))
    scene, _, _, positions = turns[0]
    draw = lambda: fk.rasterize(positions, scene.topology, shapes.SIZE)
    peers = {"rasterize": Peer(batch, lambda: draw)}
    race(f"antialias forward, {mesh}, batch {batch}", [lambda t=t: smooth(*t) for t in turns], batch, peers)


@FEW
def test_forward_backward(race, place, mesh, batch):
    turns = prepared(mesh, batch, place)
    seed = shapes.cotangent(batch, 3, *shapes.SIZE).to(place.device)

    def both(scene, image, raster, positions):
        leaves = image.clone().requires_grad_(), positions.clone().requires_grad_()

        def call():
            out = smooth(scene, leaves[0], raster, leaves[1])
            return out, torch.autograd.grad(out, leaves, seed)

        return call

    out, grads = both(*turns[0])()
    check.antialias(*turns[0], (out,), (seed,), grads)
    calls = [both(*turn) for turn in turns]
    peers = plain_torch(batch, calls[0]) if (mesh, batch) in shapes.SMALL and place.threads == 1 else {}
    race(f"antialias forward + backward, {mesh}, batch {batch}", calls, batch, peers)
