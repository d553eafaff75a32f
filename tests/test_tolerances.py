"""The assertions themselves: each passes what is legal and fails what is not."""

import pytest
import torch
from meshes import scene, topology, triangles
from tolerances import assert_as_accurate, assert_rounding_only, assert_same_bits, assert_same_faces, margin

import focus_kernels as fk


def test_as_accurate():
    exact = torch.linspace(0.1, 1, 100, dtype=torch.float64) ** 2
    plain = torch.linspace(0.1, 1, 100) ** 2
    assert_as_accurate(exact.float(), plain, exact)
    assert_as_accurate(plain, plain, exact)
    wrong = plain.clone()
    wrong[3] += 1e-6
    with pytest.raises(AssertionError, match="largest error"):
        assert_as_accurate(wrong, plain, exact)
    outlier = plain.clone()
    outlier[7] += 1e-3
    assert_as_accurate(outlier, outlier, exact)
    with pytest.raises(AssertionError, match="mean error"):  # as far off as the worst value, but everywhere
        assert_as_accurate(plain + 1e-3, outlier, exact)
    wrong[3] = torch.nan
    with pytest.raises(AssertionError, match="not finite"):
        assert_as_accurate(wrong, plain, exact)


def test_rounding_only():
    exact = torch.linspace(0.1, 1, 100, dtype=torch.float64)
    plain = exact.float()
    assert_rounding_only(exact * (1 + 2e-16), exact, plain)
    with pytest.raises(AssertionError, match="largest error"):
        assert_rounding_only(exact * (1 + 1e-14), exact, plain)


def test_same_bits():
    nan = torch.tensor([torch.nan, 0.0])
    assert_same_bits(nan, nan.clone())
    with pytest.raises(AssertionError, match="1 of 2 values differ"):
        assert_same_bits(nan, torch.tensor([torch.nan, -0.0]))
    for dtype in (torch.float16, torch.bfloat16):
        assert_same_bits(nan.to(dtype), torch.tensor([-torch.nan, 0.0], dtype=dtype))
        with pytest.raises(AssertionError, match="1 of 2 values differ"):
            assert_same_bits(nan.to(dtype), torch.tensor([torch.nan, -0.0], dtype=dtype))


@pytest.fixture(scope="module")
def drawing():
    size = (40, 50)
    tensors = scene(2, 2, 8, size)
    positions = fk.Camera(tensors["K"], tensors["R"], tensors["t"]).project(tensors["vertices"])
    mesh = topology(tensors["faces"], positions.shape[1])
    return positions, mesh, size, fk.rasterize(positions, mesh, size)


def same_faces(drawing, got, want, edge=1e-3, depth=1e-6):
    positions, mesh, _, _ = drawing
    return assert_same_faces(got, want, positions, mesh.faces, perspective=True, edge=edge, depth=depth)


def test_faces_that_are_the_same_pass(drawing):
    index = drawing[3].face_index
    assert same_faces(drawing, index, index, edge=0, depth=0).all()


def test_flips_at_moved_edges_pass_only_within_the_distance(drawing):
    positions, mesh, size, raster = drawing
    moved = fk.rasterize(positions + torch.tensor([0.02, -0.01, 0]), mesh, size).face_index
    agree = same_faces(drawing, moved, raster.face_index, edge=0.03)
    assert 0 < (~agree).sum() < 0.1 * agree.numel()
    with pytest.raises(AssertionError, match="show another face for no reason"):
        same_faces(drawing, moved, raster.face_index, edge=0.001)


def test_a_shifted_image_fails(drawing):
    index = drawing[3].face_index
    with pytest.raises(AssertionError, match="show another face for no reason"):
        same_faces(drawing, index.roll(1, 2), index, edge=0.1)


@pytest.mark.parametrize("wrong", [-1, 0])
def test_a_hole_or_a_stranger_in_the_middle_fails(drawing, wrong):
    index = drawing[3].face_index
    spoiled = index.clone()
    spoiled[0, 20, 25] = wrong
    assert index[0, 20, 25] != wrong
    with pytest.raises(AssertionError, match=r"1 of 4000 pixels .* \[\(0, 20, 25\)\]"):
        same_faces(drawing, spoiled, index, edge=0.01)


def test_depth_ties_pass_only_within_the_tolerance():
    corners = [(1, 1), (1, 9), (9, 1)]
    positions = triangles(corners * 2, [2.0] * 3 + [2.00001] * 3)
    faces = torch.arange(6).reshape(2, 3)
    near = fk.rasterize(positions, topology(faces, 6), (10, 10)).face_index
    far = torch.where(near == 0, 1, near)
    compare = lambda depth: assert_same_faces(near, far, positions, faces, perspective=True, edge=1e-6, depth=depth)
    compare(1e-5)
    with pytest.raises(AssertionError, match="show another face for no reason"):
        compare(1e-6)


def test_a_far_border_does_not_excuse_a_near_face():
    """Where a farther face ends, the nearer one that covers the sample must still be seen."""
    near, far = [(0, 0), (0, 20), (20, 0)], [(4.5, 0), (4.5, 9), (9, 0)]
    positions = triangles(near + far, [1.0] * 3 + [2.0] * 3)
    faces = torch.arange(6).reshape(2, 3)
    right = fk.rasterize(positions, topology(faces, 6), (8, 8)).face_index
    wrong = right.clone()
    wrong[0, 2, 4] = 1  # the centre (4.5, 2.5) is on the border of the far face
    with pytest.raises(AssertionError, match="1 of 64 pixels"):
        assert_same_faces(wrong, right, positions, faces, perspective=True, edge=0.1, depth=1e-6)
    swapped = triangles(near + far, [2.0] * 3 + [1.0] * 3)
    seen = fk.rasterize(swapped, topology(faces, 6), (8, 8)).face_index
    assert seen[0, 2, 4] == 1
    hidden = seen.clone()
    hidden[0, 2, 4] = 0
    assert_same_faces(hidden, seen, swapped, faces, perspective=True, edge=0.1, depth=1e-6)


def test_margin():
    positions = triangles([(1, 1), (1, 4), (4, 1)])
    faces = torch.tensor([[0, 1, 2]])
    assert margin(positions, faces, (5, 5)) == 0  # (3.5, 1.5) is on the hypotenuse x + y = 5
    assert abs(margin(positions + 0.125, faces, (5, 5)) - 0.25 / 2**0.5) < 1e-12
