"""The networks that a run's settings name."""

from __future__ import annotations

import os

import torch
from torch import nn

from ..autoencoder import FaceAutoencoder
from ..decoder import ThetaLayout
from ..face_model import FaceModel
from .features import PerceptualFeatures
from .settings import SEGMENTATION, TrainSettings

Path = str | os.PathLike[str]


def make_autoencoder(
    settings: TrainSettings, face_model: FaceModel | None = None, weights: Path | None = None
) -> FaceAutoencoder:
    """The untrained networks of a run, on the CPU; the same for the same seed.

    Args:
        settings: encoder, size, level, segmentation width and seed are used.
        face_model: None is the free one at the settings' level.
        weights: to start the encoder from: for "resnet50" a file of torchvision (None: random weights), for "small" a
            file of the face recognizer (None: the one in the box).

    Raises:
        ValueError: the file is damaged or holds another network, or the face model has no landmarks.
        OSError: the file cannot be read.
    """
    from ..networks import ReconstructionNetwork, SegmentationNetwork, SmallEncoder

    face_model = FaceModel.load(level=settings.level) if face_model is None else face_model
    if face_model.landmarks is None:
        raise ValueError(f"train(): expected a face model with 68 landmarks, got {face_model!r}")
    outputs = ThetaLayout.of(face_model).total
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder: nn.Module
        if settings.encoder == "small":
            encoder = SmallEncoder.pretrained(outputs, weights)
        else:
            encoder = ReconstructionNetwork(outputs)
            if weights is not None:
                encoder.load_torchvision(weights)
        segmenter = None
        if settings.mask == SEGMENTATION:
            segmenter = SegmentationNetwork(settings.segmentation_width, settings.dropout)
    return FaceAutoencoder(encoder, segmenter, face_model, settings.preset, settings.size)


def start_from(autoencoder: FaceAutoencoder, path: Path) -> None:
    """Takes the weights of a file of `FaceAutoencoder.save`: of both networks, or of the encoder where one has no S.

    Raises:
        ValueError: a damaged file, or networks of other kinds or sizes.
        OSError: the file cannot be read.
    """
    loaded = FaceAutoencoder.load(path, face_model=autoencoder.face_model)
    pairs = [("encoder", loaded.encoder, autoencoder.encoder), ("segmenter", loaded.segmenter, autoencoder.segmenter)]
    for name, source, target in pairs:
        if source is None or target is None:
            continue
        try:
            target.load_state_dict(source.state_dict())
        except RuntimeError as error:
            raise ValueError(f"train(): expected the {name} of {path} to be as in the settings, got: {error}") from None


def make_features(settings: TrainSettings, recognizer: Path | None = None) -> PerceptualFeatures | None:
    """F of a run, on the CPU; None where no term with F has weight.

    Args:
        settings: which recognizer, and the weights of the losses.
        recognizer: file of ArcFace's `backbone.pth`, which "arcface" needs; for "dlib" another file of weights.

    Raises:
        ValueError: no file, a damaged one, or another network's.
        OSError: the file cannot be read.
    """
    preset = settings.preset
    segmentation = preset.segmentation_weights
    if not (preset.reconstruction_weights.perceptual or segmentation.distance or segmentation.preserve):
        return None
    from ..networks import ArcFace, FaceRecognizer

    if settings.recognizer == "dlib":
        return PerceptualFeatures(FaceRecognizer.load(recognizer))
    if recognizer is None:
        raise ValueError("train(): expected recognizer to be ArcFace's backbone.pth for recognizer 'arcface', got None")
    return PerceptualFeatures(ArcFace.load(recognizer))
