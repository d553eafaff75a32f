"""FaceAutoencoder: a reconstruction network, the renderer as its decoder, and a segmentation network; in one file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .decoder import Face, ThetaLayout, decode, network_input
from .face_model import FaceModel
from .networks.weights import ASSETS, describe_network, make_network, network_arrays
from .presets import Preset
from .tensor_file import Array, read_tensors, write_tensors

FORMAT, VERSION = "focus-autoencoder", "1"
ASSET = ASSETS / "focus_small.safetensors"
ENCODER, SEGMENTER = "encoder", "segmenter"
SMALLEST_SIZE = 32  # px
_RESERVED = {"format", "version", "config", "preset", "checksum"}


class Reconstruction(NamedTuple):
    """What a FaceAutoencoder makes of photos.

    Attributes:
        face: the decoded faces and their render (`focus.decoder.Face`).
        mask: M [B, 1, H, W] in [0, 1], the visible face: the raster's mask times the segmentation network's output, or
            the raster's mask alone where there is no such network.
        theta: [B, K], the encoder's output.
    """

    face: Face
    mask: Tensor
    theta: Tensor


class FaceAutoencoder(nn.Module):
    """The networks of FOCUS around a face model: photo -> theta -> face -> render, and the mask of what is visible.

    Args:
        encoder: the reconstruction network R, photos [B, 3, size, size] to theta [B, K].
        segmenter: the segmentation network S, of render and photo; None for an autoencoder without one.
        face_model: the decoder's model. It is no part of the state dict, and moves with `to`.
        preset: heads, rendering and `composite_input` that the networks were trained with.
        size: height and width of the photos in pixels.

    Raises:
        ValueError: size < 32, or an encoder whose number of outputs is not the face model's number of parameters.
    """

    def __init__(
        self, encoder: nn.Module, segmenter: nn.Module | None, face_model: FaceModel, preset: Preset, size: int = 224
    ) -> None:
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"FaceAutoencoder(): expected size to be an int, got {type(size).__name__}")
        if size < SMALLEST_SIZE:
            raise ValueError(f"FaceAutoencoder(): expected size to be >= {SMALLEST_SIZE}, got {size}")
        self.layout = ThetaLayout.of(face_model)
        outputs = getattr(encoder, "outputs", self.layout.total)
        if outputs != self.layout.total:
            raise ValueError(
                f"FaceAutoencoder(): expected an encoder with {self.layout.total} outputs, the parameters of "
                f"{face_model.name}, got {outputs}"
            )
        self.encoder, self.segmenter = encoder, segmenter
        self.face_model, self.preset, self.size = face_model, preset, size
        self.metadata: dict[str, str] = {}

    def _apply(self, fn: Any, recurse: bool = True) -> FaceAutoencoder:
        super()._apply(fn, recurse)
        self.face_model = self.face_model.to(fn(torch.zeros(0)).device)
        return self

    def forward(self, photos: Tensor) -> Reconstruction:
        """Reconstructs photos.

        Args:
            photos: [B, 3, size, size] float32, RGB in [0, 1], aligned by `focus.alignment.align_face`. Differentiable.

        Raises:
            ValueError: a wrong shape. TypeError: a wrong dtype.
        """
        theta = self.encode(photos)
        face = self.render(theta)
        return Reconstruction(face, self.segment(face, photos), theta)

    def encode(self, photos: Tensor) -> Tensor:
        """Theta [B, K] of photos [B, 3, size, size]."""
        if not isinstance(photos, Tensor) or photos.ndim != 4 or photos.shape[1:] != (3, self.size, self.size):
            got = list(photos.shape) if isinstance(photos, Tensor) else type(photos).__name__
            raise ValueError(
                f"FaceAutoencoder(): expected photos to be shape [B, 3, {self.size}, {self.size}], got {got}"
            )
        theta: Tensor = self.encoder(photos)
        return theta

    def render(self, theta: Tensor) -> Face:
        """The faces of theta [B, K], rendered at `size`; float32 also under autocast."""
        return decode(self.face_model, theta, size=self.size, preset=self.preset)

    def segment(self, face: Face, photos: Tensor) -> Tensor:
        """M [B, 1, size, size] of rendered faces and their photos; differentiable in both and in S's weights."""
        if self.segmenter is None:
            return face.mask
        mask: Tensor = self.segmenter(network_input(face, photos, self.preset), photos)
        return face.mask * mask.to(face.mask.dtype)

    def save(
        self, path: str | os.PathLike[str], *, half: bool = False, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Writes networks, preset and size to a safetensors file, atomically; `load` needs nothing else of ours.

        The face model is named, not stored.

        Args:
            path: the file; its folder must exist.
            half: matrices and kernels as float16: half the size, up to 1 part in 2048 off.
            metadata: further texts (licence, recipe, metrics), which `load` gives back as `metadata`.

        Raises:
            TypeError: a network of a class that is not of `focus.networks`.
            ValueError: a metadata key that the format needs itself, or a weight that float16 cannot hold.
            OSError: the file cannot be written; an old file stays as it was.
        """
        caller = "FaceAutoencoder.save"
        texts = dict(metadata or {})
        if taken := sorted(_RESERVED & texts.keys()):
            raise ValueError(f"{caller}(): expected metadata without the key {taken[0]!r}, which the format uses")
        parts = {ENCODER: self.encoder} | ({} if self.segmenter is None else {SEGMENTER: self.segmenter})
        config: dict[str, Any] = {name: describe_network(network, caller) for name, network in parts.items()}
        config |= {"size": self.size, "face_model": {"name": self.face_model.name, "coefficients": list(self.layout)}}
        arrays: dict[str, Array] = {}
        for name, network in parts.items():
            found = network_arrays(network, caller, half=half)
            arrays |= {f"{name}.{key}": value for key, value in found.items()}
        texts |= {"format": FORMAT, "version": VERSION, "preset": self.preset.to_json()}
        write_tensors(path, arrays, texts | {"config": json.dumps(config, sort_keys=True)})

    @classmethod
    def load(
        cls, path: str | os.PathLike[str] | None = None, *, face_model: FaceModel | None = None, level: int = 1
    ) -> FaceAutoencoder:
        """Reads an autoencoder that `save` wrote: on the CPU, float32, in evaluation mode.

        Args:
            path: the file; None is the small one of this package (docs/checkpoint.md).
            face_model: the model that it was trained with; None loads the free one, where that is it.
            level: resolution of the free model, 0 to 2. Coefficients mean the same at every level.

        Raises:
            ValueError: a damaged file, one of another format, or a face model other than the file's.
            OSError: the file cannot be read.
        """
        caller = "FaceAutoencoder.load()"
        path = Path(ASSET if path is None else path)
        arrays, metadata = read_tensors(path, caller)
        config = _read_config(metadata, path, caller)
        preset = Preset.from_json(metadata.pop("preset", ""))
        parts: dict[str, nn.Module] = {}
        for name in (ENCODER, SEGMENTER):
            if name in config:
                own = {
                    key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")
                }
                parts[name] = make_network(config[name], own, path, caller)
        face_model = FaceModel.load(level=level) if face_model is None else face_model
        wanted = config["face_model"]
        if face_model.name != wanted["name"] or list(ThetaLayout.of(face_model)) != wanted["coefficients"]:
            raise ValueError(
                f"{caller}: expected the face model of {path}, {wanted['name']} with {wanted['coefficients']} "
                f"coefficients, got {face_model.name} with {list(ThetaLayout.of(face_model))}; give it as face_model"
            )
        loaded = cls(parts[ENCODER], parts.get(SEGMENTER), face_model, preset, config["size"]).eval()
        loaded.metadata = {key: value for key, value in metadata.items() if key not in _RESERVED}
        return loaded


def _read_config(metadata: Mapping[str, str], path: Path, caller: str) -> dict[str, Any]:
    for key, wanted in (("format", FORMAT), ("version", VERSION)):
        if metadata.get(key) != wanted:
            raise ValueError(f"{caller}: expected {path} to have {key} {wanted!r}, got {metadata.get(key)!r}")
    try:
        config = json.loads(metadata.get("config", ""))
        model = config["face_model"]
        sound = isinstance(config[ENCODER], dict) and isinstance(config.get(SEGMENTER, {}), dict)
        sound = sound and isinstance(config["size"], int) and isinstance(model["name"], str)
        sound = sound and isinstance(model["coefficients"], list)
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        got = metadata.get("config", "nothing")[:200]
        raise ValueError(f"{caller}: expected {path} to describe networks, size and face model, got {got}")
    return dict(config)
