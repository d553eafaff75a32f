"""rasterize_ndc alone, next to the general rasterizer."""

import torch

import focus_kernels as fk

from . import check, shapes
from .peers import Peer, plain_torch
from .race import cases

GRID = cases(shapes.ALL, in_two_threads=shapes.SCALING)
FEW = cases(shapes.FEW)


def prepared(mesh, batch, place):
    """Pairs of a scene and its positions in PyTorch3D's frame, to go through in turn."""
    return [(scene, shapes.ndc(scene)) for scene in shapes.turns(mesh, batch, place.device)]


def seeds(batch, device):
    """Gradients of depth, barycentrics and distances."""
    shape = shapes.SIZE
    return [shapes.cotangent(batch, *s).to(device) for s in (shape, (*shape, 3), shape)]


@GRID
def test_forward(race, place, mesh, batch):
    turns = prepared(mesh, batch, place)
    draw = lambda scene, positions: fk.rasterize_ndc(positions, scene.topology, shapes.SIZE)
    check.rasterize_ndc(*turns[0], draw(*turns[0]))

    in_pixels = [(scene.camera.project(scene.vertices), scene.topology) for scene, _ in turns]
    options = {"coverage": "strict", "cull": None, "perspective_correct": False}

    def general():
        for positions, topology in in_pixels:
            fk.rasterize(positions, topology, shapes.SIZE, **options)

    peers = {"rasterize": Peer(batch * len(turns), lambda: general)}
    race(f"rasterize_ndc forward, {mesh}, batch {batch}", [lambda t=t: draw(*t) for t in turns], batch, peers)


@FEW
def test_forward_backward(race, place, mesh, batch):
    cotangents = seeds(batch, place.device)

    def both(scene, positions):
        leaf = positions.clone().requires_grad_()

        def call():
            raster = fk.rasterize_ndc(leaf, scene.topology, shapes.SIZE)
            return raster, torch.autograd.grad(raster[1:], leaf, cotangents)

        return call

    turns = prepared(mesh, batch, place)
    raster, grads = both(*turns[0])()
    check.rasterize_ndc(*turns[0], raster, cotangents, grads)
    calls = [both(*turn) for turn in turns]
    peers = plain_torch(batch, calls[0]) if (mesh, batch) in shapes.SMALL and place.threads == 1 else {}
    race(f"rasterize_ndc forward + backward, {mesh}, batch {batch}", calls, batch, peers)
