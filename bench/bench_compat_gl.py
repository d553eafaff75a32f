"""The drop-ins of nvdiffrast, Deep3D and DECA, called as their users call them; on a GPU nvdiffrast is a peer."""

import torch

from focus_kernels.compat import deca, deep3d
from focus_kernels.compat import nvdiffrast as dr

from . import check, shapes
from .peers import Peer, colors_of, has, on_backend
from .peers_gpu import clip_positions
from .race import cases

FEW = cases([("53k", 12)])
HALF = shapes.SIZE[0] / 2


def run(race, place, batch, title, prepare, peers=None):
    """Checks `prepare(scene)()` against the definition on two images, then times it."""
    turns = shapes.turns("53k", batch, place.device)
    few = turns[0].part(slice(0, 2), place.device)
    check.same_call(prepare(few)(), on_backend("ref", prepare(few)))
    race(title, [prepare(scene) for scene in turns], batch, peers(turns[0]) if peers else {})


def nvdiffrast_call(scene, module):
    """Forward + backward through `rasterize` and `interpolate` of `module`."""
    faces = scene.topology.faces.int().contiguous()
    leaves = [clip_positions(scene.camera.project(scene.vertices)), colors_of(scene)]
    leaves = [x.detach().clone().requires_grad_() for x in leaves]
    seed = shapes.cotangent(scene.batch, *shapes.SIZE, 3).to(leaves[0])
    context = module.RasterizeCudaContext(device=leaves[0].device)

    def call():
        rast, _ = module.rasterize(context, leaves[0], faces, resolution=list(shapes.SIZE), grad_db=False)
        image, _ = module.interpolate(leaves[1], rast, faces)
        return rast[..., 3].int(), image, *torch.autograd.grad(image, leaves, seed)

    return call


def deep3d_call(scene):
    """Deep3DFaceRecon's coordinates (y up), colours as features; forward + backward."""
    positions = scene.camera.project(scene.vertices)
    depth = positions[..., 2:] / positions[..., 2].mean() * 10
    fov = 53.0
    spread = depth * torch.tan(torch.deg2rad(torch.tensor(fov / 2)))
    xy = (positions[..., :2] / HALF - 1) * spread
    vertex = torch.cat([xy[..., :1], -xy[..., 1:], depth], -1).detach().requires_grad_()
    features = colors_of(scene).detach().clone().requires_grad_()
    seed = shapes.cotangent(scene.batch, 3, *shapes.SIZE).to(vertex)
    renderer = deep3d.MeshRenderer(fov, znear=1, zfar=100, rasterize_size=shapes.SIZE[0])
    faces = scene.topology.faces

    def call():
        mask, depth, image = renderer(vertex, faces, feat=features)
        return mask, depth, image, *torch.autograd.grad(image, (vertex, features), seed)

    return call


def deca_call(scene):
    """DECA's coordinates; colours gathered per face, as its callers do. Forward + backward."""
    positions = scene.camera.project(scene.vertices)
    vertices = torch.cat([positions[..., :2] / HALF - 1, positions[..., 2:]], -1).detach().requires_grad_()
    faces = scene.topology.faces.long().expand(scene.batch, -1, -1)
    colors = colors_of(scene).detach().clone().requires_grad_()
    seed = shapes.cotangent(scene.batch, 4, *shapes.SIZE).to(vertices)
    rasterizer = deca.Pytorch3dRasterizer(shapes.SIZE[0])

    def call():
        attributes = colors[:, scene.topology.faces.long()]  # [B, F, 3, 3]
        image = rasterizer(vertices, faces, attributes)
        return image, *torch.autograd.grad(image, (vertices, colors), seed)

    return call


@FEW
def test_nvdiffrast(race, place, mesh, batch):
    def peers(scene):
        if place.device != "cuda" or not has("nvdiffrast"):
            return {}
        import nvdiffrast.torch as upstream

        return {"nvdiffrast": Peer(batch, lambda: nvdiffrast_call(scene, upstream))}

    title = f"compat.nvdiffrast rasterize + interpolate, forward + backward, {mesh}, batch {batch}"
    run(race, place, batch, title, lambda scene: nvdiffrast_call(scene, dr), peers)
    if "nvdiffrast" in race.ratios:
        race.reach("compat.nvdiffrast/cuda", race.ratios["nvdiffrast"])


@FEW
def test_deep3d(race, place, mesh, batch):
    run(race, place, batch, f"compat.deep3d forward + backward, {mesh}, batch {batch}", deep3d_call)


@FEW
def test_deca(race, place, mesh, batch):
    run(
        race,
        place,
        batch,
        f"compat.deca and the gather of its attributes, forward + backward, {mesh}, batch {batch}",
        deca_call,
    )
