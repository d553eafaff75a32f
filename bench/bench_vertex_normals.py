"""vertex_normals: area-weighted normals of a batch."""

import torch

import focus_kernels as fk

from . import check, shapes
from .peers import plain_torch
from .race import cases

FEW = cases(shapes.FEW)


@FEW
def test_forward(race, place, mesh, batch):
    turns = shapes.turns(mesh, batch, place.device)
    normals = lambda scene: fk.vertex_normals(scene.vertices, scene.topology)
    check.vertex_normals(turns[0], (normals(turns[0]),))
    race(f"vertex_normals forward, {mesh}, batch {batch}", [lambda s=s: normals(s) for s in turns], batch)


@FEW
def test_forward_backward(race, place, mesh, batch):
    turns = shapes.turns(mesh, batch, place.device)
    seed = shapes.cotangent(batch, turns[0].topology.num_vertices, 3).to(place.device)

    def both(scene):
        leaf = scene.vertices.clone().requires_grad_()

        def call():
            normals = fk.vertex_normals(leaf, scene.topology)
            return normals, torch.autograd.grad(normals, leaf, seed)

        return call

    normals, grads = both(turns[0])()
    check.vertex_normals(turns[0], (normals,), (seed,), grads)
    calls = [both(s) for s in turns]
    peers = plain_torch(batch, calls[0]) if (mesh, batch) in shapes.SMALL and place.threads == 1 else {}
    race(f"vertex_normals forward + backward, {mesh}, batch {batch}", calls, batch, peers)
