"""The error of the NoW challenge (Sanyal et al., RingNet, 2019): from a scan to a predicted mesh, aligned to it.

The scan is cropped to the face, the prediction aligned by seven landmarks, then by the distances themselves; the error
is the distance of each vertex of the scan to the surface of the prediction, in millimetres, the scans' unit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from .mesh_distance import Array, Mesh, Surface, check_mesh
from .metrics import fit_similarity

NOSE_SHARE, RADIUS_FACTOR = 0.3, 1.4  # of the crop
MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
MAX_STEPS = 200
LEAST_GAIN = 1e-10  # of the sum of squares in one step, as a share of it; the refinement ends at less
DAMPING, MOST_DAMPING = 1e-6, 1e6


class Placement(NamedTuple):
    """x -> scale * rotation @ x + translation, from the prediction to the scan.

    Attributes:
        scale: without unit (a metrical evaluation has the unit's factor).
        rotation: [3, 3], of determinant 1, or -1 where the landmarks fit better mirrored.
        translation: [3] mm.
    """

    scale: float
    rotation: Array
    translation: Array

    def apply(self, points: Array) -> Array:
        """The points [N, 3], moved."""
        return self.scale * points @ self.rotation.T + self.translation

    def inverse(self, points: Array) -> Array:
        """The points [N, 3], moved back."""
        return (points - self.translation) @ self.rotation / self.scale


class NowError(NamedTuple):
    """What `now_error` found.

    Attributes:
        distances: [N] float64 mm, one for each vertex of the cropped scan.
        placement: of the prediction; the landmarks' and the refinement's together.
        steps: of the refinement.
    """

    distances: Array
    placement: Placement
    steps: int


def crop_scan(vertices: Array, landmarks: Array) -> Array:
    """Which vertices [V] bool of a scan [V, 3] lie in the face: the sphere of NoW around its landmarks [7, 3].

    Its centre lies 0.3 of the way from below the nose to the middle of the inner eye corners; its radius is 1.4 times
    the mean of that way's length and the distance of the outer eye corners.
    """
    right_outer, right_inner, left_inner, left_outer, nose = landmarks[:5]
    bridge = (right_inner + left_inner) / 2
    centre = nose + NOSE_SHARE * (bridge - nose)
    radius = RADIUS_FACTOR * (np.linalg.norm(right_outer - left_outer) + np.linalg.norm(bridge - nose)) / 2
    return np.linalg.norm(vertices - centre, axis=1) <= radius


def align_landmarks(source: Array, target: Array, *, unit: str | None = None) -> Placement:
    """The similarity from landmarks [N, 3] to others [N, 3] of least squares; mirrored where that fits better.

    Args:
        unit: "mm", "cm" or "m" of the source, for a metrical evaluation: the scale is its number of millimetres, and
            only rotation and translation are found. None finds the scale as well.

    Raises:
        ValueError: another unit, or wrong shapes.
    """
    scale = 1.0 if unit is None else _millimetres(unit)
    points = torch.from_numpy(np.asarray(source, np.float64)) * scale, torch.from_numpy(np.asarray(target, np.float64))
    found = fit_similarity(points[0][None], points[1][None], scaling=unit is None, reflection=True)
    return Placement(scale * float(found.scale[0]), found.rotation[0].numpy(), found.translation[0].numpy())


def refine(scan: Array, surface: Surface, start: Placement, *, scaling: bool = True) -> tuple[Placement, Array, int]:
    """Moves a mesh so that the squared distances of a scan's points to its surface have the least sum near a start.

    NoW minimises sum d^2 + (100 (|s| - s))^2 over scale, rotation and translation; the penalty, which is 0 for each
    s > 0 and keeps it there, is exact here by s = exp(lambda). Levenberg-Marquardt with the gradient of d at the
    nearest point, until a step gains less than 1e-10 of the sum.

    Args:
        scan: [N, 3] mm. surface: of the mesh, in its own frame and unit.
        scaling: else the start's scale is kept (metrical).

    Returns:
        The placement, the distances [N] float64 mm under it, and the number of steps.
    """
    middle = scan.mean(0)
    place = start
    near = surface.nearest(place.inverse(scan))
    total = float(np.square(place.scale * near.distance).sum())
    damping, steps = DAMPING, 0
    while steps < MAX_STEPS and total > 0:
        steps += 1
        points = place.apply(near.point)
        offset = points - scan
        distance = np.linalg.norm(offset, axis=1)
        flat = distance < 1e-9  # on the surface, where the direction is the triangle's normal
        normal = np.divide(offset, distance[:, None], out=np.zeros_like(offset), where=~flat[:, None])
        normal[flat] = surface.normals(near.face[flat]) @ place.rotation.T
        arm = points - middle
        rows = np.hstack([np.cross(arm, normal), normal, (arm * normal).sum(1, keepdims=True)])
        rows = rows if scaling else rows[:, :6]
        system, gradient = rows.T @ rows, rows.T @ distance
        improved = False
        while not improved and damping < MOST_DAMPING:
            step = np.linalg.lstsq(system + damping * np.diag(np.diag(system)), -gradient, rcond=None)[0]
            trial = _moved(place, step, middle)
            found = surface.nearest(trial.inverse(scan))
            after = float(np.square(trial.scale * found.distance).sum())
            improved = after < total
            damping = max(damping / 10, DAMPING) if improved else damping * 10
        if not improved:
            break
        gain = (total - after) / total
        place, near, total = trial, found, after
        if gain < LEAST_GAIN:
            break
    return place, place.scale * near.distance, steps


def now_error(
    scan: Array, scan_landmarks: Array, mesh: Mesh, mesh_landmarks: Array, *, unit: str | None = None
) -> NowError:
    """The error of one predicted mesh.

    Args:
        scan: [S, 3] mm, the vertices of the scan, not cropped.
        scan_landmarks: [7, 3] mm on the scan. mesh_landmarks: [7, 3] on the mesh, in its unit.
        mesh: the prediction. Triangles without area do no harm.
        unit: None for the challenge as it is usually reported, where the scale is found; "mm", "cm" or "m" of the
            prediction for the metrical one, where it is given.

    Returns:
        NowError.

    Raises:
        ValueError: wrong shapes, numbers that are not finite, another unit, or no vertex of the scan near its
            landmarks.
        ModuleNotFoundError: libigl is not installed.
    """
    scan = np.asarray(scan, dtype=np.float64)
    for name, points in (("scan_landmarks", scan_landmarks), ("mesh_landmarks", mesh_landmarks)):
        if np.shape(points) != (7, 3) or not np.isfinite(points).all():
            raise ValueError(
                f"now_error(): expected {name} to be finite, shape [7, 3], got shape {list(np.shape(points))}"
            )
        if np.ptp(points, axis=0).max() == 0:
            raise ValueError(f"now_error(): expected {name} to be seven points apart, got one point")
    if scan.ndim != 2 or scan.shape[1] != 3 or not np.isfinite(scan).all():
        raise ValueError(f"now_error(): expected scan to be finite, shape [S, 3], got shape {list(scan.shape)}")
    mesh = check_mesh("now_error", *mesh)
    face = scan[crop_scan(scan, np.asarray(scan_landmarks, np.float64))]
    if len(face) == 0:
        raise ValueError("now_error(): expected scan to have vertices around scan_landmarks, got none")
    start = align_landmarks(mesh_landmarks, scan_landmarks, unit=unit)
    place, distances, steps = refine(face, Surface(*mesh), start, scaling=unit is None)
    return NowError(distances, place, steps)


def _moved(place: Placement, step: Array, middle: Array) -> Placement:
    """The placement, then turned about the middle, scaled and shifted by a step [6] or [7]."""
    turn = Rotation.from_rotvec(step[:3]).as_matrix()
    growth = float(np.exp(step[6])) if len(step) == 7 else 1.0
    moved = growth * turn @ (place.translation - middle) + middle + step[3:6]
    return Placement(place.scale * growth, turn @ place.rotation, moved)


def _millimetres(unit: str) -> float:
    if unit not in MILLIMETRES:
        raise ValueError(f"align_landmarks(): expected unit to be one of {', '.join(MILLIMETRES)}, got {unit!r}")
    return MILLIMETRES[unit]
