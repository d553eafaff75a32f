"""Reconstructor: photos to faces with a trained autoencoder, in batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from focus.alignment import Alignment, AlignmentError, align_face
from focus.autoencoder import FaceAutoencoder
from focus.batch import DETECTOR_SIDE
from focus.decoder import Face, Theta, ThetaLayout
from focus.face_model import FaceModel
from focus.images import ImageError, read_image, shrink
from focus.landmarks import NUM_LANDMARKS, Detector, NoFaceError, make_detector

from .drawing import draw_face
from .result import ReconstructionError, ReconstructionResult

if TYPE_CHECKING:
    from focus.prior import MisfitPrior

Photo = str | os.PathLike[str] | np.ndarray


@dataclass(frozen=True)
class Prepared:
    """A photo with its aligned face."""

    image: np.ndarray  # uint8 [H, W, 3] RGB
    alignment: Alignment  # the crop, the way to it, and the landmarks in it


Outcome = ReconstructionResult | ReconstructionError


class Reconstructor:
    """Reconstructs faces in photos with a trained `focus.autoencoder.FaceAutoencoder`.

        results = focus.Reconstructor()(["a.jpg", "b.jpg"])
        print(results[0].occluded_fraction, results[0].vertices.shape)

    Args:
        checkpoint: a file of `FaceAutoencoder.save`, or an autoencoder, which is moved to the device and put in
            evaluation mode; None is the small one of this package (docs/checkpoint.md).
        device: where the networks and the renderer run.
        prior: the misfit prior to subtract from every mesh (Eq. 11), or its file.
        face_model: the model that the checkpoint was trained with, where it is not the free one.
        mesh_model: another resolution or crop of that model, for the meshes: of the same coefficients, such as
            `FaceModel.load(path, crop=False)`. None takes the one that is rendered. The prior must be of this one.
        level: resolution of the free model, 0 to 2.
        detector: who finds landmarks where none are given: a name of `focus.make_detector`, made at first need, or a
            detector.
        batch_size: photos in one pass of the networks.

    Raises:
        ValueError, TypeError: files or models that do not fit each other; the message says which.
        OSError: a file cannot be read.
    """

    def __init__(
        self,
        checkpoint: FaceAutoencoder | str | os.PathLike[str] | None = None,
        *,
        device: torch.device | str = "cpu",
        prior: MisfitPrior | str | os.PathLike[str] | None = None,
        face_model: FaceModel | None = None,
        mesh_model: FaceModel | None = None,
        level: int = 1,
        detector: Detector | str = "auto",
        batch_size: int = 8,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int):
            raise TypeError(f"Reconstructor(): expected batch_size to be an int, got {type(batch_size).__name__}")
        if batch_size < 1:
            raise ValueError(f"Reconstructor(): expected batch_size to be at least 1, got {batch_size}")
        if not isinstance(checkpoint, FaceAutoencoder):
            checkpoint = FaceAutoencoder.load(checkpoint, face_model=face_model, level=level)
        elif face_model is not None:
            raise ValueError("Reconstructor(): expected face_model to be None beside an autoencoder, which has its own")
        self.autoencoder = checkpoint.to(device).eval()
        self.batch_size = batch_size
        self.mesh_model = None if mesh_model is None else mesh_model.to(device)
        self.detector = detector
        model = self.model
        if ThetaLayout.of(model) != self.autoencoder.layout:
            raise ValueError(
                f"Reconstructor(): expected mesh_model to have {list(self.autoencoder.layout)} coefficients as the "
                f"checkpoint's face model, got {list(ThetaLayout.of(model))}"
            )
        self.prior = _load_prior(prior, model)
        self._faces = model.topology.faces.cpu().numpy().astype(np.int32)

    @property
    def model(self) -> FaceModel:
        """The face model of the meshes."""
        return self.autoencoder.face_model if self.mesh_model is None else self.mesh_model

    @property
    def size(self) -> int:
        """Side of the crops, px."""
        return self.autoencoder.size

    def __call__(
        self,
        photos: Photo | Sequence[Photo],
        landmarks: np.ndarray | Sequence[np.ndarray | None] | None = None,
        *,
        errors: Literal["raise", "return"] = "raise",
    ) -> list[Any]:
        """Reconstructs photos, the largest face of each.

        Args:
            photos: files, or uint8 [H, W, 3] RGB arrays; a single one is a list of one.
            landmarks: for each photo [68, 2] px in it, iBUG order, half-pixel centres (as `focus.read_landmarks_csv`
                gives them), or None, which asks the detector; None for all of them.
            errors: "raise" stops at the first photo that cannot be reconstructed, "return" puts the
                ReconstructionError in its place and goes on.

        Returns:
            A `ReconstructionResult` for each photo, in order.

        Raises:
            ReconstructionError: a photo cannot be read, shows no face, or its landmarks are no face's.
            focus.landmarks.DetectorUnavailableError: landmarks are needed and no detector can run.
            TypeError, ValueError: arguments of the wrong type or shape.
        """
        if errors not in ("raise", "return"):
            raise ValueError(f"Reconstructor(): expected errors to be 'raise' or 'return', got {errors!r}")
        single = isinstance(photos, (str, os.PathLike)) or (isinstance(photos, np.ndarray) and photos.ndim == 3)
        listed: list[Photo] = [photos] if single else list(photos)  # type: ignore[list-item, arg-type]
        if isinstance(landmarks, np.ndarray) and landmarks.ndim == 2:
            landmarks = [landmarks]
        points = [None] * len(listed) if landmarks is None else list(landmarks)
        if len(points) != len(listed):
            raise ValueError(
                f"Reconstructor(): expected landmarks for each of {len(listed)} photos (or None), got {len(points)}"
            )
        results: list[Outcome] = []
        for start in range(0, len(listed), self.batch_size):
            stop = start + self.batch_size
            prepared = [self.prepare(p, lm) for p, lm in zip(listed[start:stop], points[start:stop], strict=True)]
            results += self.reconstruct(prepared)
            if errors == "raise":
                for photo, outcome in zip(listed[start:stop], results[start:stop], strict=True):
                    if isinstance(outcome, ReconstructionError):
                        name = "" if isinstance(photo, np.ndarray) else f"{Path(photo)}: "
                        raise ReconstructionError(f"{name}{outcome}") from outcome
        return results

    def prepare(self, photo: Photo, landmarks: np.ndarray | None = None) -> Prepared | ReconstructionError:
        """A photo read, its face found (where no landmarks are given) and aligned; what fails is returned."""
        try:
            image = photo if isinstance(photo, np.ndarray) else read_image(photo)  # type: ignore[arg-type]
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise ValueError(
                    f"Reconstructor(): expected photos to be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}"
                )
            if landmarks is None:
                landmarks = self.find(image)
            landmarks = np.asarray(landmarks, np.float64)
            if landmarks.shape != (NUM_LANDMARKS, 2):
                raise ValueError(
                    f"Reconstructor(): expected landmarks to be shape [68, 2], got {list(landmarks.shape)}"
                )
            return Prepared(image, align_face(image, landmarks, size=self.size))
        except (ImageError, NoFaceError, AlignmentError) as error:
            text = f"the face cannot be aligned: {error}" if isinstance(error, AlignmentError) else str(error)
            failed = ReconstructionError(text)
            failed.__cause__ = error
            return failed

    def find(self, image: np.ndarray) -> np.ndarray:
        """Landmarks [68, 2] of the largest face, px with half-pixel centres, by the detector; NoFaceError without."""
        detector = self.make_detector(self.detector) if isinstance(self.detector, str) else self.detector
        small, factor = shrink(image, DETECTOR_SIDE)
        return detector.detect(small) / factor  # half-pixel centres scale about the corner

    def make_detector(self, kind: str) -> Detector:
        """The detector of that name (`focus.make_detector`) for all photos to come; making it may fetch its weights."""
        self.detector = make_detector(kind)
        return self.detector

    def reconstruct(
        self, prepared: Sequence[Prepared | ReconstructionError], theta: np.ndarray | None = None
    ) -> list[Outcome]:
        """The results of prepared photos in one pass of the networks; errors stay in their places.

        Args:
            prepared: of `prepare`.
            theta: [N, K] to use in place of the encoder's output for the N photos without an error.
        """
        good = [item for item in prepared if isinstance(item, Prepared)]
        if not good:
            return [item for item in prepared if isinstance(item, ReconstructionError)]
        made = iter(self._reconstruct(good, theta))
        return [next(made) if isinstance(item, Prepared) else item for item in prepared]

    @torch.no_grad()
    def encode(self, prepared: Sequence[Prepared]) -> np.ndarray:
        """Theta [B, K] float32 of prepared photos: the first half of `reconstruct`, without rendering."""
        return self.autoencoder.encode(self._batch(prepared)).float().cpu().numpy()

    @torch.no_grad()
    def neutral(self, identity: np.ndarray) -> np.ndarray:
        """The mesh without expression of identity [K_id]: [V, 3] float32, mm, the misfit prior subtracted."""
        model = self.model
        return self._finished(model.shape(_one(identity, model)))[0].float().cpu().numpy()

    @torch.no_grad()
    def albedo(self, coeffs: np.ndarray) -> np.ndarray:
        """The albedo of coefficients [K_alb]: [V, 3] float32, not clamped."""
        model = self.model
        return model.albedo(_one(coeffs, model))[0].float().cpu().numpy()

    def draw(self, result: ReconstructionResult, image: np.ndarray) -> np.ndarray:
        """The face rendered over the whole photo, at its resolution: uint8 [H, W, 3].

        Args:
            image: the photo, uint8 [H, W, 3] RGB, that the result is of.
        """
        width, height = result.photo_size
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != (height, width, 3):
            got = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"Reconstructor.draw(): expected image to be uint8 [{height}, {width}, 3], got {got}")
        return draw_face(self.autoencoder, result, image)

    def _batch(self, prepared: Sequence[Prepared]) -> Tensor:
        crops = np.stack([item.alignment.crop for item in prepared])
        tensor = torch.from_numpy(crops).to(self.autoencoder.face_model.device)
        return (tensor.permute(0, 3, 1, 2).float() / 255).contiguous()

    @torch.no_grad()
    def _reconstruct(self, prepared: Sequence[Prepared], given: np.ndarray | None) -> list[Outcome]:
        photos = self._batch(prepared)
        if given is None:
            theta = self.autoencoder.encode(photos)
        else:
            theta = torch.from_numpy(np.ascontiguousarray(given, np.float32)).to(photos.device)
        face = self.autoencoder.render(theta)
        mask = self.autoencoder.segment(face, photos)
        if self.mesh_model is None:
            vertices, albedo = face.vertices, face.albedo
        else:
            vertices = self.mesh_model.shape(face.parameters.identity, face.parameters.expression)
            albedo = self.mesh_model.albedo(face.parameters.albedo)
        vertices = self._finished(vertices)
        numbers = _numbers(face, mask, photos)
        return [
            _result(item, index, theta, face, mask, vertices, albedo, self._faces, numbers)
            for index, item in enumerate(prepared)
        ]

    def _finished(self, vertices: Tensor) -> Tensor:
        return vertices if self.prior is None else self.prior.subtract(vertices)


def _one(values: np.ndarray, model: FaceModel) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))[None].to(model.mean_shape)


def _load_prior(prior: MisfitPrior | str | os.PathLike[str] | None, model: FaceModel) -> MisfitPrior | None:
    if prior is None:
        return None
    from focus.prior import MisfitPrior

    loaded = prior if isinstance(prior, MisfitPrior) else MisfitPrior.load(prior)
    loaded.check(model)
    return loaded


def _numbers(face: Face, mask: Tensor, photos: Tensor) -> dict[str, Tensor]:
    """Per image [B]: occluded_fraction, rmse_inlier, rmse_all; NaN where a sum is over nothing."""
    squared = (face.image - photos).square().mean(1, keepdim=True)  # [B, 1, S, S]

    def mean(weight: Tensor) -> Tensor:
        return (weight * squared).sum((1, 2, 3)) / weight.sum((1, 2, 3))

    return {
        "occluded_fraction": 1 - mask.sum((1, 2, 3)) / face.mask.sum((1, 2, 3)),
        "rmse_inlier": 255 * mean(mask).sqrt(),
        "rmse_all": 255 * mean(face.mask).sqrt(),
    }


def _result(
    item: Prepared,
    index: int,
    theta: Tensor,
    face: Face,
    mask: Tensor,
    vertices: Tensor,
    albedo: Tensor,
    faces: np.ndarray,
    numbers: dict[str, Tensor],
) -> Outcome:
    def array(tensor: Tensor) -> np.ndarray:
        return tensor[index].float().cpu().numpy()

    finite = all(torch.isfinite(t[index]).all() for t in (theta, vertices, albedo, face.image, mask))
    if not finite:
        return ReconstructionError("the networks' answer is not finite")
    raster = array(face.mask)[0] > 0
    if not raster.any():
        return ReconstructionError("the reconstructed face lies outside of the crop")
    parts: Theta = face.parameters
    landmarks = item.alignment.landmarks.astype(np.float32)
    projected = None if face.landmarks is None else array(face.landmarks)
    error = float("nan") if projected is None else float(np.linalg.norm(projected - landmarks, axis=1).mean())
    height, width = item.image.shape[:2]
    return ReconstructionResult(
        photo=item.alignment.crop,
        photo_size=(width, height),
        align=item.alignment.matrix,
        render=array(face.image.permute(0, 2, 3, 1)),
        mask=array(mask)[0],
        raster_mask=raster,
        theta=array(theta),
        identity=array(parts.identity),
        expression=array(parts.expression),
        albedo_coeffs=array(parts.albedo),
        sh_coeffs=array(parts.light).reshape(3, 9),
        angles=array(parts.angles),
        translation=array(parts.translation),
        vertices=array(vertices),
        albedo=array(albedo),
        faces=faces,
        landmarks_photo=landmarks,
        landmarks_projected=projected,
        landmark_error_px=error,
        **{name: float(values[index]) for name, values in numbers.items()},
    )
