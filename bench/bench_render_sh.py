"""render_sh: the fused renderer, against deodr, nvdiffrast and plain torch."""

import torch

import focus_kernels as fk

from . import check, shapes
from .peers import Deodr, DeodrScene3D, Peer, has, plain_torch
from .peers_gpu import nvdiffrast
from .race import cases
from .targets import ONE_THREAD

GRID = cases(shapes.ALL, in_two_threads=shapes.SCALING)
MAIN = cases(shapes.MAIN)
PICTURE = (3, *shapes.SIZE)


def both(scene, seed):
    """Forward and backward from the image to every input."""
    leaves = {name: value.clone().requires_grad_() for name, value in scene.inputs().items()}
    scene = shapes.Scene(scene.mesh, scene.topology, **leaves)

    def call():
        render = scene.render()
        return render, torch.autograd.grad(render.image, list(leaves.values()), seed)

    return call


def checked(mesh, batch, place):
    """Scenes to go through in turn, and the gradient of their images; the renderer is right on the first."""
    turns = shapes.turns(mesh, batch, place.device)
    seed = shapes.cotangent(batch, *PICTURE).to(place.device)
    render, grads = both(turns[0], seed)()
    check.render_sh(turns[0], render, (seed,), grads)
    return turns, seed


@GRID
def test_forward(race, place, mesh, batch):
    turns, _ = checked(mesh, batch, place)
    main = place.device == "cpu" and place.threads == 1 and (mesh, batch) in shapes.MAIN
    peers = {}
    if main and has("deodr"):
        deodr = Deodr(turns[0], silhouettes=False)
        deodr.check(turns[0])
        peers["deodr, edges off"] = deodr.forward()
    if place.device == "cuda" and has("nvdiffrast"):
        peers["nvdiffrast"] = nvdiffrast(turns[0]).forward()
    race(f"render_sh forward, {mesh}, batch {batch}", [scene.render for scene in turns], batch, peers)
    if main:
        race.reach("forward/deodr", race.ratios.get("deodr, edges off"))
    if (mesh, batch) in shapes.MAIN:
        race.reach("forward/threads", race.ratios.get(ONE_THREAD))
        if place.device == "cuda":
            race.reach("forward/cuda", race.median and 1e3 * batch * race.median, torch.cuda.get_device_name())


@GRID
def test_forward_backward(race, place, mesh, batch):
    turns, seed = checked(mesh, batch, place)
    main = place.device == "cpu" and place.threads == 1 and (mesh, batch) in shapes.MAIN
    peers, edges = {}, 0.0
    if main and has("deodr"):
        some, few = turns[0].part(slice(0, 8)), turns[0].part(slice(0, 2))  # what is not judged gets less time
        documented, plain = Deodr(turns[0], silhouettes=True), Deodr(some, silhouettes=False)
        for deodr in (documented, plain):
            deodr.check(turns[0])
        edges = documented.silhouette_edges
        peers = {
            "deodr, silhouettes": documented.both(seed),
            "deodr, edges off": plain.both(seed[: some.batch]),
            "deodr Scene3D": DeodrScene3D(few).both(seed[: few.batch]),
        }
    if place.device == "cuda" and has("nvdiffrast"):
        peers["nvdiffrast"] = nvdiffrast(turns[0]).both(seed)
    calls = [both(scene, seed) for scene in turns]
    race(f"render_sh forward + backward, {mesh}, batch {batch}", calls, batch, peers)
    if main:
        race.reach("both/deodr", race.ratios.get("deodr, silhouettes"), f"{edges:.0f} edge flags per image")
        race.reach("both/deodr without edges", race.ratios.get("deodr, edges off"))
        race.reach("both/deodr Scene3D", race.ratios.get("deodr Scene3D"))
    if (mesh, batch) in shapes.MAIN:
        race.reach("both/threads", race.ratios.get(ONE_THREAD))


@MAIN
def test_backward(race, place, mesh, batch):
    """The backward alone, on a graph that is kept."""
    turns, seed = checked(mesh, batch, place)

    def backward(scene):
        leaves = {name: value.clone().requires_grad_() for name, value in scene.inputs().items()}
        image = shapes.Scene(scene.mesh, scene.topology, **leaves).render().image
        return lambda: torch.autograd.grad(image, list(leaves.values()), seed, retain_graph=True)

    race(f"render_sh backward, {mesh}, batch {batch}", [backward(scene) for scene in turns], batch)
    if place.device == "cuda":
        race.reach("backward/cuda", race.median and 1e3 * batch * race.median, torch.cuda.get_device_name())


@cases(shapes.SMALL, in_two_threads=[])
def test_plain_torch(race, place, mesh, batch):
    """Against the definition in plain torch, which is too slow for a large mesh."""
    turns, seed = checked(mesh, batch, place)
    calls = [both(scene, seed) for scene in turns]
    name = f"render_sh forward + backward, {mesh}, batch {batch}"
    race(name, calls, batch, plain_torch(batch, calls[0]))


@cases(shapes.MAIN, in_two_threads=[])
def test_composed_of_unfused_ops(race, place, mesh, batch):
    """What fusing saves: the same image from vertex_normals, shade_sh, rasterize and interpolate."""
    turns, _ = checked(mesh, batch, place)

    def unfused(scene):
        normals = fk.vertex_normals(scene.vertices, scene.topology)
        turned = normals @ scene.R.transpose(1, 2)
        colors = fk.shade_sh(turned, scene.albedo, scene.sh_coeffs)
        raster = fk.rasterize(scene.camera.project(scene.vertices), scene.topology, shapes.SIZE)
        return fk.interpolate(colors, raster, scene.topology)

    check.same_picture(unfused(turns[0]), turns[0].render().image)
    peers = {"unfused ops": Peer(batch, lambda: lambda: unfused(turns[0]))}
    race(f"render_sh forward, {mesh}, batch {batch}", [turns[0].render], batch, peers, scaling=False)
