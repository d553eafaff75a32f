"""The misfit prior (3.4): the shape error that a network makes on average, learned without any photo (Eq. 11)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .decoder import ThetaLayout
from .face_model import FaceModel
from .synth import SyntheticFaces
from .tensor_file import read_tensors, write_tensors

if TYPE_CHECKING:
    from .autoencoder import FaceAutoencoder
    from .training.settings import TrainSettings

FORMAT, VERSION = "focus-misfit-prior", "1"
OFFSETS = "offsets"
IMAGES = 10_000  # the paper names no number
UNSEEN = 1_000_003  # added to the seed of the faces that E_MP is taken over


@dataclass(frozen=True, eq=False)
class MisfitPrior:
    """E_MP, mean of P_v - T_v over synthetic images (Eq. 11): what a reconstruction is off by, vertex by vertex.

    Of the expression-free full mesh in the model frame. P_mf = P - E_MP is `subtract`; expressions do not matter to it,
    for they are added to a mesh as E_MP is.

    Attributes:
        offsets: [V, 3] float32, mm, on the CPU.
        face_model: name of the face model. V tells its resolution.
        recipe: how it was made: number of images, seed, settings of the training, as values for JSON.

    Raises:
        TypeError, ValueError: offsets that are no finite float32 tensor [V, 3].
    """

    offsets: Tensor
    face_model: str
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.offsets, Tensor) or self.offsets.dtype != torch.float32:
            got = self.offsets.dtype if isinstance(self.offsets, Tensor) else type(self.offsets).__name__
            raise TypeError(f"MisfitPrior(): expected offsets to be a torch.float32 tensor, got {got}")
        if self.offsets.ndim != 2 or self.offsets.shape[1] != 3 or len(self.offsets) == 0:
            raise ValueError(f"MisfitPrior(): expected offsets to be shape [V, 3], got {list(self.offsets.shape)}")
        if not torch.isfinite(self.offsets).all():
            raise ValueError("MisfitPrior(): expected offsets to be finite")

    def subtract(self, vertices: Tensor) -> Tensor:
        """P - E_MP of vertices [..., V, 3] mm in the model frame, before any pose. Differentiable.

        Raises:
            TypeError: no floating tensor. ValueError: another number of vertices.
        """
        if not isinstance(vertices, Tensor) or not vertices.is_floating_point():
            got = vertices.dtype if isinstance(vertices, Tensor) else type(vertices).__name__
            raise TypeError(f"MisfitPrior.subtract(): expected vertices to be a floating tensor, got {got}")
        if vertices.ndim < 2 or vertices.shape[-2:] != self.offsets.shape:
            wanted = list(self.offsets.shape)
            raise ValueError(
                f"MisfitPrior.subtract(): expected vertices to be shape [*, {wanted[0]}, 3], got {list(vertices.shape)}"
            )
        return vertices - self.offsets.to(vertices)

    def check(self, model: FaceModel) -> None:
        """ValueError where the prior belongs to another face model, or to another resolution of it."""
        if model.name != self.face_model or model.num_vertices != len(self.offsets):
            raise ValueError(
                f"MisfitPrior.check(): expected the face model {self.face_model} with {len(self.offsets)} vertices, "
                f"got {model.name} with {model.num_vertices}"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes offsets, face model and recipe to a safetensors file, atomically; the same bytes each time.

        Raises:
            OSError: the file cannot be written; an old file stays as it was.
        """
        texts = {
            "format": FORMAT,
            "version": VERSION,
            "face_model": self.face_model,
            "recipe": json.dumps(dict(self.recipe), sort_keys=True, allow_nan=False),
        }
        write_tensors(path, {OFFSETS: self.offsets.detach().cpu().numpy()}, texts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MisfitPrior:
        """Reads what `save` wrote.

        Raises:
            ValueError: a damaged file, or one of another format. OSError: it cannot be read.
        """
        caller = "MisfitPrior.load()"
        arrays, metadata = read_tensors(path, caller)
        for key, wanted in (("format", FORMAT), ("version", VERSION)):
            if metadata.get(key) != wanted:
                raise ValueError(f"{caller}: expected {path} to have {key} {wanted!r}, got {metadata.get(key)!r}")
        try:
            recipe = json.loads(metadata["recipe"])
            return cls(torch.from_numpy(arrays[OFFSETS].copy()), metadata["face_model"], dict(recipe))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{caller}: expected {path} to hold a prior, got {error}") from error


def estimate_prior(
    encoder: nn.Module,
    model: FaceModel,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    full_model: FaceModel | None = None,
    recipe: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> MisfitPrior:
    """E_MP of a network: the mean over images of its expression-free shape less the true one (Eq. 11).

    Shapes are linear in the identity's coefficients, so the mean is taken over those, in float64, and blended once.

    Args:
        encoder: R_syn, photos to theta, in evaluation mode; it decides on the device.
        model: the face model of theta.
        batches: photos [B, 3, H, W] and the true identity coefficients [B, K_id].
        full_model: the face model of the full mesh where `model` is a crop of it; the same identities.
        recipe: kept in the prior, with the number of images.
        progress: called with the number of images done.

    Returns:
        MisfitPrior of `full_model`, or of `model`.

    Raises:
        ValueError: no images, coefficients of another number, or a theta that is not finite.
    """
    function = "estimate_prior()"
    target = model if full_model is None else full_model
    if target.num_identity != model.num_identity:
        raise ValueError(
            f"{function}: expected full_model to have {model.num_identity} identity coefficients, "
            f"got {target.num_identity}"
        )
    layout = ThetaLayout.of(model)
    device = next((weight.device for weight in encoder.parameters()), model.device)
    total = torch.zeros(model.num_identity, dtype=torch.float64)
    count = 0
    with torch.inference_mode():
        for photos, identity in batches:
            if identity.ndim != 2 or identity.shape[1] != model.num_identity:
                raise ValueError(
                    f"{function}: expected identities of shape [B, {model.num_identity}], got {list(identity.shape)}"
                )
            found = layout.split(encoder(photos.to(device)).float()).identity.double().cpu()
            total += (found - identity.double().cpu()).sum(0)
            count += len(photos)
            if progress is not None:
                progress(count)
    if count == 0:
        raise ValueError(f"{function}: expected at least one image, got none")
    if not torch.isfinite(total).all():
        raise ValueError(f"{function}: expected theta to be finite, got NaN or infinity from the encoder")
    offsets = torch.einsum("k,kvc->vc", total / count, target.identity_basis.double().cpu())
    return MisfitPrior(offsets.float(), target.name, {**(recipe or {}), "images": count})


def magnitude(prior: MisfitPrior) -> dict[str, float]:
    """Mean, median and largest length of the offsets, mm."""
    lengths = prior.offsets.double().norm(dim=1)
    return {"mean": float(lengths.mean()), "median": float(lengths.median()), "largest": float(lengths.max())}


def prior_settings(settings: TrainSettings) -> TrainSettings:
    """Settings of R_syn: those of a run, but the loss of Eq. 8 over the whole raster from the first iteration on.

    There is no segmentation network and no preliminary mask; pre-training falls away, and EM's iterations are R-steps.
    """
    still = {"shift": 0.0, "scale": 0.0, "rotation": 0.0, "flip": 0.0}
    name = f"{settings.name}-prior"
    return settings.replace(name=name, mask="raster", preliminary=False, augmentation=still)


def synthetic_identities(faces: SyntheticFaces, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Photos [B, 3, H, W] and identities [B, K_id] of synthetic faces in their order, for `estimate_prior`."""
    for sample in faces.batches(batch_size):
        yield sample.image, sample.parameters.identity


def train_prior(
    settings: TrainSettings,
    out: str | os.PathLike[str],
    *,
    images: int = IMAGES,
    face_model: FaceModel | None = None,
    full_model: FaceModel | None = None,
    device: str = "cpu",
    weights: str | os.PathLike[str] | None = None,
    recognizer: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Callable[[int], None] | None = None,
) -> MisfitPrior | None:
    """Trains R_syn on synthetic faces without occluders, and takes E_MP over as many others: out/prior.safetensors.

    The paper gives neither the number of images nor their distribution; ours are those of `focus.synth` (10,000, poses
    and lights of `SceneSettings`), new ones in each epoch of the training, and E_MP is taken over faces that R_syn has
    not seen. All of it is in the prior's recipe.

    Args:
        settings: of the run whose prior it is to be; `prior_settings` makes R_syn's of them.
        out: folder; out/network gets the training run.
        images: in an epoch of the training, and for the mean.
        face_model: None is the free one at the settings' level. full_model: see `estimate_prior`.
        device, weights, recognizer, resume: of `focus.training.train`.
        progress: called with the number of images done, of those for the mean.

    Returns:
        The prior; None where the training did not finish (out/network says why; `resume` goes on).

    Raises:
        ValueError, OSError: as `focus.training.train`.
    """
    from .data import SyntheticSource
    from .training import train

    if images < 1:
        raise ValueError(f"train_prior(): expected images >= 1, got {images}")
    settings = prior_settings(settings)
    model = FaceModel.load(level=settings.level) if face_model is None else face_model
    options: dict[str, Any] = {"model": model, "kinds": ()}
    source = SyntheticSource(images, settings.size, seed=settings.seed, fresh=True, vertices=False, **options)
    recipe = {"data": "synthetic", "fresh": True, **source.faces.recipe()}
    result = train(
        settings,
        source,
        Path(out) / "network",
        resume=resume,
        device=device,
        weights=weights,
        recognizer=recognizer,
        face_model=model,
        recipe=recipe,
    )
    if result.path is None:
        return None
    recipe = {"training": recipe, "settings": json.loads(settings.to_json()), "iterations": result.iteration}
    faces = SyntheticFaces(images, settings.size, settings.seed + UNSEEN, **options)
    prior = measure_prior(result.autoencoder, faces, recipe=recipe, full_model=full_model, progress=progress)
    prior.save(Path(out) / "prior.safetensors")
    return prior


def measure_prior(
    autoencoder: FaceAutoencoder,
    faces: SyntheticFaces,
    *,
    batch_size: int = 16,
    full_model: FaceModel | None = None,
    recipe: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> MisfitPrior:
    """`estimate_prior` of a trained autoencoder over all of some synthetic faces of its face model.

    Raises:
        ValueError: faces of another size or face model, and as `estimate_prior`.
    """
    model = autoencoder.face_model
    if faces.size != autoencoder.size or faces.model.name != model.name:
        raise ValueError(
            f"measure_prior(): expected faces of {model.name}, {autoencoder.size} px, got {faces.model.name}, "
            f"{faces.size} px"
        )
    training = autoencoder.encoder.training
    autoencoder.encoder.eval()
    try:
        return estimate_prior(
            autoencoder.encoder,
            model,
            synthetic_identities(faces, batch_size),
            full_model=full_model,
            recipe={**(recipe or {}), "faces": faces.recipe()},
            progress=progress,
        )
    finally:
        autoencoder.encoder.train(training)
