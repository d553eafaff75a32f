"""Contour landmarks: which vertex a jaw landmark stands for in a given pose."""

import numpy as np

from .settings import JAW

CHIN = range(5, 12)  # lips are near these, so they slide half as far


class Contour:
    """Finds silhouette vertices of one mesh.

    Args:
        faces: [F, 3] int.
        landmarks: [68] vertex ids.
        radius: mm, how far a jaw landmark may slide; half of it on the chin.
    """

    def __init__(self, faces: np.ndarray, landmarks: np.ndarray, radius: float) -> None:
        self.faces = faces
        self.landmarks = landmarks
        self.radius = np.where([index in CHIN for index in JAW], radius / 2, radius)  # [17]
        edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)  # [3F, 2], face-major
        order = np.lexsort((edges[:, 1], edges[:, 0]))
        edges, owner = edges[order], np.repeat(np.arange(len(faces)), 3)[order]
        same = (edges[1:] == edges[:-1]).all(axis=1)
        self.edges = edges[:-1][same]  # [E, 2], the edges of two faces
        self.pairs = np.stack([owner[:-1][same], owner[1:][same]], axis=1)  # [E, 2]

    def choose(self, vertices: np.ndarray, projected: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The 68 vertex ids for this pose.

        A jaw landmark takes, of its own vertex and the silhouette vertices (on edges between a face that looks at the
        camera and one that looks away) within the radius, the one that projects nearest to its target.

        Args:
            vertices: [V, 3] mm, any frame that keeps lengths.
            projected: [V, 2] px.
            targets: [68, 2] px.
        """
        a, b, c = (projected[self.faces[:, k]] for k in range(3))
        front = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
        silhouette = np.unique(self.edges[front[self.pairs[:, 0]] != front[self.pairs[:, 1]]])
        jaw = list(JAW)
        fixed = self.landmarks[jaw]  # [17]
        reach = np.linalg.norm(vertices[silhouette][None] - vertices[fixed][:, None], axis=2)  # [17, S]
        distance = np.linalg.norm(projected[silhouette][None] - targets[jaw][:, None], axis=2)
        distance[reach > self.radius[:, None]] = np.inf
        chosen = self.landmarks.copy()
        if len(silhouette):
            best = distance.argmin(axis=1)
            own = np.linalg.norm(projected[fixed] - targets[jaw], axis=1)
            chosen[jaw] = np.where(distance[np.arange(len(jaw)), best] < own, silhouette[best], fixed)
        return chosen
