"""The benchmarks' way on a GPU, with stand-ins for the GPU and for the peers that need one."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from meshes import sphere, topology

import focus_kernels as fk

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import bench_shade_sh, clock, gpu, peers_gpu, shapes
from bench.race import PARAMETERS, Place
from bench.shapes import MAIN


def test_one_bad_benchmark_is_told_and_the_next_one_goes_on():
    written = []

    def wrong(race, place, mesh, batch):
        raise AssertionError("another picture")

    def without_a_package(race, place, mesh, batch):
        raise ImportError("no package")

    def good(race, place, mesh, batch):
        vertices, faces = sphere(6)
        mesh = topology(faces, len(vertices))
        race("good", [lambda: fk.vertex_normals(vertices[None], mesh)] * 2, batch)

    suite = [(function, [{"mesh": "tiny", "batch": 2}]) for function in (wrong, without_a_package, good)]
    result = gpu.run(suite, Place("cpu"), lambda result: written.append(len(result["races"])))
    assert (
        written == [0, 0, 1] and result["left_out"][f"{__name__}.without_a_package, mesh tiny, batch 2"] == "no package"
    )
    (failed,), (race,) = result["failed"], result["races"]
    assert failed["name"] == f"{__name__}.wrong, mesh tiny, batch 2" and "another picture" in failed["error"]
    assert race["title"] == "good" and race["median"] > 0 and race["images"] == 2


def test_each_benchmark_that_names_a_gpu_is_run(monkeypatch):
    """`cases` names one where there is one."""
    here, gpu_here = bench_shade_sh.test_forward, Place("cuda")
    shapes = [(Place("cpu"), "28k", 1), (gpu_here, "10k", 12), (gpu_here, *MAIN[0])]
    marks = [pytest.mark.parametrize(PARAMETERS, shapes), pytest.mark.parametrize("kind", ["a", "b"])]
    monkeypatch.setattr(here, "pytestmark", [mark.mark for mark in marks])
    ((function, rows),) = gpu.suite()
    assert function is here and [row["kind"] for row in rows] == ["a", "b", "a", "b"]
    assert [(row["mesh"], row["batch"]) for row in rows] == [*MAIN, *MAIN, ("10k", 12), ("10k", 12)]


@pytest.mark.parametrize(("needed", "sleeps"), [(0, 1), (2_000_000, 2), (1 << 60, 3)])
def test_the_host_runs_ahead_of_the_gpu(monkeypatch, needed, sleeps):
    """A call is timed again with a later start until it was queued in time; a long one is not."""
    slept, calls = [], []

    class Event:
        seconds = 0.001

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            pass

        def synchronize(self):
            pass

        def query(self):
            return slept[-1] < needed

        def elapsed_time(self, end):
            return 1e3 * self.seconds

    monkeypatch.setattr(torch.cuda, "_sleep", slept.append)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    timer = clock.Clock()
    timer.choose("cuda", 1)
    assert timer.time(lambda: calls.append(1)) == pytest.approx(0.001)
    assert len(slept) == len(calls) == sleeps
    Event.seconds = 1.0
    timer.time(lambda: calls.append(1))
    assert len(calls) == sleeps + 1


def stand_in(turned: bool) -> ModuleType:
    """nvdiffrast.torch as documented: clip coordinates, the first row at y = -1, weights of corners 0 and 1, id + 1."""

    def rasterize(context, positions, faces, resolution, grad_db):
        H, W = resolution
        x, y, z, w = positions.unbind(-1)
        row = (1 - y / w if turned else 1 + y / w) / 2 * H
        mesh = fk.Topology(faces, positions.shape[1])
        assert bool((z.abs() <= w).all())
        raster = fk.rasterize(torch.stack([(1 + x / w) / 2 * W, row, w], -1), mesh, (H, W), cull=None)
        last = (raster.face_index + 1).float()
        return torch.cat([raster.barycentrics[..., :2], raster.depth[..., None], last[..., None]], -1), None

    def interpolate(attributes, rast, faces):
        u, v = rast[..., 0], rast[..., 1]
        weights = torch.stack([u, v, 1 - u - v], -1) * (rast[..., 3:] > 0)
        raster = fk.Raster(rast[..., 3].int() - 1, weights, rast[..., 2])
        image = fk.interpolate(attributes, raster, fk.Topology(faces, attributes.shape[1]))
        return image.permute(0, 2, 3, 1), None

    module = ModuleType("nvdiffrast.torch")
    module.RasterizeCudaContext = lambda device: SimpleNamespace(device=device)
    module.rasterize, module.interpolate = rasterize, interpolate
    return module


@pytest.mark.parametrize("turned", [False, True])
def test_nvdiffrast_has_to_draw_our_picture(monkeypatch, turned):
    package = ModuleType("nvdiffrast")
    package.torch = stand_in(turned)
    monkeypatch.setitem(sys.modules, "nvdiffrast", package)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", package.torch)
    scene = shapes.scene("10k").part(slice(0, 2))
    if turned:
        with pytest.raises(AssertionError, match="other faces"):
            peers_gpu.nvdiffrast(scene)
        return
    peer = peers_gpu.nvdiffrast(scene)
    image, _ = peer.forward().prepare()()
    assert image.shape == (2, *shapes.SIZE, 3) and peer.forward().images == 2
    grads = peer.both(shapes.cotangent(2, 3, *shapes.SIZE)).prepare()()
    assert [grad.shape for grad in grads] == [peer.positions.shape, peer.colors.shape]
    assert all(bool(grad.abs().sum() > 0) for grad in grads)
