"""shade_sh: spherical-harmonics light at the vertices."""

import torch

import focus_kernels as fk

from . import check, shapes
from .peers import plain_torch
from .race import cases

FEW = cases(shapes.FEW)


def prepared(mesh, batch, place):
    """Pairs of a scene and its normals in the camera frame."""
    turns = shapes.turns(mesh, batch, place.device)
    return [(s, fk.vertex_normals(s.vertices, s.topology) @ s.R.transpose(1, 2)) for s in turns]


@FEW
def test_forward(race, place, mesh, batch):
    turns = prepared(mesh, batch, place)
    shade = lambda scene, normals: fk.shade_sh(normals, scene.albedo, scene.sh_coeffs)
    check.shade_sh(*turns[0], (shade(*turns[0]),))
    race(f"shade_sh forward, {mesh}, batch {batch}", [lambda t=t: shade(*t) for t in turns], batch)


@FEW
def test_forward_backward(race, place, mesh, batch):
    turns = prepared(mesh, batch, place)
    seed = shapes.cotangent(batch, turns[0][0].topology.num_vertices, 3).to(place.device)

    def both(scene, normals):
        leaves = [x.clone().requires_grad_() for x in (normals, scene.albedo, scene.sh_coeffs)]

        def call():
            shaded = fk.shade_sh(*leaves)
            return shaded, torch.autograd.grad(shaded, leaves, seed)

        return call

    shaded, grads = both(*turns[0])()
    check.shade_sh(*turns[0], (shaded,), (seed,), grads)
    calls = [both(*turn) for turn in turns]
    peers = plain_torch(batch, calls[0]) if (mesh, batch) in shapes.SMALL and place.threads == 1 else {}
    race(f"shade_sh forward + backward, {mesh}, batch {batch}", calls, batch, peers)
