"""rasterize_clip of faces wholly in view. Beside it stands `rasterize` of the scene, which neither clips nor rounds."""

import torch

import focus_kernels as fk

from . import check, shapes
from .peers import Peer, plain_torch
from .peers_gpu import clip_positions
from .race import cases

GRID = cases(shapes.ALL, in_two_threads=shapes.SCALING)
FEW = cases(shapes.FEW)


def prepared(mesh, batch, place):
    """Scenes with their positions on the screen and in clip space."""
    turns = []
    for scene in shapes.turns(mesh, batch, place.device):
        positions = scene.camera.project(scene.vertices)
        turns.append((scene, positions, clip_positions(positions)))
    return turns


def draw(scene, clip, derivatives=False):
    return fk.rasterize_clip(clip, scene.topology, shapes.SIZE, derivatives=derivatives)


@GRID
def test_forward(race, place, mesh, batch):
    turns = prepared(mesh, batch, place)
    scene, positions, clip = turns[0]
    check.rasterize_clip(scene, clip, draw(scene, clip, derivatives=True))
    peers = {}
    if (mesh, batch) in shapes.MAIN:
        peers["rasterize"] = Peer(
            batch, lambda: lambda: fk.rasterize(positions, scene.topology, shapes.SIZE, cull=None)
        )
    calls = [lambda t=t: draw(t[0], t[2]) for t in turns]
    race(f"rasterize_clip forward, {mesh}, batch {batch}", calls, batch, peers)


@FEW
def test_forward_backward(race, place, mesh, batch):
    H, W = shapes.SIZE
    cotangents = [shapes.cotangent(batch, H, W, count).to(place.device) for count in (2, 4)]

    def both(scene, _, clip):
        leaf = clip.clone().requires_grad_()

        def call():
            raster = draw(scene, leaf, derivatives=True)
            return raster, torch.autograd.grad((raster.barycentrics, raster.derivatives), leaf, cotangents)

        return call

    turns = prepared(mesh, batch, place)
    raster, grads = both(*turns[0])()
    check.rasterize_clip(turns[0][0], turns[0][2], raster, cotangents, grads)
    calls = [both(*turn) for turn in turns]
    peers = plain_torch(batch, calls[0]) if (mesh, batch) in shapes.SMALL and place.threads == 1 else {}
    race(f"rasterize_clip forward + backward, {mesh}, batch {batch}", calls, batch, peers)
