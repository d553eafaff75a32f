"""Cuts the face out of the base mesh along a smooth line. Everything stays linear in the base mesh's vertices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from .source import BaseMesh, Source

Array = np.ndarray[Any, Any]

ORIGIN = np.array([0.0, 7.0, 0.9])  # dm, a point inside the head near which the crop is written down
BACK_OF_MOUTH = 0.25  # dm before ORIGIN, where a wall closes the mouth
SOCKET_DEPTH = 0.08  # dm before the middle of the eyeball, where the lining of the socket ends
TEETH_BACK = 0.10  # dm
SNAP = 0.4  # a vertex nearer to the crop line than this part of an edge moves onto it


@dataclass
class FaceMesh:
    """The cropped mesh: vertices = crop @ base vertices; faces [F,3] counter-clockwise from outside.

    `part` says what a vertex belongs to: one of the numbers SKIN, EYE, TEETH.
    """

    crop: sp.csr_matrix  # [V, N]
    faces: Array
    symmetry: Array  # [V]
    part: Array  # [V]
    right: Array  # [V] bool, on the subject's right in the template

    def take(self, base_values: Array) -> Array:
        """Values per base vertex [N,...] -> per face vertex [V,...]."""
        flat = self.crop @ base_values.reshape(len(base_values), -1)
        return np.asarray(flat).reshape(-1, *base_values.shape[1:])


SKIN, EYE, TEETH = 0, 1, 2
TOOTH_GROUPS = ("helper-upper-teeth", "helper-lower-teeth")
EYEBALLS = ("helper-l-eye", "helper-r-eye")


def tuck_teeth(base: BaseMesh) -> None:
    """Moves the teeth back, so that they do not shine through between closed lips."""
    base.vertices[np.unique(base.quads[np.isin(base.groups, TOOTH_GROUPS)]), 2] -= TEETH_BACK


def signed_distance(vertices: Array, inside_mouth: Array) -> Array:
    """Positive on the face, negative on ears, neck, the back of the head and deep in the mouth. [N]."""
    x, y, z = (vertices - ORIGIN).T
    around = np.arctan2(x, z + 0.45)
    ellipse = 1 - np.abs((y + 0.03) / 1.14) ** 2.3 - np.abs(around / 1.31) ** 2.3
    under_chin = (z + 1.1 * y + 0.67) / 0.6
    sharpness = 8.0
    smooth_min = -np.logaddexp(-sharpness * ellipse, -sharpness * under_chin) / sharpness
    return np.where(inside_mouth, z - BACK_OF_MOUTH, smooth_min)


def crop_face(base: BaseMesh, template: Array, source: Source) -> FaceMesh:
    """The face of `template` [N,3] (dm), with the fronts of eyeballs and teeth and a closed mouth cavity."""
    groups = base.groups
    centre = template[base.quads].mean(axis=1)
    body = groups == "body"
    mouth = base.inside_mouth(source)
    near = (np.abs(centre - ORIGIN) < [0.95, 1.45, 1.2]).all(axis=1)

    eye = np.zeros(len(groups), bool)
    for group in EYEBALLS:
        ids = np.unique(base.quads[groups == group])
        middle = (template[ids, 2].min() + template[ids, 2].max()) / 2
        eye |= (groups == group) & (centre[:, 2] > middle + 0.03)
    normal = np.cross(*(template[base.quads[:, [2, 3]]] - template[base.quads[:, [0, 1]]]).transpose(1, 0, 2))
    teeth = np.isin(groups, TOOTH_GROUPS)
    teeth &= (normal[:, 2] > 0.5 * np.abs(normal[:, 1])) & (np.abs(centre[:, 0]) < 0.20)

    skin = _triangulate(base.quads[body & near], template)
    distance = signed_distance(template, mouth)
    for group in EYEBALLS:
        distance = np.minimum(distance, _before_socket(template, np.unique(base.quads[groups == group])))
    distance = (distance + distance[base.mirror]) / 2
    rest = _triangulate(base.quads[eye | teeth], template)
    crop, faces, kept = _clip(skin, rest, distance, template)

    positions = crop @ template
    keep = np.ones(len(faces), bool)
    on_skin = np.unique(faces[kept])
    nose_tip = on_skin[np.argmax(positions[on_skin, 2])]
    keep &= _component_of(faces, keep, int(nose_tip), kept)
    used = np.unique(faces[keep])
    renumber = np.full(crop.shape[0], -1)
    renumber[used] = np.arange(len(used))
    crop, faces = crop[used], renumber[faces[keep]]
    crop, faces = _close_mouth(crop, faces, crop @ mouth.astype(float) > 0.99)

    part = np.full(crop.shape[0], SKIN)
    origin = np.asarray(crop.argmax(axis=1)).ravel()
    part[np.isin(origin, base.quads[eye])] = EYE
    part[np.isin(origin, base.quads[teeth])] = TEETH
    symmetry = _symmetry(crop, base.mirror)
    return FaceMesh(crop, faces.astype(np.int32), symmetry, part, (crop @ template)[:, 0] < 0)


def _before_socket(template: Array, eyeball: Array) -> Array:
    """Negative on the lining of an eye socket behind the eyeball, which no view reaches; 1 elsewhere. [N]."""
    low, high = template[eyeball].min(axis=0), template[eyeball].max(axis=0)
    middle, radius = (low + high) / 2, (high[0] - low[0]) / 2
    lining = np.linalg.norm(template - middle, axis=1) < 1.12 * radius
    return np.where(lining, template[:, 2] - middle[2] - SOCKET_DEPTH, 1.0)


def _triangulate(quads: Array, positions: Array) -> Array:
    """Cuts each quad along its shorter diagonal, hence both sides of the face alike. [2Q,3]."""
    a, b, c, d = quads.T
    ac = ((positions[a] - positions[c]) ** 2).sum(axis=1) <= ((positions[b] - positions[d]) ** 2).sum(axis=1)
    first = np.where(ac, [a, b, c], [a, b, d])
    second = np.where(ac, [a, c, d], [b, c, d])
    return np.concatenate([first.T, second.T])


def _clip(skin: Array, rest: Array, distance: Array, positions: Array) -> tuple[sp.csr_matrix, Array, Array]:
    """Keeps the part of `skin` with distance > 0, cutting triangles; `rest` is kept whole.

    Returns (crop [M,N], faces [F,3] into its rows, bool [F] whether a face is of `skin`).
    """
    N = len(distance)
    edges = np.unique(np.sort(skin[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    crossing = edges[distance[edges[:, 0]] * distance[edges[:, 1]] < 0]
    t = distance[crossing[:, 0]] / (distance[crossing[:, 0]] - distance[crossing[:, 1]])  # from the first end

    # Vertices near the line move onto it: the mean of their near crossings, so that no choice breaks the symmetry.
    ends = np.concatenate([crossing[t < SNAP], crossing[t > 1 - SNAP][:, ::-1]])
    part = np.concatenate([t[t < SNAP], 1 - t[t > 1 - SNAP]])
    moved, count = np.unique(ends[:, 0], return_counts=True)
    share = 1 / count[np.searchsorted(moved, ends[:, 0])]
    still = np.setdiff1d(np.arange(N), moved)
    rows = np.concatenate([still, ends[:, 0], ends[:, 0]])
    columns = np.concatenate([still, ends[:, 0], ends[:, 1]])
    weights = np.concatenate([np.ones(len(still)), share * (1 - part), share * part])
    snapped = sp.csr_matrix((weights, (rows, columns)), shape=(N, N))
    distance = distance.copy()
    distance[moved] = 0

    cuts = edges[distance[edges[:, 0]] * distance[edges[:, 1]] < 0]
    t = distance[cuts[:, 0]] / (distance[cuts[:, 0]] - distance[cuts[:, 1]])
    E = len(cuts)
    between = sp.csr_matrix((np.concatenate([1 - t, t]), (np.tile(np.arange(E), 2), cuts.T.ravel())), shape=(E, N))
    crop = sp.vstack([snapped, between @ snapped]).tocsr()
    cut_id = {(int(u), int(v)): N + i for i, (u, v) in enumerate(cuts)}
    where = crop @ positions

    faces: list[Array] = []
    for triangle in skin[(distance[skin] > 0).any(axis=1)]:
        corners = []  # the kept polygon, in the triangle's orientation
        for u, v in zip(triangle, np.roll(triangle, -1), strict=True):
            if distance[u] >= 0:
                corners.append(int(u))
            if distance[u] * distance[v] < 0:
                corners.append(cut_id[(int(min(u, v)), int(max(u, v)))])
        if len(corners) == 4:
            faces.extend(_triangulate(np.array([corners]), where))
        else:
            faces.append(np.array(corners))
    skin_faces = np.array(faces)
    kept = np.repeat([True, False], [len(skin_faces), len(rest)])
    return crop, np.concatenate([skin_faces, rest]), kept


def _close_mouth(crop: sp.csr_matrix, faces: Array, mouth: Array) -> tuple[sp.csr_matrix, Array]:
    """A fan of triangles over the hole at the back of the mouth, around the mean of its border."""
    half = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    n = crop.shape[0]
    border = half[~np.isin(half[:, 0] * n + half[:, 1], half[:, 1] * n + half[:, 0])]
    border = border[mouth[border].all(axis=1)]
    loop = np.unique(border)
    if (np.unique(border[:, 0]) != loop).any() or (np.unique(border[:, 1]) != loop).any():
        raise RuntimeError("expected one closed border at the back of the mouth, got an open one")
    middle = sp.csr_matrix(crop[loop].mean(axis=0))
    wall = np.column_stack([border[:, 1], border[:, 0], np.full(len(border), n)])
    return sp.vstack([crop, middle]).tocsr(), np.concatenate([faces, wall])


def _component_of(faces: Array, keep: Array, vertex: int, is_skin: Array) -> Array:
    """True for faces of the skin connected to `vertex`, and for all that are not skin."""
    chosen = faces[keep & is_skin]
    n = int(faces.max()) + 1
    ends = chosen[:, [[0, 1], [1, 2]]].reshape(-1, 2)
    graph = sp.coo_matrix((np.ones(len(ends)), ends.T), shape=(n, n))
    label = connected_components(graph, directed=False)[1]
    return ~is_skin | (label[faces[:, 0]] == label[vertex])


def _symmetry(crop: sp.csr_matrix, mirror: Array) -> Array:
    """The mirror vertex of each row: the row whose weights are those of the mirrored base vertices."""
    crop = crop.copy()
    crop.sum_duplicates()

    def key(columns: Array, weights: Array) -> tuple[tuple[int, float], ...]:
        return tuple(sorted((int(c), round(float(w), 9)) for c, w in zip(columns, weights, strict=True)))

    rows = [(crop.indices[a:b], crop.data[a:b]) for a, b in zip(crop.indptr[:-1], crop.indptr[1:], strict=True)]
    by_weights = {key(columns, weights): i for i, (columns, weights) in enumerate(rows)}
    return np.array([by_weights[key(mirror[columns], weights)] for columns, weights in rows])
