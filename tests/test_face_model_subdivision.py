"""Loop subdivision against its rules written out one vertex at a time."""

import numpy as np
import pytest
from face_models import grid, loop_by_the_book

from focus.face_model.subdivision import loop_subdivision, subdivide, subdivide_symmetry

MESHES = {
    "tetrahedron": (np.array([(0, 1, 2), (0, 3, 1), (0, 2, 3), (1, 3, 2)]), 4),
    "one triangle": (np.array([(0, 1, 2)]), 3),
    "sheet": (grid(5, 6)[1], 30),
    "vertex without a face": (np.array([(0, 1, 3), (1, 4, 3)]), 6),
    "two fans that meet in a vertex": (np.array([(0, 1, 2), (0, 3, 4)]), 5),
    "edge with three faces": (np.array([(0, 1, 2), (1, 0, 3), (0, 1, 4)]), 5),
}


@pytest.mark.parametrize("name", MESHES)
def test_loop_weights_are_those_of_the_book(name):
    faces, V = MESHES[name]
    step = loop_subdivision(faces, V)
    weights, new_faces = loop_by_the_book(faces, V)
    # The same arithmetic in float64: only the order of a sum of two weights may differ.
    np.testing.assert_allclose(step.matrix.toarray(), weights, rtol=0, atol=2e-16)
    np.testing.assert_array_equal(step.faces, new_faces)


def test_regular_interior_vertices_stay_on_a_plane_wave():
    """On a regular grid Loop's scheme is linear precision: a linear function of the vertices is kept."""
    vertices, faces = grid(8, 8, mirrored=False)
    step = loop_subdivision(faces, 64)
    plane = vertices[:, :2] @ [2.0, -3.0]
    fine = step.matrix @ plane
    middle = plane[step.edges].mean(axis=1)
    np.testing.assert_allclose(fine[64:], middle, atol=1e-12)  # rounding of numbers up to 200
    inner = np.abs(vertices[:, :2]).max(axis=1) < 34
    np.testing.assert_allclose(fine[:64][inner], plane[inner], atol=1e-12)


def test_subdivide_treats_every_component_alike():
    faces, V = MESHES["sheet"]
    steps = [loop_subdivision(faces, V)]
    steps.append(loop_subdivision(steps[0].faces, steps[0].matrix.shape[0]))
    basis = np.random.default_rng(0).normal(size=(3, V, 3)).astype(np.float16)
    fine = subdivide(basis, steps, np.dtype(np.float64))
    dense = steps[1].matrix.toarray() @ steps[0].matrix.toarray()
    np.testing.assert_allclose(fine, np.einsum("wv,kvc->kwc", dense, basis.astype(np.float64)), atol=1e-14)
    assert subdivide(basis[:0], steps, np.dtype(np.float32)).shape == (0, len(dense), 3)
    np.testing.assert_array_equal(subdivide(basis, [], np.dtype(np.float32)), basis.astype(np.float32))


@pytest.mark.parametrize("mirrored", [True, False], ids=["mirrored diagonals", "like diagonals"])
def test_symmetry_of_finer_levels(mirrored):
    vertices, faces = grid(5, 7, mirrored)
    symmetry = np.arange(35).reshape(5, 7)[:, ::-1].reshape(-1)
    step = loop_subdivision(faces, 35)
    fine = step.matrix @ vertices
    result = subdivide_symmetry(symmetry, step, fine)
    error = np.linalg.norm(fine[result] - fine * [-1, 1, 1], axis=1)
    # The middles of unlike diagonals differ by the bulge of the sheet, not by a grid step of 5 mm.
    assert error.max() < (1e-9 if mirrored else 2)
    np.testing.assert_array_equal(result[result], np.arange(len(fine)))
