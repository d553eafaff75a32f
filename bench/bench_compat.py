"""The drop-ins, called as their users call them."""

import numpy as np
import pytest
import torch

from focus_kernels.compat import focus, pytorch3d, sim3dr

from . import check, shapes
from .peers import Peer, has, on_backend
from .race import ONE, cases

FEW = cases([("53k", 12)])
RECORDED = 14.7e3  # ms of PyTorch3D's rasterizer for one image of 53k vertices at 224 x 224, two CPU cores


def focus_call(scene):
    """The FOCUS authors' layout, and forward + backward through their renderer; gives the image, mask and gradients."""
    to_theirs = lambda x: x.transpose(1, 2).contiguous().requires_grad_()
    leaves = [to_theirs(scene.vertices), to_theirs(scene.albedo), scene.sh_coeffs.flatten(1).clone().requires_grad_()]
    face = scene.topology.faces.t().long().contiguous()
    A = scene.K.clone()
    A[:, :2, 2] -= 0.5  # their pixel centres are integers
    image = scene.vertices.new_zeros(scene.batch, 3, *shapes.SIZE)
    seed = shapes.cotangent(scene.batch, 3, *shapes.SIZE).to(image)
    renderer = focus.Renderer()

    def call():
        mode = focus.RASTERIZE_DIFFERENTIABLE_IMAGE
        *_, picture, mask = renderer(face, *leaves, A, scene.R, scene.t[..., None], image, mode)
        return picture, mask, *torch.autograd.grad(picture, leaves, seed)

    return call


def pytorch3d_call(scene, module):
    """PyTorch3D's coordinates, and forward + backward through `rasterize_meshes` of `module`."""
    leaf = shapes.ndc(scene).requires_grad_()
    faces = scene.topology.faces.long().expand(scene.batch, -1, -1)
    seed = shapes.cotangent(scene.batch, *shapes.SIZE, 1, 3).to(leaf.device)

    def call():
        meshes = module.Meshes(leaf, faces)
        index, depth, barycentrics, _ = module.rasterize_meshes(
            meshes, shapes.SIZE, 0.0, faces_per_pixel=1, perspective_correct=False, cull_backfaces=True
        )
        return index, depth, barycentrics, *torch.autograd.grad(barycentrics, leaf, seed)

    return call


def pytorch3d_forward(scene, module):
    """Forward alone, as callers do each frame: `Meshes`, and `rasterize_meshes` with its defaults."""
    verts, faces = shapes.ndc(scene), scene.topology.faces.long().expand(scene.batch, -1, -1)
    return lambda: module.rasterize_meshes(module.Meshes(verts, faces), shapes.SIZE, 0.0, faces_per_pixel=1)


class _Upstream:
    """The names of the real PyTorch3D, where it is installed."""

    def __init__(self) -> None:
        from pytorch3d.renderer.mesh import rasterize_meshes
        from pytorch3d.structures import Meshes

        self.Meshes, self.rasterize_meshes = Meshes, rasterize_meshes


@FEW
def test_focus(race, place, mesh, batch):
    turns = shapes.turns(mesh, batch, place.device)
    few = turns[0].part(slice(0, 2), place.device)
    check.same_call(focus_call(few)(), on_backend("ref", focus_call(few)))
    race(f"compat.focus forward + backward, {mesh}, batch {batch}", [focus_call(s) for s in turns], batch)


@FEW
def test_pytorch3d(race, place, mesh, batch):
    turns = shapes.turns(mesh, batch, place.device)
    few = turns[0].part(slice(0, 2), place.device)
    check.same_call(pytorch3d_call(few, pytorch3d)(), on_backend("ref", pytorch3d_call(few, pytorch3d)))
    peers = {}
    if has("pytorch3d"):
        one = turns[0].part(slice(0, 1), place.device)  # seconds per image on a CPU
        peers["PyTorch3D"] = Peer(1, lambda: pytorch3d_call(one, _Upstream()))
    calls = [pytorch3d_call(s, pytorch3d) for s in turns]
    race(f"compat.pytorch3d forward + backward, {mesh}, batch {batch}", calls, batch, peers)


@cases([("53k", 1)])
def test_pytorch3d_forward(race, place, mesh, batch):
    turns = shapes.turns(mesh, batch, place.device)
    check.same_call(pytorch3d_forward(turns[0], pytorch3d)(), on_backend("ref", pytorch3d_forward(turns[0], pytorch3d)))

    def render():
        for scene in turns:
            scene.render()

    peers = {"render_sh": Peer(batch * len(turns), lambda: render)}
    calls = [pytorch3d_forward(scene, pytorch3d) for scene in turns]
    race(f"compat.pytorch3d forward, {mesh}, batch {batch}", calls, batch, peers)
    if place == ONE and race.median:
        race.reach("compat.pytorch3d/recorded", RECORDED / race.median, f"{race.median:.3g} ms an image")
        race.reach("compat.pytorch3d/render_sh", 1 / race.ratios["render_sh"])


def sim3dr_call(scene, module):
    """Sim3DR's coordinates, and `rasterize` of `module` over a black picture, one image after the other."""
    positions = scene.camera.project(scene.vertices) * torch.tensor([1.0, 1, -1]) - torch.tensor([0.5, 0.5, 0])
    triangles = scene.topology.faces.numpy().copy()
    images = [(p.numpy().copy(), c.numpy().copy()) for p, c in zip(positions, scene.albedo, strict=True)]

    def call():
        pictures = [np.zeros((*shapes.SIZE, 3), np.uint8) for _ in images]
        for (vertices, colors), picture in zip(images, pictures, strict=True):
            module.rasterize(vertices, triangles, colors, picture)
        return pictures

    return call


@FEW
def test_sim3dr(race, place, mesh, batch):
    if place.device != "cpu":
        pytest.skip("Sim3DR is NumPy on the CPU")
    turns = shapes.turns(mesh, batch, place.device)
    few = sim3dr_call(turns[0].part(slice(0, 2)), sim3dr)
    for ours, plain in zip(few(), on_backend("ref", few), strict=True):
        np.testing.assert_array_equal(ours, plain)
    peers = {}
    if has("Sim3DR"):
        import Sim3DR

        theirs = sim3dr_call(turns[0], Sim3DR)
        for ours, other in zip(sim3dr_call(turns[0], sim3dr)(), theirs(), strict=True):
            assert (ours != other).any(-1).mean() < 1e-3, "Sim3DR draws another picture"
        peers["Sim3DR"] = Peer(batch, lambda: theirs)
    race(f"compat.sim3dr rasterize, {mesh}, batch {batch}", [sim3dr_call(s, sim3dr) for s in turns], batch, peers)
    if place.threads == 1:
        race.reach("compat.sim3dr", race.median, "Sim3DR was recorded at 2.8 ms on another machine")
