"""Differentiable face crops: a similarity transform from landmarks, then bilinear sampling.

All coordinates have half-pixel centres: that of the top left pixel is (0.5, 0.5), in images and in chips alike.
A `matrix` [B, 2, 3] takes points of the chip to points of the image. Nothing here waits for the GPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RECOGNIZER_SIZE = 150
RECOGNIZER_PADDING = 0.25
ARCFACE_SIZE = 112

# dlib's average face, in the unit square without padding: the points of get_face_chip_details() in dlib's
# image_transforms/interpolation.h (Boost Software License 1.0), which its network was trained with.
# Of the 68 points it uses nose, eyes and the upper lip, iBUG 27 to 54 and 60 to 64: brows, chin and jaw move too much.
_RECOGNIZER_X = (
    0.490127, 0.490127, 0.490127, 0.490127, 0.366880, 0.426036, 0.490127, 0.554217, 0.613373, 0.121737, 0.187122,
    0.265825, 0.334606, 0.260918, 0.182743, 0.645647, 0.714428, 0.793132, 0.858516, 0.797510, 0.719335, 0.254149,
    0.340985, 0.428858, 0.490127, 0.551395, 0.639268, 0.726104, 0.290379, 0.428096, 0.490127, 0.552157, 0.689874,
)  # fmt: skip
_RECOGNIZER_Y = (
    0.203352, 0.307009, 0.409805, 0.515625, 0.587326, 0.609345, 0.628106, 0.609345, 0.587326, 0.216423, 0.178758,
    0.179852, 0.231733, 0.245099, 0.244077, 0.231733, 0.179852, 0.178758, 0.216423, 0.244077, 0.245099, 0.780233,
    0.745405, 0.727388, 0.742578, 0.727388, 0.745405, 0.780233, 0.784792, 0.778746, 0.785343, 0.778746, 0.784792,
)  # fmt: skip
# The same for five points: corners of the eyes, outer before inner, the subject's left eye first; below the nose.
_RECOGNIZER_FIVE = (
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
)
# InsightFace's template for 112 px: eye centres, tip of the nose, corners of the mouth; its centres are at integers.
_ARCFACE_TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
_SMALLEST = 1e-6  # px^2; spread of points below which a transform is not divided by it


def fit_similarity(source: Tensor, target: Tensor) -> Tensor:
    """Rotation, scale and translation that take one set of points nearest to another, in the sum of squares.

    With points as complex numbers about their means, p of the source and q of the target, it is the closed form
    a = sum(conj(p) q) / sum(|p|^2); the same as Umeyama's solution without reflection.

    Args:
        source: [B, N, 2] or [N, 2].
        target: [B, N, 2], of the same dtype; differentiable in both.

    Returns:
        [B, 2, 3]; points are taken as target = matrix[:, :, :2] @ source + matrix[:, :, 2]. Where all source points
        are one, the scale is 0.
    """
    p_mean, q_mean = source.mean(dim=-2), target.mean(dim=-2)
    p, q = source - p_mean[..., None, :], target - q_mean[..., None, :]
    spread = p.square().sum(dim=(-2, -1)).clamp_min(_SMALLEST)
    real = (p * q).sum(dim=(-2, -1)) / spread
    imaginary = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(dim=-1) / spread
    return _matrix(real, imaginary, p_mean, q_mean)


def recognizer_matrix(landmarks: Tensor, *, size: int = RECOGNIZER_SIZE, padding: float = RECOGNIZER_PADDING) -> Tensor:
    """Where dlib's `get_face_chip` takes its chip from.

    The template is fitted to the landmarks, in the image. dlib then reads the chip's first and last pixels at the
    centres of the outermost pixels of the window, so the scale s becomes (size * s - 1) / (size - 1) about its middle.

    Args:
        landmarks: [B, 68, 2] iBUG, or [B, 5, 2] in dlib's order (iBUG 45, 42, 36, 39, 33); px, half-pixel centres.
        size: side of the chip in px.
        padding: share of the average face's box that is added on each side.

    Returns:
        [B, 2, 3], chip to image; differentiable in the landmarks.
    """
    _check_landmarks("recognizer_matrix", landmarks)
    if landmarks.shape[1] == 5:
        points, template = landmarks, _constant(_RECOGNIZER_FIVE, landmarks)
    else:
        points = torch.cat([landmarks[:, 27:55], landmarks[:, 60:65]], dim=1)
        template = torch.stack([_constant(_RECOGNIZER_X, landmarks), _constant(_RECOGNIZER_Y, landmarks)], dim=-1)
    fitted = fit_similarity((template + padding) / (2 * padding + 1) * size, points)
    real, imaginary = fitted[:, 0, 0], fitted[:, 1, 0]
    # Less than one image pixel across: no pixels to read between, so a single point.
    scale = (real.square() + imaginary.square()).clamp_min(size**-2).sqrt()
    factor = (size - 1 / scale) / (size - 1)
    middle = torch.full_like(landmarks[:, 0], size / 2)
    centre = (fitted[:, :, :2] * (size / 2)).sum(dim=-1) + fitted[:, :, 2]
    return _matrix(real * factor, imaginary * factor, middle, centre)


def arcface_matrix(landmarks: Tensor) -> Tensor:
    """Where ArcFace's chip of 112 px lies: the landmarks are fitted to the template, in the chip, and that inverted.

    Args:
        landmarks: [B, 68, 2] iBUG, or [B, 5, 2]: eye centres (right eye of the subject first), tip of the nose,
            corners of the mouth; px, half-pixel centres.

    Returns:
        [B, 2, 3], chip to image; differentiable in the landmarks.
    """
    _check_landmarks("arcface_matrix", landmarks)
    points = landmarks if landmarks.shape[1] == 5 else _five_points(landmarks)
    template = (_constant(_ARCFACE_TEMPLATE, landmarks) + 0.5).expand(len(landmarks), 5, 2)
    fitted = fit_similarity(points, template)
    real, imaginary = fitted[:, 0, 0], fitted[:, 1, 0]
    norm = (real.square() + imaginary.square()).clamp_min(_SMALLEST)
    return _matrix(real / norm, -imaginary / norm, template.mean(dim=1), points.mean(dim=1))


def sample_chips(images: Tensor, matrix: Tensor, size: int) -> Tensor:
    """Square chips of images, bilinear, black outside the image.

    Bilinear sampling skips pixels where a chip pixel is wider than about two of the image; shrink such images first.

    Args:
        images: [B, C, H, W]; differentiable. On CUDA this gradient is summed by atomics, in no fixed order.
        matrix: [B, 2, 3] float32 or float64, chip to image; differentiable.
        size: side of the chips in px.

    Returns:
        [B, C, size, size] of the matrix's dtype.
    """
    if images.ndim != 4 or matrix.shape != (len(images), 2, 3):
        raise ValueError(
            f"sample_chips(): expected images [B, C, H, W] and matrix [B, 2, 3], "
            f"got {list(images.shape)} and {list(matrix.shape)}"
        )
    height, width = images.shape[2:]
    centres = torch.arange(size, dtype=matrix.dtype, device=matrix.device) + 0.5
    # No matrix products: autocast would make them bfloat16. Columns of the chip are x, rows are y.
    x, y = centres[None, None, :], centres[None, :, None]
    m = matrix[:, :, :, None, None]
    image_x = m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2]
    image_y = m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2]
    grid = torch.stack([image_x * (2 / width) - 1, image_y * (2 / height) - 1], dim=-1)
    return F.grid_sample(images.to(matrix.dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def recognizer_chips(
    images: Tensor,
    landmarks: Tensor,
    *,
    size: int = RECOGNIZER_SIZE,
    padding: float = RECOGNIZER_PADDING,
    landmark_gradient: bool = False,
) -> Tensor:
    """Chips as dlib's `get_face_chip(image, landmarks, size, padding)` makes them, for `FaceRecognizer`.

    Equal to dlib's up to its rounding to bytes where a chip pixel is narrower than two image pixels (dlib shrinks
    larger faces by a pyramid first), and but for the image's own border, which dlib makes black.

    Args:
        images: [B, 3, H, W]; differentiable.
        landmarks: [B, 68, 2] iBUG or [B, 5, 2] dlib, float32 or float64, px, half-pixel centres.
        size, padding: as in `recognizer_matrix`.
        landmark_gradient: also differentiate in the landmarks; otherwise they are constants.

    Returns:
        [B, 3, size, size] of the landmarks' dtype.
    """
    _check_images("recognizer_chips", images, landmarks)
    matrix = recognizer_matrix(landmarks if landmark_gradient else landmarks.detach(), size=size, padding=padding)
    return sample_chips(images, matrix, size)


def arcface_chips(images: Tensor, landmarks: Tensor, *, landmark_gradient: bool = False) -> Tensor:
    """Chips of 112 px, aligned as InsightFace does, for `ArcFace`.

    Args:
        images: [B, 3, H, W]; differentiable.
        landmarks: [B, 68, 2] iBUG or [B, 5, 2], as in `arcface_matrix`, float32 or float64.
        landmark_gradient: also differentiate in the landmarks; otherwise they are constants, as the authors have it.

    Returns:
        [B, 3, 112, 112] of the landmarks' dtype.
    """
    _check_images("arcface_chips", images, landmarks)
    matrix = arcface_matrix(landmarks if landmark_gradient else landmarks.detach())
    return sample_chips(images, matrix, ARCFACE_SIZE)


def _matrix(real: Tensor, imaginary: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """The transform with that complex factor which takes point `source` [..., 2] to `target` [B, 2]."""
    x = target[..., 0] - real * source[..., 0] + imaginary * source[..., 1]
    y = target[..., 1] - imaginary * source[..., 0] - real * source[..., 1]
    return torch.stack([torch.stack([real, -imaginary, x], dim=-1), torch.stack([imaginary, real, y], dim=-1)], dim=-2)


def _five_points(lm: Tensor) -> Tensor:
    right, left = (lm[:, 36] + lm[:, 39]) / 2, (lm[:, 42] + lm[:, 45]) / 2
    return torch.stack([right, left, lm[:, 30], lm[:, 48], lm[:, 54]], dim=1)


def _constant(values: tuple[object, ...], like: Tensor) -> Tensor:
    # Not made on the GPU: torch.tensor(device="cuda") waits for the copy.
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def _check_landmarks(name: str, landmarks: Tensor) -> None:
    if landmarks.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name}(): expected landmarks to be torch.float32 or torch.float64, got {landmarks.dtype}")
    if landmarks.ndim != 3 or landmarks.shape[1] not in (5, 68) or landmarks.shape[2] != 2:
        raise ValueError(
            f"{name}(): expected landmarks to be shape [B, 68, 2] or [B, 5, 2], got {list(landmarks.shape)}"
        )


def _check_images(name: str, images: Tensor, landmarks: Tensor) -> None:
    if not images.is_floating_point():
        raise TypeError(f"{name}(): expected images to be a floating type, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise ValueError(f"{name}(): expected images to be shape [B, 3, H, W], got {list(images.shape)}")
    if len(images) != len(landmarks):
        raise ValueError(f"{name}(): expected landmarks for {len(images)} images, got {len(landmarks)}")
