"""FOCUS's alignment: five points of the 68, a weak-perspective pose, a square crop of fixed face size.

Landmarks here have half-pixel centres: that of the top left pixel is (0.5, 0.5). `focus.landmarks` converts files.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

CROP_SIZE = 224  # px
CROP_SCALE = 102.0  # crop pixels per unit of STANDARD_POINTS
MAX_CROP_TO_PHOTO = 16.0  # a crop window larger than this many photos comes from absurd landmarks
MIN_FACE_EXTENT = 8.0  # px in the photo; below it the five points say nothing about scale
MAX_MIRRORED = 0.2  # largest determinant of the left 2x2 of that matrix over scale^2; real faces have about -0.6 to -1
MIN_FLATNESS = 0.12  # smallest ratio of the two singular values of the weak-perspective matrix

# Deep3D's similarity_Lm3D: centres of the two eyes, tip of the nose, corners of the mouth; y up, z to the viewer.
STANDARD_POINTS = np.array(
    [
        [-0.311, 0.290, 0.134],
        [0.310, 0.290, 0.132],
        [0.003, -0.046, 0.552],
        [-0.252, -0.381, 0.224],
        [0.248, -0.381, 0.222],
    ]
)


class AlignmentError(ValueError):
    """The landmarks do not describe a face that can be aligned."""


@dataclass(frozen=True)
class Alignment:
    """A face crop and the way back to the photo."""

    crop: np.ndarray  # [size, size, 3] uint8 RGB; black outside the photo
    matrix: np.ndarray  # [2, 3] float64, photo to crop, half-pixel centres on both sides
    landmarks: np.ndarray  # [N, 2] float64, px in the crop, half-pixel centres
    inside: np.ndarray  # [size, size] bool, the crop pixels whose centre lies in the photo


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Centres of the eyes (iBUG 36, 39 and 42, 45), tip of the nose (30), corners of the mouth (48, 54): [5, 2]."""
    lm = landmarks
    return np.stack([(lm[36] + lm[39]) / 2, (lm[42] + lm[45]) / 2, lm[30], lm[48], lm[54]])


def fit_pos(image_points: np.ndarray, object_points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Weak-perspective pose by linear least squares (POS).

    Args:
        image_points: [N, 2], y down.
        object_points: [N, 3], y up.

    Returns:
        matrix [2, 3] and translation [2] such that image = matrix @ object + translation, and
        the scale: the mean row length.
    """
    design = np.hstack([object_points, np.ones((len(object_points), 1))])
    solution = np.linalg.lstsq(design, image_points, rcond=None)[0]  # [4, 2]
    matrix = solution[:3].T
    return matrix, solution[3], float(np.linalg.norm(matrix, axis=1).mean())


def align_face(image: np.ndarray, landmarks: np.ndarray, *, size: int = CROP_SIZE) -> Alignment:
    """Crop a face as FOCUS does: weak-perspective pose of five points, scale 102, no rotation, bicubic.

    Args:
        image: uint8 [H, W, 3] RGB.
        landmarks: [68, 2] px in `image`, half-pixel centres, iBUG order.
        size: side of the crop in pixels; the face scales with it.

    Returns:
        Alignment. The window is not rounded to whole pixels, unlike the authors' program (at most 1 px of difference).

    Raises:
        AlignmentError: landmarks that are not finite, coincide, lie on a line, are mirrored, or miss the photo.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"align_face(): expected image to be uint8, got {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"align_face(): expected image to be shape [H, W, 3], got {list(image.shape)}")
    landmarks = np.asarray(landmarks, dtype=np.float64)
    matrix = crop_matrix(landmarks, image.shape, size=size)
    crop, inside = _resample(image, matrix, size)
    return Alignment(crop, matrix, landmarks @ matrix[:, :2].T + matrix[:, 2], inside)


def crop_matrix(landmarks: np.ndarray, shape: tuple[int, ...], *, size: int = CROP_SIZE) -> np.ndarray:
    """Where `align_face` puts the pixels of a photo, without its picture.

    Args:
        landmarks: [68, 2] px, half-pixel centres, iBUG order.
        shape: height and width of the photo; more numbers may follow.
        size: side of the crop in pixels.

    Returns:
        [2, 3] float64, from photo pixels to crop pixels.

    Raises:
        ValueError: landmarks of another shape.
        AlignmentError: as `align_face`.
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.shape != (68, 2):
        raise ValueError(f"align_face(): expected landmarks to be shape [68, 2], got {list(landmarks.shape)}")
    translation, scale = _window(landmarks, shape)
    zoom = CROP_SCALE / scale * size / CROP_SIZE  # crop pixels per photo pixel
    return np.array([[zoom, 0.0, size / 2 - zoom * translation[0]], [0.0, zoom, size / 2 - zoom * translation[1]]])


def _window(landmarks: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """Centre of the crop in the photo and photo pixels per standard unit, after the checks."""
    if not np.isfinite(landmarks).all():
        raise AlignmentError("align_face(): expected landmarks to be finite, got NaN or infinity")
    points = five_points(landmarks)
    extent = float(np.ptp(points, axis=0).max())
    if extent < MIN_FACE_EXTENT:
        raise AlignmentError(
            f"align_face(): expected eyes, nose and mouth at least {MIN_FACE_EXTENT:.0f} px apart, got {extent:.1f} px"
        )
    matrix, translation, scale = fit_pos(points, STANDARD_POINTS)
    singular = np.linalg.svd(matrix, compute_uv=False)
    if singular[1] < MIN_FLATNESS * singular[0]:
        raise AlignmentError("align_face(): expected eyes, nose and mouth to span a face, got points on a line")
    if np.linalg.det(matrix[:, :2]) > MAX_MIRRORED * scale**2:  # negative for a face: y is down in one frame only
        raise AlignmentError("align_face(): expected landmarks in iBUG order, got a mirrored face")
    height, width = shape[:2]
    side = CROP_SIZE * scale / CROP_SCALE
    if side > MAX_CROP_TO_PHOTO * max(height, width):
        raise AlignmentError(f"align_face(): expected a face inside the photo, got one {side:.0f} px wide")
    x, y = translation
    if not (-side / 2 < x < width + side / 2 and -side / 2 < y < height + side / 2):
        raise AlignmentError(f"align_face(): expected a face inside the photo, got one centred at ({x:.0f}, {y:.0f})")
    return translation, scale


def _resample(image: np.ndarray, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Bicubic crop (anti-aliased when it shrinks, as PIL does), black outside the photo."""
    height, width = image.shape[:2]
    zoom = matrix[0, 0]
    start = -matrix[:, 2] / zoom  # x, y of the window's corner in the photo
    stop = start + size / zoom
    margin = int(np.ceil(2 * max(1.0, 1 / zoom))) + 1  # the reach of the bicubic kernel
    x0, y0 = (np.floor(start) - margin).astype(int)
    x1, y1 = (np.ceil(stop) + margin).astype(int)
    region = image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    pad = [
        (min(max(-lo, 0), hi - lo), min(max(hi - max(end, lo), 0), hi - lo))
        for lo, hi, end in ((y0, y1, height), (x0, x1, width))
    ]
    region = np.pad(region, (*pad, (0, 0)))[: y1 - y0, : x1 - x0]
    box = (start[0] - x0, start[1] - y0, stop[0] - x0, stop[1] - y0)
    crop = Image.fromarray(region).resize((size, size), Image.Resampling.BICUBIC, box=box)
    centres = (np.arange(size) + 0.5) / zoom
    inside_x = (start[0] + centres >= 0) & (start[0] + centres < width)
    inside_y = (start[1] + centres >= 0) & (start[1] + centres < height)
    return np.asarray(crop).copy(), inside_y[:, None] & inside_x[None, :]
