"""`Meshes` against its definitions written out one face or vertex at a time in float64.

Where PyTorch3D itself imports, the tests of shared behaviour run on it as well.
"""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from pytorch3d_meshes import batch, library, part

from focus_kernels.compat.pytorch3d import Meshes, TexturesVertex


@pytest.fixture(params=["ours", "pytorch3d"])
def lib(request):
    return library(request.param)


def crosses(verts, faces):
    return [np.cross(verts[b] - verts[a], verts[c] - verts[a]) for a, b, c in faces]


def normals_by_rule(verts, faces):
    """Sums of cross products over max(length, 1e-6), one vertex at a time."""
    verts, faces = verts.double().numpy(), faces.tolist()
    sums = np.zeros_like(verts)
    for cross, corners in zip(crosses(verts, faces), faces, strict=True):
        for corner in corners:
            sums[corner] += cross
    return np.array([total / max(np.linalg.norm(total), 1e-6) for total in sums])


def test_vertex_normals(lib):
    verts, faces = batch()
    meshes = lib.Meshes(verts, faces)
    expected = [normals_by_rule(v, f) for v, f in zip(verts, faces, strict=True)]
    assert np.linalg.norm(expected[2], axis=1).min() == 0 < np.linalg.norm(expected[2], axis=1).max() < 0.9
    # float32 sums of a few products of the order of 1; the short normals of the small mesh are relative to 1e-6
    np.testing.assert_allclose(meshes.verts_normals_packed().numpy(), np.concatenate(expected), atol=5e-6)
    for ours, rule in zip(meshes.verts_normals_list(), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), rule, atol=5e-6)
    padded = meshes.verts_normals_padded()
    assert padded.shape == (3, 9, 3) and not padded[0, 6:].any()
    assert torch.equal(padded[1, :4], meshes.verts_normals_list()[1])


def test_face_normals_and_areas(lib):
    verts, faces = batch()
    faces[0] = torch.cat([faces[0], torch.tensor([[1, 1, 2]])])  # no area
    meshes = lib.Meshes(verts, faces)
    cross = [crosses(v.double().numpy(), f.tolist()) for v, f in zip(verts, faces, strict=True)]
    lengths = [np.linalg.norm(c, axis=1) for c in cross]
    expected = [c / np.maximum(n, 1e-6)[:, None] for c, n in zip(cross, lengths, strict=True)]
    assert lengths[2].min() < 1e-6 < lengths[0][:-1].min()
    # a cross product of the order of 1 loses a few digits of float32
    np.testing.assert_allclose(meshes.faces_normals_packed().numpy(), np.concatenate(expected), atol=5e-6)
    np.testing.assert_allclose(meshes.faces_areas_packed().numpy(), np.concatenate(lengths) / 2, rtol=1e-5, atol=1e-12)
    padded = meshes.faces_normals_padded()
    assert padded.shape == (3, 8, 3) and not padded[1, 1:].any()
    assert torch.equal(padded[0, :6], meshes.faces_normals_list()[0])


@pytest.mark.parametrize("scale", [1.0, 5e-4])
def test_gradients_of_normals_and_areas(scale):
    verts, faces = part(3, 7, 6, scale)
    verts = verts.double().requires_grad_()

    def outputs(v):
        meshes = Meshes([v], [faces])
        return meshes.verts_normals_packed(), meshes.faces_normals_packed(), meshes.faces_areas_packed() / scale

    lengths = np.linalg.norm(normals_by_rule(verts.detach(), faces), axis=1)
    assert (lengths[:-1].min() < 0.9) == (scale < 1)  # the small mesh is below the smallest divisor
    # the step is small beside the mesh; the derivatives are of the order of 1 / scale
    assert torch.autograd.gradcheck(outputs, (verts,), eps=1e-6 * scale, atol=1e-3, rtol=1e-3)


def test_gradients_of_degenerate_faces_are_finite():
    verts = torch.zeros(4, 3, requires_grad=True)
    meshes = Meshes([verts], [torch.tensor([[0, 1, 2], [1, 1, 1]])])
    total = (
        meshes.verts_normals_packed().sum() + meshes.faces_normals_packed().sum() + meshes.faces_areas_packed().sum()
    )
    total.backward()
    assert verts.grad.isfinite().all()


def test_given_normals(lib):
    verts, faces = batch()
    given = [torch.full_like(v, i) for i, v in enumerate(verts)]
    meshes = lib.Meshes(verts, faces, verts_normals=given)
    assert meshes.has_verts_normals() and torch.equal(meshes.verts_normals_packed(), torch.cat(given))
    assert torch.equal(meshes.offset_verts(torch.ones(3)).verts_normals_packed(), torch.cat(given))
    moved = meshes.offset_verts(torch.rand(19, 3, generator=torch.Generator().manual_seed(0)))
    rule = [normals_by_rule(v, f) for v, f in zip(moved.verts_list(), faces, strict=True)]
    np.testing.assert_allclose(moved.verts_normals_packed().numpy(), np.concatenate(rule), atol=5e-6)


def test_given_normals_follow_indexing_and_extension():
    verts, faces = batch()
    given = torch.arange(81.0).view(3, 9, 3)
    meshes = Meshes(verts, faces, verts_normals=given)
    assert torch.equal(meshes[1].verts_normals_packed(), given[1, :4])
    assert torch.equal(meshes.extend(2)[5].verts_normals_packed(), given[2])
    assert torch.equal(meshes.detach().clone()[0].verts_normals_packed(), given[0, :6])


def test_padding_of_faces(lib):
    verts = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([[[0, 1, 2], [1, 2, 3]], [[3, 2, 1], [-1, -1, -1]]])
    for faces in (rows, rows.int()):
        meshes = lib.Meshes(verts, faces)
        assert [f.tolist() for f in meshes.faces_list()] == [[[0, 1, 2], [1, 2, 3]], [[3, 2, 1]]]
        assert meshes.faces_packed().tolist() == [[0, 1, 2], [1, 2, 3], [7, 6, 5]]
        assert meshes.faces_packed().dtype == torch.int64
        assert meshes.valid.tolist() == [True, True] and not meshes.equisized
    listed = lib.Meshes(list(verts), [rows[0], rows[1].flip(0)])  # in a list they may be anywhere
    assert listed.faces_list()[1].tolist() == [[3, 2, 1]]
    with pytest.raises(ValueError, match="end"):
        lib.Meshes(verts, rows.flip(1))


def test_expanded_faces_are_one_tensor():
    faces = torch.tensor([[0, 1, 2], [2, 1, 3]], dtype=torch.int32)
    meshes = Meshes(torch.rand(3, 4, 3), faces.expand(3, -1, -1))
    assert len({f.data_ptr() for f in meshes.faces_list()}) == 1
    assert meshes.faces_packed().tolist() == [(f + 4 * i).tolist() for i in range(3) for f in faces]


def test_verts_padded_to_packed_idx(lib):
    meshes = lib.Meshes(*batch())
    rows = meshes.verts_padded_to_packed_idx()
    assert torch.equal(meshes.verts_padded().view(-1, 3)[rows], meshes.verts_packed())


INDICES = {
    "int": (1, [1]),
    "negative": (-1, [2]),
    "slice": (slice(None, None, 2), [0, 2]),
    "list": ([2, 0, 2], [2, 0, 2]),
    "tensor": (torch.tensor([1, 0]), [1, 0]),
    "mask": (torch.tensor([True, False, True]), [0, 2]),
}


@pytest.mark.parametrize("kind", INDICES)
def test_indexing(lib, kind):
    index, expected = INDICES[kind]
    verts, faces = batch()
    features = [torch.rand(len(v), 2) for v in verts]
    chosen = lib.Meshes(verts, faces, lib.TexturesVertex(features))[index]
    assert len(chosen) == len(expected)
    for i, number in enumerate(expected):
        assert torch.equal(chosen.verts_list()[i], verts[number]) and torch.equal(chosen.faces_list()[i], faces[number])
        assert torch.equal(chosen.textures.verts_features_list()[i], features[number])


def test_indices_that_are_refused():
    meshes = Meshes(*batch())
    for index in (3, -4, [0, 7], 1.0, "0", None, torch.tensor([0.0]), torch.tensor([[0]]), torch.tensor([True])):
        with pytest.raises(IndexError, match=r"Meshes\[\]: expected"):
            meshes[index]
    assert len(meshes[[]]) == 0 and len(meshes[1:1]) == 0


def test_copies(lib):
    verts, faces = batch()
    leaves = [v.clone().requires_grad_() for v in verts]
    meshes = lib.Meshes(leaves, faces, lib.TexturesVertex([v * 2 for v in leaves]))
    detached, cloned = meshes.detach(), meshes.clone()
    assert not detached.verts_packed().requires_grad and not detached.textures.verts_features_packed().requires_grad
    assert torch.equal(detached.verts_packed(), meshes.verts_packed())
    assert cloned.verts_list()[0].data_ptr() != leaves[0].data_ptr()
    (cloned.verts_packed().sum() + cloned.textures.verts_features_packed().sum()).backward()
    assert all(torch.equal(v.grad, torch.full_like(v, 3)) for v in leaves)
    assert meshes.to("cpu") is meshes and meshes.cpu() is meshes
    assert torch.equal(meshes.to("cpu", copy=True).verts_packed(), meshes.verts_packed())
    assert meshes.to("cpu", copy=True) is not meshes


def test_extend_and_split(lib):
    verts, faces = batch()
    meshes = lib.Meshes(verts, faces, lib.TexturesVertex([v[:, :1] for v in verts])).extend(2)
    assert [len(v) for v in meshes.verts_list()] == [6, 6, 4, 4, 9, 9]
    assert torch.equal(meshes.faces_list()[3], faces[1])
    assert torch.equal(meshes.textures.verts_features_list()[4], verts[2][:, :1])
    assert [len(group) for group in meshes.split([1, 3, 2])] == [1, 3, 2]
    assert torch.equal(meshes.split([1, 3, 2])[2].verts_list()[0], verts[2])


def test_offset_and_scale(lib):
    verts, faces = batch()
    meshes = lib.Meshes(verts, faces)
    offsets = torch.arange(57.0).view(19, 3)
    assert torch.equal(meshes.offset_verts(offsets).verts_packed(), torch.cat(verts) + offsets)
    assert torch.equal(meshes.offset_verts(offsets[1]).verts_padded()[1, :4], verts[1] + offsets[1])
    assert torch.equal(meshes.scale_verts(2.0).verts_packed(), torch.cat(verts) * 2)
    factors = torch.tensor([1.0, -2.0, 4.0])
    assert torch.equal(meshes.scale_verts(factors).verts_list()[1], verts[1] * -2)
    assert torch.equal(meshes.verts_packed(), torch.cat(verts))  # those were copies
    assert meshes.scale_verts_(0.5) is meshes and meshes.offset_verts_(offsets) is meshes
    assert torch.equal(meshes.verts_packed(), torch.cat(verts) * 0.5 + offsets)
    assert torch.equal(meshes.verts_padded()[2], verts[2] * 0.5 + offsets[10:])


def test_padded_vertices_follow_changes_in_place(lib):
    verts = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(4))
    for change, expected in (
        (lambda meshes: meshes.offset_verts_(torch.ones(3)), verts + 1),
        (lambda meshes: meshes.scale_verts_(3.0), verts * 3),
    ):
        meshes = lib.Meshes(verts.clone(), torch.tensor([[[0, 1, 2]]]).expand(2, -1, -1))
        assert torch.equal(meshes.verts_padded(), verts)
        change(meshes)
        assert torch.equal(meshes.verts_padded(), expected)
        assert torch.equal(meshes.verts_packed(), expected.view(-1, 3))


def test_normals_follow_an_offset_in_place(lib):
    verts, faces = part(5, 6, 5)
    meshes = lib.Meshes([verts], [faces])
    meshes.verts_normals_packed(), meshes.faces_areas_packed()
    meshes.offset_verts_(torch.rand(6, 3, generator=torch.Generator().manual_seed(1)))
    rule = normals_by_rule(meshes.verts_packed(), faces)
    np.testing.assert_allclose(meshes.verts_normals_packed().numpy(), rule, atol=5e-6)


def test_update_padded(lib):
    verts, faces = batch()
    textures = lib.TexturesVertex([v[:, :2] for v in verts])
    meshes = lib.Meshes(verts, faces, textures)
    new = torch.rand(3, 9, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
    updated = meshes.update_padded(new)
    assert torch.equal(updated.verts_padded(), new) and torch.equal(updated.faces_packed(), meshes.faces_packed())
    assert updated.textures is textures
    updated.verts_packed().sum().backward()
    assert torch.equal(new.grad[:, :, 0].sum(1), torch.tensor([6.0, 4.0, 9.0]))


def test_bounding_boxes(lib):
    verts, faces = batch()
    boxes = lib.Meshes(verts, faces).get_bounding_boxes()
    expected = [[[min(row), max(row)] for row in v.t().tolist()] for v in verts]
    assert boxes.tolist() == expected


def test_joining(lib):
    verts, faces = batch()
    one, two = (
        lib.Meshes(v, f, lib.TexturesVertex([x[:, :1] for x in v]))
        for v, f in ((verts[:1], faces[:1]), (verts[1:], faces[1:]))
    )
    joined = lib.join_meshes_as_batch([one, two])
    assert torch.equal(joined.faces_packed(), lib.Meshes(verts, faces).faces_packed()) and len(joined) == 3
    assert torch.equal(joined.textures.verts_features_packed(), torch.cat(verts)[:, :1])
    scene = lib.join_meshes_as_scene([one, two])
    assert len(scene) == 1 and torch.equal(scene.faces_packed(), joined.faces_packed())
    assert torch.equal(scene.textures.verts_features_packed(), torch.cat(verts)[:, :1])
    assert lib.join_meshes_as_batch([one, two], include_textures=False).textures is None
    with pytest.raises(ValueError, match="extures"):
        lib.join_meshes_as_batch([one, lib.Meshes(verts, faces)])
    with pytest.raises((TypeError, ValueError)):
        lib.join_meshes_as_batch(one)


def test_what_is_not_here_says_so():
    meshes = Meshes(*batch())
    with pytest.raises(AttributeError, match=r"Meshes\.laplacian_packed is PyTorch3D's and not part of this drop-in"):
        meshes.laplacian_packed()
    with pytest.raises(AttributeError, match="'Meshes' object has no attribute 'vertices'"):
        _ = meshes.vertices
    with pytest.raises(AttributeError, match=r"TexturesVertex\.submeshes is PyTorch3D's"):
        TexturesVertex([torch.zeros(2, 3)]).submeshes([], [])
    assert not hasattr(meshes, "edges_packed")


def test_copy_and_pickle():
    verts, faces = batch()
    meshes = Meshes(verts, faces, TexturesVertex([v[:, :1] for v in verts]))
    for again in (copy.deepcopy(meshes), pickle.loads(pickle.dumps(meshes))):
        assert torch.equal(again.verts_packed(), meshes.verts_packed())
        assert torch.equal(again.textures.verts_features_packed(), meshes.textures.verts_features_packed())


def test_nothing():
    empty = Meshes([], [], TexturesVertex(torch.zeros(0, 0, 3)))
    assert len(empty) == 0 and empty.isempty() and not empty.equisized
    assert empty.verts_normals_packed().shape == (0, 3) and empty.verts_normals_padded().shape == (0, 0, 3)
    assert empty.faces_normals_padded().shape == (0, 0, 3) and empty.get_bounding_boxes().shape == (0, 3, 2)
    assert empty.textures.verts_features_packed().shape == (0, 3)
    assert len(empty.clone()) == len(empty.extend(3)) == len(empty.detach()) == 0
    without = Meshes([torch.rand(3, 3)], [torch.zeros(0, 3, dtype=torch.int64)])
    assert not without.verts_normals_packed().any() and without.faces_areas_packed().shape == (0,)


def test_devices(device):
    verts, faces = batch()
    meshes = Meshes(verts, faces, TexturesVertex([v[:, :1] for v in verts])).to(device)
    assert meshes.device.type == meshes.textures.device.type == meshes.verts_packed().device.type == device
    rule = np.concatenate([normals_by_rule(v, f) for v, f in zip(verts, faces, strict=True)])
    np.testing.assert_allclose(meshes.verts_normals_packed().cpu().numpy(), rule, atol=5e-6)
    assert meshes.textures.verts_features_packed().device.type == device


def test_gradients_of_normals_do_not_depend_on_threads():
    # a mesh so fine that its normals are shorter than 1e-6, and so large that torch would share a scattered sum
    side, threads = 120, torch.get_num_threads()
    step = torch.linspace(0, 0.06, side)
    grid = torch.stack([*torch.meshgrid(step, step, indexing="ij"), torch.zeros(side, side)], -1).view(-1, 3)
    grid = grid + 1e-4 * torch.rand(grid.shape, generator=torch.Generator().manual_seed(2))
    corner = torch.arange(side * side).view(side, side)[:-1, :-1].reshape(-1)
    faces = torch.cat([corner + torch.tensor(c)[:, None] for c in ((0, 1, side), (1, side + 1, side))], 1).T
    grads = []
    try:
        for count in (1, 4, 4):
            torch.set_num_threads(count)
            leaf = grid.clone().requires_grad_()
            normals = Meshes([leaf], [faces]).verts_normals_packed()
            assert (normals.norm(dim=1) < 0.999).any()
            grads.append(torch.autograd.grad((normals * grid).sum(), leaf)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(grads[0], grads[1]) and torch.equal(grads[1], grads[2]) and grads[0].any()


def test_signatures():
    parameters = inspect.signature(Meshes.__init__).parameters
    assert list(parameters)[1:] == ["verts", "faces", "textures", "verts_normals"]
    assert parameters["textures"].default is None and parameters["verts_normals"].kind is inspect.Parameter.KEYWORD_ONLY
    assert list(inspect.signature(TexturesVertex.__init__).parameters)[1:] == ["verts_features"]
    sample = inspect.signature(TexturesVertex.sample_textures).parameters
    assert list(sample)[1:] == ["fragments", "faces_packed"] and sample["faces_packed"].default is None


def test_errors():
    verts, faces = batch()
    meshes = Meshes(verts, faces)

    def fails(kind, message, function, *arguments, **named):
        with pytest.raises(kind, match=message):
            function(*arguments, **named)

    fails(TypeError, "expected textures to be a TexturesVertex or None, got Tensor", Meshes, verts, faces, verts[0])
    few = TexturesVertex([torch.rand(5, 3)])
    fails(ValueError, "textures to be for 3 meshes of at most 9 vertices", Meshes, verts, faces, few)
    fails(ValueError, "verts_normals to be 3 meshes", Meshes, verts, faces, verts_normals=verts[:1])
    fails(ValueError, "verts_normals to be shape", Meshes, verts, faces, verts_normals=verts[::-1])
    fails(ValueError, r"vert_offsets_packed to be shape \[3\] or \[19, 3\]", meshes.offset_verts, torch.zeros(4, 3))
    fails(TypeError, "vert_offsets_packed to be a torch.Tensor", meshes.offset_verts, 1.0)
    fails(TypeError, "vert_offsets_packed to be float32", meshes.offset_verts, torch.zeros(3).double())
    fails(ValueError, r"scale to be shape \[3\]", meshes.scale_verts, torch.ones(2))
    fails(TypeError, "scale to be a number or a tensor", meshes.scale_verts, "2")
    fails(ValueError, r"new_verts_padded to be shape \[3, 9, 3\]", meshes.update_padded, torch.zeros(3, 8, 3))
    fails(ValueError, "N to be > 0", meshes.extend, 0)
    fails(TypeError, "N to be an int", meshes.extend, 1.5)
    fails(ValueError, "split_sizes to be ints >= 0", meshes.split, [1, -1])
    fails(ValueError, "textures to be given", meshes.sample_textures, None)
    fails(ValueError, "one without", Meshes([torch.zeros(0, 3)], [faces[0][:0]]).get_bounding_boxes)
