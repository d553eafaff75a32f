"""Batches of meshes for the tests of `compat.pytorch3d`, which also run on PyTorch3D itself where it imports."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from focus_kernels.compat.pytorch3d import Meshes, TexturesVertex
from focus_kernels.compat.pytorch3d.structures import join_meshes_as_batch, join_meshes_as_scene

OURS = SimpleNamespace(
    Meshes=Meshes,
    TexturesVertex=TexturesVertex,
    join_meshes_as_batch=join_meshes_as_batch,
    join_meshes_as_scene=join_meshes_as_scene,
)


def library(name):
    """The names under test, "ours" or those of "pytorch3d"; skips where that is not installed."""
    if name == "ours":
        return OURS
    pytest.importorskip("pytorch3d", reason="PyTorch3D is not installed")
    structures = importlib.import_module("pytorch3d.structures")
    if structures.Meshes is Meshes:
        pytest.skip("pytorch3d is the drop-in itself")
    return SimpleNamespace(
        Meshes=structures.Meshes,
        TexturesVertex=importlib.import_module("pytorch3d.renderer").TexturesVertex,
        join_meshes_as_batch=structures.join_meshes_as_batch,
        join_meshes_as_scene=structures.join_meshes_as_scene,
    )


def part(seed, num_verts, num_faces, scale=1.0):
    """Random triangles over random vertices, float32; the last vertex is in no face."""
    generator = torch.Generator().manual_seed(seed)
    verts = (torch.rand(num_verts, 3, generator=generator) * 2 - 1) * scale
    faces = torch.stack([torch.randperm(num_verts - 1, generator=generator)[:3] for _ in range(num_faces)])
    return verts, faces


def batch(dtype=torch.float32):
    parts = [part(0, 6, 5), part(1, 4, 1), part(2, 9, 8, scale=5e-4)]
    return [v.to(dtype) for v, _ in parts], [f for _, f in parts]
