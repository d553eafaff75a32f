"""The 68 iBUG landmarks, and the frame in which FOCUS's camera sees the mean face where its alignment puts faces."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Places on the subject's right side and the midline of the mean face: x to the subject's left, y up, z outward, mm,
# the skin's centroid at the origin. Set by eye: corners of the eyes where the lids meet, lid margins, borders of the
# lips, wings and septum of the nose, ridge of the brows; then moved by 1 to 3 mm to where dlib's detector finds them.
PLACES: dict[int, tuple[float, float, float]] = {
    0: (-71.5, 32.0, -68.0), 1: (-71.0, 15.0, -60.0), 2: (-67.5, -5.0, -53.0), 3: (-64.0, -24.5, -46.0),
    4: (-57.0, -41.5, -33.0), 5: (-46.5, -57.5, -20.0), 6: (-34.0, -69.0, -9.0), 7: (-17.5, -79.0, -1.0),
    8: (0.0, -80.5, 0.0),
    17: (-54.8, 43.8, -14.5), 18: (-44.8, 51.0, -2.5), 19: (-33.0, 52.0, 8.5), 20: (-22.0, 49.8, 13.0),
    21: (-10.5, 45.6, 14.5),
    27: (0.0, 30.0, 11.0), 28: (0.0, 18.0, 17.0), 29: (0.0, 7.3, 24.0), 30: (0.0, -4.4, 29.7),
    31: (-12.7, -12.6, 13.5), 32: (-6.7, -14.9, 17.5), 33: (0.0, -16.7, 20.3),
    36: (-41.4, 29.1, -2.8), 37: (-33.6, 32.6, 3.2), 38: (-24.6, 32.2, 3.5), 39: (-16.9, 26.7, 0.3),
    40: (-24.8, 24.7, 2.2), 41: (-35.0, 24.7, 1.7),
    48: (-22.6, -38.2, 7.6), 49: (-14.7, -32.0, 15.5), 50: (-6.0, -28.6, 20.5), 51: (0.0, -30.5, 21.7),
    57: (0.0, -50.3, 14.5), 58: (-6.0, -49.4, 14.5), 59: (-14.5, -45.0, 12.5), 60: (-18.1, -38.2, 9.7),
    61: (-6.2, -36.8, 15.5), 62: (0.0, -36.9, 16.0), 66: (0.0, -38.8, 17.0), 67: (-5.5, -38.4, 16.0),
}  # fmt: skip
MIDLINE = (8, 27, 28, 29, 30, 33, 51, 57, 62, 66)
# iBUG numbers of the points in the mirror.
MIRROR = np.array([
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
    41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])  # fmt: skip
UPPER_LIP = (49, 50, 51, 61, 62)
LOWER_LIP = (57, 58, 59, 66, 67)
BROW = (17, 18, 19, 20, 21)


def find_landmarks(positions: Array, skin: Array, drop: Array, symmetry: Array) -> Array:
    """Vertex ids [68] int32: the skin vertices nearest to PLACES, in exactly mirrored pairs.

    positions [V,3] centred mm; skin [V] bool, without the mouth's lining; drop [V], how far a vertex sinks when the jaw
    opens, which tells the lips apart where they touch.
    """
    lower = drop > 0.3 * drop.max()
    middle = symmetry == np.arange(len(symmetry))
    ids = np.full(68, -1)
    for number, place in PLACES.items():
        distance = ((positions - place) ** 2).sum(axis=1)
        allowed = skin & middle if number in MIDLINE else skin
        if number in UPPER_LIP + LOWER_LIP:
            allowed = allowed & (lower if number in LOWER_LIP else ~lower)
        distance[~allowed] = np.inf
        ids[number] = distance.argmin()
        ids[MIRROR[number]] = symmetry[ids[number]]
    if (ids < 0).any() or len(np.unique(ids)) != 68:
        same = sorted(set(ids[np.bincount(ids, minlength=len(positions))[ids] > 1].tolist()))
        raise RuntimeError(f"expected 68 different landmark vertices, got vertices {same} more than once")
    return ids.astype(np.int32)


# Deep3D's five points, which FOCUS aligns to: eye centres, nose tip, mouth corners; mm, y up, z to the viewer.
TEMPLATE = np.array(
    [[-31.1, 29.0, 13.4], [31.0, 29.0, 13.2], [0.3, -4.6, 55.2], [-25.2, -38.1, 22.4], [24.8, -38.1, 22.2]]
)
FOCAL, DISTANCE, CROP_SCALE = 1014.72, 1000.0, 1.02  # px, mm, px per mm of TEMPLATE


def five_points(points: Array) -> Array:
    """Eye centres, tip of the nose and mouth corners of points [68,D]: [5,D]."""
    p = points
    return np.stack([(p[36] + p[39]) / 2, (p[42] + p[45]) / 2, p[30], p[48], p[54]])


def focus_frame(points: Array) -> tuple[float, Array]:
    """(scale, shift [3]) that put the landmarks points [68,3] mm, seen by FOCUS's camera at rest, on FOCUS's crop.

    The five points come to the mean depth of TEMPLATE, so that a turn of the head does not move the crop. Scale and
    height are then such that the alignment of the projected landmarks (POS on five points) is the identity: crop scale
    102, crop centre in the middle of the image.
    """
    design = np.hstack([TEMPLATE, np.ones((5, 1))])
    scale, shift = 1.0, np.zeros(3)
    for _ in range(50):
        p = five_points(points * scale + shift)
        shift[2] += (TEMPLATE[:, 2] - p[:, 2]).mean()
        image = p[:, :2] * (FOCAL / (DISTANCE - p[:, 2:]))
        solution = np.linalg.lstsq(design, image, rcond=None)[0]
        zoom = float(np.linalg.norm(solution[:3], axis=0).mean())
        shift[1] -= solution[3, 1]
        scale *= CROP_SCALE / zoom
    return scale, shift
