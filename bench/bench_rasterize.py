"""rasterize alone: time, and memory beyond its outputs."""

import torch

import focus_kernels as fk

from . import check, memory, shapes
from .peers import plain_torch
from .race import cases

GRID = cases(shapes.ALL, in_two_threads=shapes.SCALING)
FEW = cases(shapes.FEW)


def prepared(mesh, batch, place):
    """Pairs of a scene and its positions, to go through in turn."""
    turns = shapes.turns(mesh, batch, place.device)
    return [(scene, scene.camera.project(scene.vertices)) for scene in turns]


def seeds(batch, device):
    """Gradients of barycentrics and depth."""
    return shapes.cotangent(batch, *shapes.SIZE, 3).to(device), shapes.cotangent(batch, *shapes.SIZE).to(device)


@GRID
def test_forward(race, place, mesh, batch):
    turns = prepared(mesh, batch, place)
    draw = lambda scene, positions: fk.rasterize(positions, scene.topology, shapes.SIZE)
    check.rasterize(*turns[0], draw(*turns[0]))
    race(f"rasterize forward, {mesh}, batch {batch}", [lambda t=t: draw(*t) for t in turns], batch)
    if place.device == "cpu" and place.threads == 1 and (mesh, batch) in shapes.MAIN:
        race.reach("rasterize", race.median)
        if extra := memory.measured("rasterize"):
            race.benchmark.extra_info["bytes_beyond_outputs"] = extra
            one, all_, two = (extra[key] / 1e6 for key in ("batch 1", "batch 32", "batch 32, two threads"))
            race.reach("rasterize/memory", all_ - one, f"{one:.2f} MB at batch 1, {two:.2f} MB in two threads")


@FEW
def test_forward_backward(race, place, mesh, batch):
    cotangents = seeds(batch, place.device)

    def both(scene, positions):
        leaf = positions.clone().requires_grad_()

        def call():
            raster = fk.rasterize(leaf, scene.topology, shapes.SIZE)
            return raster, torch.autograd.grad((raster.barycentrics, raster.depth), leaf, cotangents)

        return call

    turns = prepared(mesh, batch, place)
    raster, grads = both(*turns[0])()
    check.rasterize(*turns[0], raster, cotangents, grads)
    calls = [both(*turn) for turn in turns]
    peers = plain_torch(batch, calls[0]) if (mesh, batch) in shapes.SMALL and place.threads == 1 else {}
    race(f"rasterize forward + backward, {mesh}, batch {batch}", calls, batch, peers)
