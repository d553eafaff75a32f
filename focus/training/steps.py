"""What each kind of training step minimises: data and networks in, a loss out. No optimizer and no modes here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..autoencoder import FaceAutoencoder
from ..data.batch import Batch
from ..decoder import Face, network_input
from ..losses import (
    Features,
    initialisation_loss,
    preliminary_mask,
    pretraining_loss,
    reconstruction_loss,
    segmentation_loss,
)
from .settings import GROUND_TRUTH, RASTER, SEGMENTATION, SKIN, TrainSettings
from .skin import skin_probability

LANDMARK_SIZE = 224  # px: the weight of L_lm belongs to distances in photos of this size


class Step(NamedTuple):
    """What one step gave.

    Attributes:
        loss: [], differentiable in the weights that the step trains.
        terms: of the loss, each [], unweighted and detached.
        render: [B, 3, H, W], detached; the face over black.
        mask: M [B, 1, H, W], detached; in the initialisation the preliminary mask.
        theta: [B, K], detached.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    render: Tensor
    mask: Tensor
    theta: Tensor


class Steps:
    """The four kinds of step. The caller sets modes, and which networks' weights require gradients.

    Args:
        autoencoder: decoder and sizes; its networks too where no others are given.
        features: F; None where no term with F has weight.
        settings: weights and forms of the losses (`preset`), mask and precision.
        encoder, segmenter: the networks as they are to be called, such as compiled or wrapped for several processes.
        total: sums [n] over all processes (`focus.losses.pixel_loss`); None for one process.

    Raises:
        ValueError: settings that want a segmentation network, and none is given.
    """

    def __init__(
        self,
        autoencoder: FaceAutoencoder,
        features: nn.Module | Features | None,
        settings: TrainSettings,
        *,
        encoder: nn.Module | None = None,
        segmenter: nn.Module | None = None,
        total: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.autoencoder, self.settings, self.total = autoencoder, settings, total
        self.encoder = autoencoder.encoder if encoder is None else encoder
        self.segmenter = autoencoder.segmenter if segmenter is None else segmenter
        if settings.mask == SEGMENTATION and self.segmenter is None:
            raise ValueError("Steps(): expected a segmentation network for mask 'segmentation', got None")
        self._features = features
        # L_lm is in px^2 or px: the same face in smaller photos shall count the same.
        power = 1 if settings.preset.landmark.weighting == "norm" else 2
        weight = settings.preset.reconstruction_weights.landmark * (LANDMARK_SIZE / settings.size) ** power
        self.preset = settings.preset.replace(reconstruction_weights={"landmark": weight})

    def initialisation(self, batch: Batch) -> Step:
        """Stage 1 (3.3): trains R, with the preliminary mask (Eq. 9 and 10)."""
        face, theta = self._render(batch)
        seen = network_input(face, batch.image, self.preset)
        mask = None
        if self.settings.preliminary or self.settings.mask == SEGMENTATION:
            loss, terms = initialisation_loss(
                batch.image,
                seen,
                face.mask,
                face.parameters,
                preset=self.preset,
                target_landmarks=batch.landmarks,
                rendered_landmarks=self._landmarks(face),
                features=self.features,
                total=self.total,
            )
            mask = preliminary_mask(batch.image, seen.detach(), face.mask, self.preset.inlier_threshold)
        else:
            mask = self._mask(face, batch)
            loss, terms = self._reconstruction_loss(batch, face, seen, mask)
        return Step(loss, terms, face.image.detach(), mask.detach(), theta.detach())

    def pretraining(self, batch: Batch) -> Step:
        """Stage 2 (3.3): trains S, with the preliminary masks of the fixed R as ground truth."""
        assert self.segmenter is not None
        with torch.no_grad():
            face, theta = self._render(batch)
            seen = network_input(face, batch.image, self.preset)
            mask = preliminary_mask(batch.image, seen, face.mask, self.preset.inlier_threshold)
        predicted = self._segment(seen, batch.image)
        loss = pretraining_loss(predicted, mask)
        return Step(
            loss, {"cross_entropy": loss.detach()}, face.image.detach(), face.mask * predicted.detach(), theta.detach()
        )

    def segmentation(self, batch: Batch) -> Step:
        """S-step of EM: trains S; nothing is propagated through R and the renderer."""
        with torch.no_grad():
            face, theta = self._render(batch)
            seen = network_input(face, batch.image, self.preset)
        mask = face.mask * self._segment(seen, batch.image)
        loss, terms = segmentation_loss(
            batch.image,
            seen,
            mask,
            face.mask,
            preset=self.preset,
            features=self.features,
            target_landmarks=batch.landmarks,
            rendered_landmarks=self._landmarks(face),
        )
        return Step(loss, terms, face.image.detach(), mask.detach(), theta.detach())

    def reconstruction(self, batch: Batch) -> Step:
        """R-step of EM (Eq. 8): trains R on what M says is the face."""
        face, theta = self._render(batch)
        seen = network_input(face, batch.image, self.preset)
        if self.settings.mask == SEGMENTATION:
            with torch.set_grad_enabled(not self.preset.detach_mask and torch.is_grad_enabled()):
                mask = face.mask * self._segment(seen, batch.image)
        else:
            mask = self._mask(face, batch)
        loss, terms = self._reconstruction_loss(batch, face, seen, mask)
        return Step(loss, terms, face.image.detach(), mask.detach(), theta.detach())

    def features(self, images: Tensor, landmarks: Tensor, depth: str) -> Tensor:
        """F, in the networks' precision; its features are float32."""
        if self._features is None:
            raise ValueError("Steps(): expected features, since terms with F have weight, got None")
        with self._precision(images):
            found: Tensor = self._features(images, landmarks, depth)
        return found.float()

    def _reconstruction_loss(
        self, batch: Batch, face: Face, seen: Tensor, mask: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return reconstruction_loss(
            batch.image,
            seen,
            mask,
            face.mask,
            face.parameters,
            preset=self.preset,
            target_landmarks=batch.landmarks,
            rendered_landmarks=self._landmarks(face),
            features=self.features,
            total=self.total,
        )

    def _render(self, batch: Batch) -> tuple[Face, Tensor]:
        with self._precision(batch.image):
            theta: Tensor = self.encoder(batch.image)
        theta = theta.float()
        return self.autoencoder.render(theta), theta

    def _segment(self, seen: Tensor, photos: Tensor) -> Tensor:
        assert self.segmenter is not None
        with self._precision(photos):
            predicted: Tensor = self.segmenter(seen, photos)
        return predicted.float()

    def _mask(self, face: Face, batch: Batch) -> Tensor:
        """M of the baselines, a constant."""
        kind = self.settings.mask
        if kind == RASTER:
            return face.mask
        if kind == SKIN:
            return face.mask * skin_probability(batch.image)
        assert kind == GROUND_TRUTH
        if batch.visible is None:
            raise ValueError("Steps(): expected batches with visible masks for mask 'ground_truth', got None")
        return face.mask * batch.visible

    def _landmarks(self, face: Face) -> Tensor:
        if face.landmarks is None:
            raise ValueError(f"Steps(): expected a face model with landmarks, got {self.autoencoder.face_model!r}")
        return face.landmarks

    def _precision(self, like: Tensor) -> AbstractContextManager[None]:
        return torch.autocast(like.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16")
