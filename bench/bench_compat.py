"""The drop-ins, called as their users call them."""

import torch

from focus_kernels.compat import focus, pytorch3d

from . import check, shapes
from .peers import Peer, has, on_backend
from .race import cases

FEW = cases([("53k", 12)])


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
    positions = scene.camera.project(scene.vertices)
    half = shapes.SIZE[0] / 2
    leaf = torch.stack(
        [1 - positions[..., 0] / half, 1 - positions[..., 1] / half, positions[..., 2]], -1
    ).requires_grad_()
    faces = scene.topology.faces.long().expand(scene.batch, -1, -1)
    seed = shapes.cotangent(scene.batch, *shapes.SIZE, 1, 3).to(leaf.device)

    def call():
        meshes = module.Meshes(leaf, faces)
        index, depth, barycentrics, _ = module.rasterize_meshes(
            meshes, shapes.SIZE, 0.0, faces_per_pixel=1, perspective_correct=False, cull_backfaces=True
        )
        return index, depth, barycentrics, *torch.autograd.grad(barycentrics, leaf, seed)

    return call


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
