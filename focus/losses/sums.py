"""The three sums of the terms: what the S-step, the R-step and the initialisation minimise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from focus.decoder import Theta
from focus.presets import Preset
from focus_kernels import masked_pixel_loss

from .terms import (
    area_loss,
    binary_loss,
    cosine_distance,
    gaussian_loss,
    landmark_loss,
    neighbor_loss,
    pixel_loss,
    preliminary_mask,
    regularisation_loss,
    widened,
)

Loss = tuple[Tensor, dict[str, Tensor]]  # the weighted sum [], and each term [], unweighted and detached


class Features(Protocol):
    """F: the features of the faces in images, differentiable in the images, its own weights frozen."""

    def __call__(self, images: Tensor, landmarks: Tensor, depth: str) -> Tensor:
        """An embedding [B, C] for depth "deep", a feature map [B, C, h, w] for "shallow".

        images [B, 3, H, W] RGB in [0, 1]; landmarks [B, 68, 2] in pixels, detached, say where the faces are.
        """
        ...


def segmentation_loss(
    target: Tensor,
    rendered: Tensor,
    mask: Tensor,
    raster_mask: Tensor,
    *,
    preset: Preset,
    features: Features | None = None,
    target_landmarks: Tensor | None = None,
    rendered_landmarks: Tensor | None = None,
) -> Loss:
    """L_S of the S-step: 15 L_nbr + 3 L_dist + 0.5 L_area + 2.5 L_presv + 10 L_bin; `authors` has 0.25 L_presv.

    An S-step does not train the reconstruction network: the caller renders without gradient (rendered, raster_mask and
    rendered_landmarks detached), so that only the mask has one, from the segmentation network.

    Args:
        target: the photo [B, 3, H, W].
        rendered: the render, as target; see the module for `composite_input`.
        mask: M [B, 1, H, W], the raster's mask times the segmentation.
        raster_mask: [B, 1, H, W], 1 where the face was rendered.
        preset: weights and forms.
        features: F; not needed where distance and preserve have weight 0.
        target_landmarks: where the face is in the photo, for F [B, 68, 2], pixels.
        rendered_landmarks: the same for the render.

    Returns:
        The loss [], differentiable in what is not detached, and its terms "neighbor", "distance", "area", "preserve",
        "binary" and "pixel", unweighted and detached, but for those of weight 0. "pixel" is Eq. 5 averaged over all
        pixels, for ablations.

    Raises:
        ValueError: features or landmarks are missing, a wrong shape, several devices.
        TypeError: a wrong dtype.
    """
    weights = preset.segmentation_weights
    target, rendered, mask, raster_mask = widened(target, rendered, mask, raster_mask)
    terms: dict[str, Tensor] = {}
    if weights.neighbor:
        terms["neighbor"] = neighbor_loss(target, rendered, mask, preset.neighbor)
    if weights.distance or weights.preserve:
        look = _looking("segmentation_loss", features, preset.segmentation_depth)
        seen = look("target", target * mask, target_landmarks)
        if weights.distance:
            face = look("rendered", rendered * mask, rendered_landmarks)
            terms["distance"] = cosine_distance(seen, face, preset.row_normalized_features)
        if weights.preserve:
            whole = look("target", target, target_landmarks)
            terms["preserve"] = cosine_distance(seen, whole, preset.row_normalized_features)
    if weights.area:
        terms["area"] = area_loss(mask, raster_mask, preset.area_offset)
    if weights.binary:
        terms["binary"] = binary_loss(mask, raster_mask, preset.binary)
    if weights.pixel:
        terms["pixel"] = masked_pixel_loss(target, rendered, mask, kind=preset.pixel.kind, reduction="mean")
    return _weighted(terms, weights, target)


def reconstruction_loss(
    target: Tensor,
    rendered: Tensor,
    mask: Tensor,
    raster_mask: Tensor,
    parameters: Theta,
    *,
    preset: Preset,
    target_landmarks: Tensor,
    rendered_landmarks: Tensor,
    features: Features | None = None,
    total: Callable[[Tensor], Tensor] | None = None,
) -> Loss:
    """L_R of the R-step (Eq. 8): 0.5 L_pixel + 0.25 L_per + 5e-4 L_lm + 0.1 L_reg; `authors` adds 0.06 L_area.

    With the preset's `detach_mask` (`paper`) the mask is a constant, whatever the caller gives. Without it (`authors`)
    the gradient goes through the mask to what it was computed from: then the caller leaves the render attached when the
    segmentation network sees it, and holds that network's weights fixed.

    Args:
        target: the photo [B, 3, H, W].
        rendered: the render, as target; see the module for `composite_input`.
        mask: M [B, 1, H, W]; the raster's mask itself for an autoencoder without segmentation.
        raster_mask: [B, 1, H, W], 1 where the face was rendered; for L_area.
        parameters: in units, `Face.parameters`.
        preset: weights and forms.
        target_landmarks: of the photo [B, 68, 2], pixels.
        rendered_landmarks: of the face, as target_landmarks. F gets them detached: its crop has no gradient.
        features: F, which sees the whole photo and the whole render; not needed where perceptual has weight 0.
        total: as for `pixel_loss`.

    Returns:
        The loss [], differentiable, and its terms "pixel", "perceptual", "landmark", "regularisation" and "area",
        unweighted and detached, but for those of weight 0.

    Raises:
        ValueError: features are missing, a wrong shape, several devices.
        TypeError: a wrong dtype.
    """
    target, rendered, mask, raster_mask = widened(target, rendered, mask, raster_mask)
    mask = mask.detach() if preset.detach_mask else mask
    weights = preset.reconstruction_weights
    terms: dict[str, Tensor] = {}
    if weights.pixel:
        terms["pixel"] = pixel_loss(target, rendered, mask, preset.pixel, total)
    landmarks = (target_landmarks, rendered_landmarks)
    terms |= _face_terms("reconstruction_loss", target, rendered, parameters, preset, landmarks, features)
    if weights.area:
        terms["area"] = area_loss(mask, raster_mask, preset.area_offset)
    return _weighted(terms, weights, target)


def initialisation_loss(
    target: Tensor,
    rendered: Tensor,
    raster_mask: Tensor,
    parameters: Theta,
    *,
    preset: Preset,
    target_landmarks: Tensor,
    rendered_landmarks: Tensor,
    features: Features | None = None,
    total: Callable[[Tensor], Tensor] | None = None,
) -> Loss:
    """The loss of the first stage (3.3): L_R with the preliminary mask of Eq. 10, a constant, and without L_area.

    Its pixel loss is Eq. 5 in `paper`, `gaussian_loss` in `authors`. Arguments, results and errors are those of
    `reconstruction_loss`; the mask is made here (`preliminary_mask` gives it).
    """
    target, rendered, raster_mask = widened(target, rendered, raster_mask)
    weights = preset.reconstruction_weights
    terms: dict[str, Tensor] = {}
    if weights.pixel:
        mask = preliminary_mask(target, rendered, raster_mask, preset.inlier_threshold)
        if preset.initial_pixel == "gaussian":
            terms["pixel"] = gaussian_loss(target, rendered, mask, preset.inlier_sigma)
        else:
            terms["pixel"] = pixel_loss(target, rendered, mask, preset.pixel, total)
    landmarks = (target_landmarks, rendered_landmarks)
    terms |= _face_terms("initialisation_loss", target, rendered, parameters, preset, landmarks, features)
    return _weighted(terms, weights, target)


def _face_terms(
    function: str,
    target: Tensor,
    rendered: Tensor,
    parameters: Theta,
    preset: Preset,
    landmarks: tuple[Tensor, Tensor],
    features: Features | None,
) -> dict[str, Tensor]:
    """The terms of L_R without a mask."""
    weights = preset.reconstruction_weights
    terms: dict[str, Tensor] = {}
    if weights.perceptual:
        look = _looking(function, features, preset.perceptual_depth)
        photo, face = look("target", target, landmarks[0]), look("rendered", rendered, landmarks[1])
        terms["perceptual"] = cosine_distance(photo, face, preset.row_normalized_features)
    if weights.landmark:
        terms["landmark"] = landmark_loss(*landmarks, preset.landmark)
    if weights.regularisation:
        terms["regularisation"] = regularisation_loss(parameters, preset.regularisation_divisor)
    return terms


def _looking(function: str, features: Features | None, depth: str) -> Callable[[str, Tensor, Tensor | None], Tensor]:
    """F at one depth, of named images and where the face is in them."""

    def look(name: str, images: Tensor, landmarks: Tensor | None) -> Tensor:
        if features is None:
            raise ValueError(f"{function}(): expected features to be given, since terms with F have weight, got None")
        if landmarks is None:
            raise ValueError(f"{function}(): expected {name}_landmarks to be given, since F needs them, got None")
        return features(images, landmarks.detach(), depth)

    return look


def _weighted(terms: dict[str, Tensor], weights: object, like: Tensor) -> Loss:
    loss = like.new_zeros(())
    for name, term in terms.items():
        loss = loss + getattr(weights, name) * term
    return loss, {name: term.detach() for name, term in terms.items()}
