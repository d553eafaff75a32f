"""First stage: pose, identity and expression from the 68 landmarks alone, by Gauss-Newton."""

from dataclasses import dataclass

import numpy as np

from focus.alignment import fit_pos
from focus.camera import DISTANCE, FOCAL_PER_HALF_SIZE, angles_from_rotation

from .contour import Contour
from .result import FitError
from .settings import JAW, FitSettings

DAMPING = 1e-3  # Levenberg's, relative to the diagonal
MAX_ROTATION = 0.5  # radians in one step


@dataclass
class Pose:
    """A rigid pose, the shape coefficients, and which landmarks they were read from."""

    rotation: np.ndarray  # [3, 3], model to camera
    translation: np.ndarray  # [3] mm, camera frame, with the camera's distance
    shape: np.ndarray  # [K_id + K_exp]
    trust: np.ndarray  # [68] in [0, 1], Geman-McClure weights of the landmarks

    @property
    def angles(self) -> np.ndarray:
        return angles_from_rotation(self.rotation)


def fit_landmarks(
    mean: np.ndarray, basis: np.ndarray, contour: Contour, targets: np.ndarray, size: int, settings: FitSettings
) -> Pose:
    """MAP estimate under Gaussian priors and a Geman-McClure landmark error.

    Args:
        mean: [V, 3] mm; basis: [K, V, 3], one standard deviation each.
        contour: chooses the vertices of the jaw landmarks.
        targets: [68, 2] px in the crop.
        size: side of the crop in pixels.
    """
    focal, centre = FOCAL_PER_HALF_SIZE * size / 2, size / 2
    pose = initial_pose(mean[contour.landmarks], basis.shape[0], targets, focal, centre)
    sigma = np.full(68, settings.landmark_sigma)
    sigma[list(JAW)] = settings.jaw_sigma
    flat = basis.reshape(basis.shape[0], -1)
    for _ in range(settings.landmark_rounds):
        vertices = mean + (pose.shape @ flat).reshape(-1, 3)
        chosen = contour.choose(vertices, project(vertices, pose, focal, centre), targets)
        points, point_basis = mean[chosen].astype(np.float64), basis[:, chosen].astype(np.float64)
        for _ in range(settings.landmark_steps):
            _step(pose, points, point_basis, targets, sigma, focal, centre, settings)
    if not np.isfinite(pose.shape).all() or not np.isfinite(pose.translation).all() or pose.translation[2] <= 0:
        raise FitError("the landmarks do not fit a face in any pose")
    return pose


def initial_pose(points: np.ndarray, num_shape: int, targets: np.ndarray, focal: float, centre: float) -> Pose:
    """Weak-perspective pose of the 51 inner landmarks of the mean face."""
    matrix, offset, scale = fit_pos(targets[17:], points[17:].astype(np.float64))
    u, singular, vt = np.linalg.svd(matrix)
    if singular[1] < 0.05 * singular[0] or not np.isfinite(scale):
        raise FitError("the landmarks lie on a line")
    rows = u @ vt[:2]
    rotation = np.vstack([rows, np.cross(rows[0], rows[1])])
    depth = focal / scale
    translation = np.array([(offset[0] - centre) * depth / focal, (offset[1] - centre) * depth / focal, depth])
    return Pose(rotation, translation, np.zeros(num_shape), np.ones(68))


def project(vertices: np.ndarray, pose: Pose, focal: float, centre: float) -> np.ndarray:
    """Pixels [V, 2] of vertices [V, 3] in mm."""
    camera = vertices @ pose.rotation.T + pose.translation
    return focal * camera[:, :2] / camera[:, 2:] + centre


def _step(pose, points, point_basis, targets, sigma, focal, centre, settings) -> None:
    """One damped Gauss-Newton step on rotation, translation and shape, in place."""
    model = points + np.tensordot(pose.shape, point_basis, 1)  # [68, 3]
    rotated = model @ pose.rotation.T
    x, y, z = (rotated + pose.translation).T
    residual = np.stack([focal * x / z + centre, focal * y / z + centre], axis=1) - targets  # [68, 2]
    robust = settings.landmark_outlier**2
    root = robust / (robust + (residual**2).sum(axis=1))
    pose.trust, weight = root**2, root / sigma
    zero = np.zeros_like(z)
    to_pixel = np.stack([focal / z, zero, -focal * x / z**2, zero, focal / z, -focal * y / z**2], 1).reshape(-1, 2, 3)
    rx, ry, rz = rotated.T
    cross = np.stack([zero, rz, -ry, -rz, zero, rx, ry, -rx, zero], axis=1).reshape(-1, 3, 3)  # d(w x r)/dw
    shape = np.einsum("ij,knj->nik", pose.rotation, point_basis)  # [68, 3, K]
    identity = np.broadcast_to(np.eye(3), cross.shape)
    jacobian = to_pixel @ np.concatenate([cross, identity, shape], axis=2)  # [68, 2, 6 + K]
    jacobian = (jacobian * weight[:, None, None]).reshape(2 * len(z), -1)
    error = (residual * weight[:, None]).reshape(-1)
    prior = np.concatenate([np.zeros(5), [1 / settings.depth_sigma**2], np.ones(len(pose.shape))])
    value = np.concatenate([np.zeros(5), [pose.translation[2] - DISTANCE], pose.shape])
    normal = jacobian.T @ jacobian + np.diag(prior)
    normal += DAMPING * np.diag(np.diag(normal))
    try:
        update = -np.linalg.solve(normal, jacobian.T @ error + prior * value)
    except np.linalg.LinAlgError as failure:
        raise FitError("the landmarks do not determine a pose") from failure
    turn = update[:3] * min(1.0, MAX_ROTATION / max(float(np.linalg.norm(update[:3])), 1e-12))
    pose.rotation = _rotation_of(turn) @ pose.rotation
    pose.translation = pose.translation + update[3:6]
    pose.shape = pose.shape + update[6:]


def _rotation_of(vector: np.ndarray) -> np.ndarray:
    """Rodrigues' formula [3, 3]."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
