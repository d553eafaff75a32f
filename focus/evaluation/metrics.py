"""What a reconstruction is judged by: its mask, its picture, its shape and its landmarks, each per image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

OUTER_EYE_CORNERS = (36, 45)  # iBUG; their distance is what 300-W divides by
LEVELS = 255.0  # of an 8-bit image


class MaskScores(NamedTuple):
    """How well a mask finds the visible face, each [B] in [0, 1].

    Attributes:
        acc: accuracy, (TP + TN) / (TP + TN + FP + FN).
        ppv: positive predictive value (precision), TP / (TP + FP).
        tpr: true positive rate (recall), TP / (TP + FN).
        f1: 2 TP / (2 TP + FP + FN).
    """

    acc: Tensor
    ppv: Tensor
    tpr: Tensor
    f1: Tensor


def mask_scores(mask: Tensor, truth: Tensor, raster: Tensor, *, rounded: bool = False) -> MaskScores:
    """ACC, PPV, TPR and F1 of masks inside the rendered region, as the authors' programs compute them.

    With R the raster, M the mask and G the truth: TP = sum R M G, TN = sum R (1-M) (1-G), FP = sum R M (1-G),
    FN = sum R (1-M) G, each at least 1 px. So an image without any error has an ACC just below 1.

    Args:
        mask: [B, 1, H, W], M, soft, 1 where the face is seen.
        truth: [B, 1, H, W], the share of each pixel that shows the face.
        raster: [B, 1, H, W], R, 1 where the render is.
        rounded: M and G are 1 above one half and else 0; what the paper shows. The authors' programs use the soft M.

    Returns:
        MaskScores, float64. Average it over images.

    Raises:
        TypeError, ValueError: no tensors, or shapes that differ.
    """
    _check_images("mask_scores", 1, mask=mask, truth=truth, raster=raster)
    mask, truth, raster = (value.detach().double() for value in (mask, truth, raster))
    if rounded:
        mask, truth = ((value > 0.5).double() for value in (mask, truth))

    def area(value: Tensor) -> Tensor:
        return (value * raster).sum((1, 2, 3)).clamp_min(1.0)

    tp, tn = area(mask * truth), area((1 - mask) * (1 - truth))
    fp, fn = area(mask * (1 - truth)), area((1 - mask) * truth)
    return MaskScores(
        acc=(tp + tn) / (tp + tn + fp + fn),
        ppv=tp / (tp + fp),
        tpr=tp / (tp + fn),
        f1=2 * tp / (2 * tp + fp + fn),
    )


def image_rmse(photo: Tensor, render: Tensor, region: Tensor) -> Tensor:
    """Root mean square difference of photo and render in levels of 0 to 255, over the pixels and colours of a region.

    sqrt(sum w (255 (I_T - I_R))^2 / (3 sum w)) with w the region. The render is cut to [0, 1], as where it is shown.
    The paper's Table 1 is taken for the region ground truth x raster.

    Args:
        photo: [B, 3, H, W] RGB in [0, 1]. render: the same.
        region: [B, 1, H, W] weights in [0, 1].

    Returns:
        [B] float64; NaN where the region is empty.

    Raises:
        TypeError, ValueError: no tensors, or shapes that differ.
    """
    _check_images("image_rmse", 3, photo=photo, render=render)
    _check_images("image_rmse", 1, region=region)
    if region.shape[0] != photo.shape[0] or region.shape[2:] != photo.shape[2:]:
        raise ValueError(f"image_rmse(): expected region to be one of {list(photo.shape)}, got {list(region.shape)}")
    weight = region.detach().double()
    difference = LEVELS * (photo.detach().double() - render.detach().double().clamp(0, 1))
    total = (weight * difference.square()).sum((1, 2, 3))
    return (total / (3 * weight.sum((1, 2, 3)))).sqrt()  # 0 / 0 is NaN


def occluded_fraction(mask: Tensor, raster: Tensor) -> Tensor:
    """1 - sum M / sum R [B] float64, the share of the rendered face that a mask takes for covered; NaN without a face.

    Args:
        mask: [B, 1, H, W] in [0, 1], 0 outside the raster. raster: [B, 1, H, W].
    """
    _check_images("occluded_fraction", 1, mask=mask, raster=raster)
    return 1 - mask.detach().double().sum((1, 2, 3)) / raster.detach().double().sum((1, 2, 3))


class Similarity(NamedTuple):
    """x -> scale * rotation @ x + translation, of a batch.

    Attributes:
        scale: [B]. rotation: [B, 3, 3], of determinant 1 (or -1, where reflections are allowed). translation: [B, 3].
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """The points [B, N, 3], moved."""
        return self.scale[:, None, None] * points @ self.rotation.mT + self.translation[:, None]


def fit_similarity(source: Tensor, target: Tensor, *, scaling: bool = True, reflection: bool = False) -> Similarity:
    """The similarity that brings source points nearest to target points: least squares, Umeyama (1991), Eq. 40-43.

    Args:
        source, target: [B, N, 3] of equal shape, N >= 3.
        scaling: else the scale is 1.
        reflection: a reflection is allowed where it fits better (`reflection="best"` of NoW's programs).

    Returns:
        Similarity, float64, detached. A source of one point everywhere keeps its scale 1. Where points are not finite,
        the scale and the translation are NaN.

    Raises:
        TypeError, ValueError: no tensors, or wrong shapes.
    """
    _check_points("fit_similarity", source=source, target=target)
    source, target = source.detach().double(), target.detach().double()
    mean_source, mean_target = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    from_mean = source - mean_source
    covariance = (target - mean_target).mT @ from_mean / source.shape[1]
    finite = torch.isfinite(covariance).all(2, keepdim=True).all(1, keepdim=True)
    u, singular, vt = torch.linalg.svd(torch.where(finite, covariance, 0.0))
    singular = torch.where(finite[:, :, 0], singular, torch.nan)
    sign = torch.ones_like(singular)
    if not reflection:
        sign[:, 2] = torch.where(torch.linalg.det(u @ vt) < 0, -1.0, 1.0)
    rotation = u @ (sign[:, :, None] * vt)
    scale = torch.where(finite[:, 0, 0], 1.0, torch.nan).to(source)
    if scaling:
        variance = from_mean.square().sum(2).mean(1)
        scale = torch.where(variance > 0, (singular * sign).sum(1) / variance, scale)
    translation = mean_target[:, 0] - scale[:, None] * (rotation @ mean_source.mT)[:, :, 0]
    return Similarity(scale, rotation, translation)


def vertex_error(vertices: Tensor, truth: Tensor, *, align: bool = False) -> Tensor:
    """The mean distance of corresponding vertices [B] float64, mm.

    Args:
        vertices, truth: [B, V, 3] mm, of one topology.
        align: after the similarity of `fit_similarity` over all vertices; else in the frame in which they are.

    Raises:
        TypeError, ValueError: no tensors, or shapes that differ.
    """
    _check_points("vertex_error", vertices=vertices, truth=truth)
    vertices, truth = vertices.detach().double(), truth.detach().double()
    if align:
        vertices = fit_similarity(vertices, truth).apply(vertices)
    return (vertices - truth).norm(dim=2).mean(1)


class LandmarkErrors(NamedTuple):
    """Mean distance of the 68 landmarks, each [B] float64.

    Attributes:
        pixels: px. interocular: over the distance of the true outer eye corners (300-W's norm).
    """

    pixels: Tensor
    interocular: Tensor


def landmark_errors(landmarks: Tensor, truth: Tensor) -> LandmarkErrors:
    """How far landmarks [B, 68, 2] lie from the true ones [B, 68, 2], px.

    Raises:
        TypeError, ValueError: no tensors, or wrong shapes.
    """
    for name, value in (("landmarks", landmarks), ("truth", truth)):
        _check_tensor("landmark_errors", name, value)
        if value.ndim != 3 or value.shape[1:] != (68, 2) or len(value) != len(landmarks):
            raise ValueError(
                f"landmark_errors(): expected {name} to be shape [{len(landmarks)}, 68, 2], got {list(value.shape)}"
            )
    landmarks, truth = landmarks.detach().double(), truth.detach().double()
    pixels = (landmarks - truth).norm(dim=2).mean(1)
    left, right = OUTER_EYE_CORNERS
    return LandmarkErrors(pixels, pixels / (truth[:, left] - truth[:, right]).norm(dim=1))


def _check_tensor(function: str, name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{function}(): expected {name} to be a torch.Tensor, got {type(value).__name__}")


def _check_images(function: str, channels: int, **images: Tensor) -> None:
    first = next(iter(images.values()))
    for name, value in images.items():
        _check_tensor(function, name, value)
        if value.ndim != 4 or value.shape[1] != channels:
            raise ValueError(
                f"{function}(): expected {name} to be shape [B, {channels}, H, W], got {list(value.shape)}"
            )
        if value.shape != first.shape:
            raise ValueError(f"{function}(): expected {name} to be shape {list(first.shape)}, got {list(value.shape)}")


def _check_points(function: str, **points: Tensor) -> None:
    first = next(iter(points.values()))
    for name, value in points.items():
        _check_tensor(function, name, value)
        if value.ndim != 3 or value.shape[2] != 3 or value.shape[1] < 3:
            raise ValueError(f"{function}(): expected {name} to be shape [B, N, 3], N >= 3, got {list(value.shape)}")
        if value.shape != first.shape:
            raise ValueError(f"{function}(): expected {name} to be shape {list(first.shape)}, got {list(value.shape)}")
