"""Topology: its checks, its table from vertices to corners, copies and moves."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from meshes import generator, sphere, topology
from torch._subclasses.fake_tensor import FakeTensorMode

import focus_kernels as fk


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_table_of_corners(dtype):
    faces = torch.randint(12, (30, 3), generator=generator(0)).to(dtype)  # vertex numbers repeat within faces
    mesh = fk.Topology(faces, 14)
    assert (mesh.num_faces, mesh.num_vertices, mesh.device) == (30, 14, torch.device("cpu"))
    for tensor, shape in ((mesh.faces, (30, 3)), (mesh.offsets, (15,)), (mesh.corners, (90,))):
        assert tensor.dtype == torch.int32 and tensor.shape == shape and tensor.is_contiguous()
    assert mesh.faces.equal(faces.int())
    for v in range(14):
        mine = mesh.corners[mesh.offsets[v] : mesh.offsets[v + 1]].tolist()
        assert mine == [corner for corner in range(90) if faces.reshape(-1)[corner] == v]


def test_table_of_opposite_corners():
    """Against a loop; few vertices, so that edges have any number of faces, in both directions."""
    faces = torch.randint(6, (25, 3), generator=generator(2))
    mesh = fk.Topology(faces, 6)
    assert mesh.opposite.dtype == torch.int32 and mesh.opposite.shape == (75,)
    rows = faces.tolist()
    edge = [(rows[c // 3][(c + 1) % 3], rows[c // 3][(c + 2) % 3]) for c in range(75)]
    want = []
    for c, (a, b) in enumerate(edge):
        others = [d for d in range(75) if d != c and sorted(edge[d]) == sorted((a, b))]
        want.append(others[0] if len(others) == 1 and a != b and edge[others[0]] == (b, a) else -1)
    assert mesh.opposite.tolist() == want and 0 < sum(c >= 0 for c in want) < 50
    vertices, faces = sphere(5)
    opposite = fk.Topology(faces, len(vertices)).opposite.long()
    assert (opposite >= 0).all() and opposite[opposite].equal(torch.arange(3 * len(faces)))


def test_table_of_opposite_corners_is_made_once_and_for_good():
    vertices, faces = sphere(4)
    want = fk.Topology(faces, len(vertices)).opposite
    mesh = fk.Topology(faces, len(vertices))
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert mesh.opposite.shape == want.shape
    with torch.inference_mode():
        assert mesh.opposite.equal(want)
    assert mesh.opposite is mesh.opposite and not mesh.opposite.is_inference()
    torch.compiler.reset()
    mesh = fk.Topology(faces, len(vertices))
    double = torch.compile(lambda mesh: 2 * mesh.opposite, fullgraph=True, backend="aot_eager")
    assert double(mesh).equal(2 * want) and mesh.opposite.equal(want)
    assert pickle.loads(pickle.dumps(mesh)).opposite.equal(want) and type(mesh.opposite) is torch.Tensor


def test_faces_are_a_copy():
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    mesh = fk.Topology(faces, 3)
    faces[0, 0] = 99
    assert mesh.faces.tolist() == [[0, 1, 2]]


def test_strided_faces():
    wide = torch.randint(9, (3, 20), generator=generator(1))
    mesh = fk.Topology(wide.T, 9)
    assert mesh.faces.is_contiguous() and mesh.faces.equal(wide.T.int())
    expanded = fk.Topology(torch.tensor([[0, 1, 2]]).expand(4, 3), 3)
    assert expanded.faces.is_contiguous() and expanded.corners.tolist() == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]


@pytest.mark.parametrize("V", [0, 7])
def test_no_faces(V):
    mesh = topology(torch.zeros(0, 3).long(), V)
    assert mesh.num_faces == 0 and mesh.offsets.tolist() == [0] * (V + 1) and mesh.corners.shape == (0,)


def same(one: fk.Topology, other: fk.Topology) -> bool:
    tensors = all(
        getattr(one, name).equal(getattr(other, name)) for name in ("faces", "offsets", "corners", "opposite")
    )
    return tensors and (one.num_faces, one.num_vertices) == (other.num_faces, other.num_vertices)


def test_copies_and_files(tmp_path):
    vertices, faces = sphere(4)
    mesh = fk.Topology(faces, len(vertices))
    for other in (copy.copy(mesh), copy.deepcopy(mesh), pickle.loads(pickle.dumps(mesh))):
        assert same(mesh, other)
    buffer = io.BytesIO()
    torch.save(mesh, buffer)
    buffer.seek(0)
    assert same(mesh, torch.load(buffer, weights_only=False))
    positions = torch.rand(1, len(vertices), 3) * 8 + 1
    want = fk.rasterize(positions, mesh, (8, 8), cull=None)
    got = fk.rasterize(positions, pickle.loads(pickle.dumps(mesh)), (8, 8), cull=None)
    assert got.face_index.equal(want.face_index)


def test_to():
    mesh = topology([[0, 1, 2]], 3)
    assert mesh.to("cpu") is mesh and mesh.to(torch.device("cpu")) is mesh
    there = mesh.to("meta")
    assert there.device.type == "meta" and there.num_faces == 1 and there.num_vertices == 3
    assert {getattr(there, name).device for name in ("faces", "offsets", "corners", "opposite")} == {
        torch.device("meta")
    }
    if torch.cuda.is_available():
        assert same(mesh, mesh.to("cuda").to("cpu"))


def test_repr():
    assert repr(topology([[0, 1, 2]], 3)) == "Topology(num_faces=1, num_vertices=3, device='cpu')"


ERRORS = [
    ([[0, 1, 2]], 3, TypeError, "faces to be a torch.Tensor, got list"),
    (torch.zeros(1, 3), 3, TypeError, "faces to be an integer tensor, got float32"),
    (torch.zeros(1, 3, dtype=torch.bool), 3, TypeError, "faces to be an integer tensor, got bool"),
    (torch.zeros(1, 3).long(), 3.0, TypeError, "num_vertices to be an int, got float"),
    (torch.zeros(1, 3).long(), True, TypeError, "num_vertices to be an int, got bool"),
    (torch.zeros(3).long(), 3, ValueError, r"faces to be shape \[\*, 3\], got \[3\]"),
    (torch.zeros(1, 4).long(), 3, ValueError, r"faces to be shape \[\*, 3\], got \[1, 4\]"),
    (torch.zeros(2, 1, 3).long(), 3, ValueError, r"faces to be shape \[\*, 3\], got \[2, 1, 3\]"),
    (torch.tensor([[0, 1, 3]]), 3, ValueError, r"faces to be in \[0, 3\), got 3"),
    (torch.tensor([[0, -1, 2]]), 3, ValueError, r"faces to be in \[0, 3\), got -1"),
    (torch.tensor([[0, 2**40, 2]]), 3, ValueError, r"faces to be in \[0, 3\), got 1099511627776"),
    (torch.zeros(1, 3).long(), 0, ValueError, r"faces to be in \[0, 0\), got 0"),
    (torch.zeros(0, 3).long(), -1, ValueError, r"num_vertices to be in \[0, 2147483647\], got -1"),
    (torch.zeros(0, 3).long(), 2**31, ValueError, r"num_vertices to be in \[0, 2147483647\], got 2147483648"),
    (torch.zeros(1, 1, dtype=torch.uint8).expand(715827883, 3), 1, ValueError, "faces to be at most 715827882 rows"),
]


@pytest.mark.parametrize("faces, num_vertices, kind, message", ERRORS)
def test_errors(faces, num_vertices, kind, message):
    with pytest.raises(kind, match=r"Topology\(\): expected " + message):
        fk.Topology(faces, num_vertices)


def test_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        topology = fk.Topology(torch.tensor([[0, 1, 2]]), 3)
    positions = torch.tensor([[[0.0, 0, 1], [0, 8, 1], [8, 0, 1]]], requires_grad=True)
    depth = fk.rasterize(positions, topology, (8, 8)).depth
    assert torch.autograd.grad(depth.sum(), positions)[0].isfinite().all()


def test_integers_of_numpy():
    topology = fk.Topology(torch.tensor([[0, 1, 2]]), np.int64(3))
    assert type(topology.num_vertices) is int
    assert fk.rasterize(torch.zeros(1, 3, 3), topology, (np.int32(4), np.int64(5))).depth.shape == (1, 4, 5)
