"""Evaluates a FaceAutoencoder on batches of which masks, shapes or landmarks are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..autoencoder import FaceAutoencoder, Reconstruction
from ..data.batch import Batch
from ..prior import MisfitPrior
from ..synth import KINDS, SyntheticFaces
from .metrics import image_rmse, landmark_errors, mask_scores, occluded_fraction, vertex_error
from .results import Evaluation
from .tables import PRIOR

SEED = 20230618  # of the synthetic faces, unlike any that training takes by default
OCCLUDED, UNOCCLUDED = "occluded", "unoccluded"

Progress = Callable[[int, int], None]


class LabelledBatch(NamedTuple):
    """A batch, with the name of each image and the subsets that it is in."""

    batch: Batch
    names: Sequence[str]
    subsets: Sequence[tuple[str, ...]]


def evaluate(
    autoencoder: FaceAutoencoder,
    batches: Iterable[LabelledBatch],
    *,
    method: str = "FOCUS",
    prior: MisfitPrior | None = None,
    recipe: Mapping[str, Any] | None = None,
    total: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Reconstructs photos and measures what is known of them.

    Measures, each where its truth is known:
        acc, ppv, tpr, f1: of the soft mask (`mask_scores`); with the ending _rounded of the rounded one.
        rmse: inside ground truth x render; rmse_render: inside the render; rmse_mask: inside the mask (`image_rmse`).
        vertex_error, vertex_error_aligned: mm, with expression, in the model frame or after a similarity
            (`vertex_error`); mean_face_error, mean_face_error_aligned: of the mean face in place of the
            reconstruction; with a prior also vertex_error_prior and vertex_error_aligned_prior.
        landmark_error: px; landmark_error_interocular: percent of the outer eye corners' distance.
        occluded_fraction: 1 - sum M / sum raster, of the prediction; true_occluded_fraction: of the truth.

    Args:
        autoencoder: on any device; its modules' modes (training or not) are as before afterwards.
        batches: at the autoencoder's size.
        method: its name in tables.
        prior: subtracted from the vertices.
        recipe: what is evaluated, for the files.
        total: number of images, which the progress is told.
        progress: called as progress(images done, total).

    Returns:
        Evaluation; images whose reconstruction is not finite are among its failures and have no numbers.

    Raises:
        ValueError: a batch's size or vertices, or the prior, do not fit the autoencoder.
    """
    device = autoencoder.face_model.device
    rows: list[dict[str, float]] = []
    names: list[str] = []
    inside: list[tuple[str, ...]] = []
    failures: dict[str, str] = {}
    with _evaluating(autoencoder), torch.inference_mode():
        for labelled in batches:
            batch = labelled.batch.to(device)
            found = measure(autoencoder, autoencoder(batch.image), batch, prior)
            for index, name in enumerate(labelled.names):
                rows.append({key: float(value[index]) for key, value in found.items()})
                if math.isnan(rows[-1].pop("finite")):
                    rows[-1] = {}
                    failures[name] = "the reconstruction is not finite"
            names += labelled.names
            inside += labelled.subsets
            if progress is not None:
                progress(len(names), total)
    measures = list(dict.fromkeys(key for row in rows for key in row))
    values = {key: np.array([row.get(key, math.nan) for row in rows]) for key in measures}
    labels = sorted({name for item in inside for name in item}, key=_order)
    subsets = {name: np.array([name in item for item in inside], bool) for name in labels}
    return Evaluation(method, tuple(names), values, subsets, dict(recipe or {}), failures)


def measure(
    autoencoder: FaceAutoencoder, found: Reconstruction, batch: Batch, prior: MisfitPrior | None = None
) -> dict[str, Tensor]:
    """The measures of `evaluate`, each [B] float64 on the CPU; `finite` is NaN where theta or the mask are not."""
    face, raster = found.face, found.face.mask
    values: dict[str, Tensor] = {"finite": found.theta.double().sum(1) * 0 + found.mask.double().sum((1, 2, 3)) * 0}
    if batch.visible is not None:
        for ending, rounded in (("", False), ("_rounded", True)):
            scores = mask_scores(found.mask, batch.visible, raster, rounded=rounded)
            values |= {name + ending: value for name, value in scores._asdict().items()}
        values["rmse"] = image_rmse(batch.image, face.image, batch.visible * raster)
        values["true_occluded_fraction"] = occluded_fraction(batch.visible * raster, raster)
    values["rmse_render"] = image_rmse(batch.image, face.image, raster)
    values["rmse_mask"] = image_rmse(batch.image, face.image, found.mask)
    values["occluded_fraction"] = occluded_fraction(found.mask, raster)
    if batch.vertices is not None:
        shapes = {"vertex_error": face.vertices}
        shapes["mean_face_error"] = autoencoder.face_model.mean_shape.expand_as(face.vertices)
        if prior is not None:
            prior.check(autoencoder.face_model)
            shapes["vertex_error" + PRIOR] = prior.subtract(face.vertices)
        for name, vertices in shapes.items():
            stem, ending = (name.removesuffix(PRIOR), PRIOR) if name.endswith(PRIOR) else (name, "")
            values[name] = vertex_error(vertices, batch.vertices)
            values[f"{stem}_aligned{ending}"] = vertex_error(vertices, batch.vertices, align=True)
    if face.landmarks is not None:
        errors = landmark_errors(face.landmarks, batch.landmarks)
        values["landmark_error"] = errors.pixels
        values["landmark_error_interocular"] = 100 * errors.interocular
    return {name: value.cpu() for name, value in values.items()}


def evaluate_synthetic(
    autoencoder: FaceAutoencoder,
    count: int,
    *,
    seed: int = SEED,
    kinds: Sequence[str] = KINDS,
    none_probability: float = 0.5,
    batch_size: int = 8,
    method: str = "FOCUS",
    prior: MisfitPrior | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Evaluation:
    """`evaluate` on synthetic faces of the autoencoder's face model, with exact ground truth.

    Subsets: unoccluded, occluded, and for each kind of occluder the faces that have it ("with glasses").

    Args:
        count: number of faces. seed, kinds, none_probability, options: of `focus.synth.SyntheticFaces`; half of the
            faces are unoccluded by default, as in the paper's testsets.
        batch_size: faces at a time; it changes no number but roundings.

    Raises:
        ValueError: count or batch_size < 1; and as `SyntheticFaces` and `evaluate`.
    """
    if count < 1 or batch_size < 1:
        raise ValueError(f"evaluate_synthetic(): expected count, batch_size >= 1, got {count} and {batch_size}")
    faces = SyntheticFaces(
        count,
        autoencoder.size,
        seed,
        model=autoencoder.face_model.to("cpu", torch.float32),
        kinds=kinds,
        none_probability=none_probability,
        **options,
    )
    recipe = {"data": "synthetic", **faces.recipe()}
    batches = synthetic_batches(faces, batch_size)
    return evaluate(autoencoder, batches, method=method, prior=prior, recipe=recipe, total=count, progress=progress)


def synthetic_batches(faces: SyntheticFaces, batch_size: int) -> Iterator[LabelledBatch]:
    """The items of synthetic faces in their order, named by their numbers."""
    first = 0
    for sample in faces.batches(batch_size):
        batch = Batch(sample.image, sample.landmarks, sample.visible, sample.face, sample.vertices)
        names = [f"{first + k:06d}" for k in range(len(sample.image))]
        subsets = [
            (OCCLUDED, *(f"with {kind}" for kind in kinds)) if kinds else (UNOCCLUDED,) for kinds in sample.occluders
        ]
        yield LabelledBatch(batch, names, subsets)
        first += len(names)


def make_validator(batches: Iterable[LabelledBatch]) -> Callable[[FaceAutoencoder], dict[str, float]]:
    """For `focus.training.train(validate=...)`: the means of `evaluate` over batches, which are kept in memory."""
    kept = list(batches)
    return lambda autoencoder: evaluate(autoencoder, kept).means()


def _order(name: str) -> tuple[int, str]:
    first = (UNOCCLUDED, OCCLUDED)
    return (first.index(name) if name in first else len(first), name)


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every part has its own mode again."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in before.items():
            part.training = mode
