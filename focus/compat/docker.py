"""`FOCUSmodel`, the class of the FOCUS authors' docker image that inferno (EMOCA, EMICA) segments faces with.

Clean room: written from what inferno asks of the class (docs/dropins/focus.md), on the networks of this package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autoencoder import SMALLEST_SIZE, FaceAutoencoder
from ..decoder import Face, ThetaLayout, decode, network_input
from ..face_model import FaceModel
from ..reconstruct.now import LANDMARKS

_LOWEST, _HIGHEST = -0.5, 1.5  # what resizing may make of [0, 1], and neither 0..255 nor mean-free colours keep to


class FOCUSmodel:
    """The FOCUS networks behind the five names that inferno uses: reconstructs faces and says which pixels show them.

        model = FOCUSmodel(args)
        model.init_for_now_challenge()
        mask = model.forward_intactfaceshape_NOW(model.data_to_device({"img": images}))["est_mask"]

    The five: `init_for_now_challenge`, `data_to_device`, `forward_intactfaceshape_NOW`, `unet_for_mask`, `enc_net`.

    Args:
        args: upstream's settings, a namespace or a mapping. `device` and `checkpoint` are read, where they are there
            and not given below. Nothing else is: upstream's paths lead to pickled modules, which are programs, and
            these are never opened.
        checkpoint: a file of `FaceAutoencoder.save`, or an autoencoder, which is moved to the device and put in
            evaluation mode; None is the small one of this package.
        device: where the networks run; the CPU where neither it nor `args` names one.
        face_model: the model that the checkpoint was trained with, where it is not the free one.
        mesh_model: another resolution or crop of it for `nonexp_vertex_intact` and `lmring`, such as the full mesh
            `FaceModel.load(path, crop=False)` beside a cropped one; None takes the one that is rendered.

    Attributes:
        device: torch.device, where `enc_net` is.
        enc_net: R, images [B, 3, H, H] to `(shape_param [B, K_id], exp_param [B, K_exp], color_param [B, K_alb],
            camera_param [B, 6], sh_coef [B, 27])`, as they leave the network, before the preset's scales.
        unet_for_mask: S, render and photo in one [B, 6, H, W] to the probability [B, 1, H, W] that a pixel shows the
            face.
        face_model: the decoder's. mesh_model: that of the meshes.
        obj_intact_face: [3, F] int64, the faces of `nonexp_vertex_intact`.

    Both networks are `torch.nn.Module`s and this is none: it adds no keys to the state dict of a module that has one.
    `to` moves it; moving the two networks by hand is seen as well.

    Raises:
        TypeError, ValueError: an argument of the wrong type, a damaged file, a checkpoint without a segmentation
            network, or models that do not fit it. OSError: the file cannot be read.

    Differences from upstream:
        * The weights are those of `checkpoint`: upstream's 'NoW' and 'CelebAHQ' networks are whole pickled modules on
          BFM 2017, and may be neither loaded safely nor passed on.
        * Coefficients are the face model's (80, 64 and 80 as a rule), not BFM 2017's 199, 100 and 199.
        * Photos of any size go in: they are resized to the checkpoint's and the mask to the photo's.
        * Nothing is written, and nothing read but the checkpoint.
    """

    def __init__(
        self,
        args: Any = None,
        *,
        checkpoint: FaceAutoencoder | str | os.PathLike[str] | None = None,
        device: torch.device | str | int | None = None,
        face_model: FaceModel | None = None,
        mesh_model: FaceModel | None = None,
    ) -> None:
        if isinstance(args, (str, os.PathLike, FaceAutoencoder)):
            raise TypeError(
                f"FOCUSmodel(): expected args to be a namespace or a mapping, got {type(args).__name__}; "
                "give a file or an autoencoder as checkpoint"
            )
        checkpoint = _setting(args, "checkpoint") if checkpoint is None else checkpoint
        device = _setting(args, "device") if device is None else device
        try:
            place = torch.device("cpu" if device is None else device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"FOCUSmodel(): expected device to be a device of torch, got {device!r}") from error
        if not isinstance(checkpoint, FaceAutoencoder):
            if not isinstance(checkpoint, (str, os.PathLike, type(None))):
                raise TypeError(
                    f"FOCUSmodel(): expected checkpoint to be a path or a FaceAutoencoder, got "
                    f"{type(checkpoint).__name__}"
                )
            checkpoint = FaceAutoencoder.load(None if checkpoint is None else Path(checkpoint), face_model=face_model)
        elif face_model is not None:
            raise ValueError("FOCUSmodel(): expected face_model to be None beside an autoencoder, which has its own")
        if checkpoint.segmenter is None:
            raise ValueError("FOCUSmodel(): expected checkpoint to have a segmentation network, got one without")
        layout = checkpoint.layout
        if mesh_model is not None and ThetaLayout.of(mesh_model) != layout:
            raise ValueError(
                f"FOCUSmodel(): expected mesh_model to have {list(layout)} coefficients as the checkpoint's face "
                f"model, got {list(ThetaLayout.of(mesh_model))}"
            )
        self._autoencoder = checkpoint
        self._mesh_model = mesh_model
        self.enc_net: nn.Module = EncoderNetwork(checkpoint)
        self.unet_for_mask: nn.Module = MaskNetwork(checkpoint.segmenter)
        self.to(place)
        self.init_for_now_challenge()

    @property
    def device(self) -> torch.device:
        return next(self.enc_net.parameters()).device

    @property
    def face_model(self) -> FaceModel:
        return self._autoencoder.face_model

    @property
    def mesh_model(self) -> FaceModel:
        return self.face_model if self._mesh_model is None else self._mesh_model

    @property
    def obj_intact_face(self) -> Tensor:
        return self.mesh_model.topology.faces.t().long()

    def init_for_now_challenge(self) -> None:
        """Puts both networks in evaluation mode, for `forward_intactfaceshape_NOW`.

        Upstream loads its networks and the uncropped face model here; they are there from the start, so this may be
        called or left out, once or often.
        """
        self.enc_net.eval()
        self.unet_for_mask.eval()

    def to(self, device: torch.device | str | int) -> FOCUSmodel:
        """Moves networks and face models; returns itself."""
        self.enc_net.to(device)
        self.unet_for_mask.to(device)
        self._follow()
        return self

    def data_to_device(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Moves the tensors of a batch to `device`; what is no tensor stays.

        Args:
            data: a mapping such as `{"img": images}`. One that can be changed is changed in place.

        Returns:
            The same mapping, or a new dict where it cannot be changed.

        Raises:
            TypeError: no mapping.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"FOCUSmodel.data_to_device(): expected data to be a mapping, got {type(data).__name__}")
        moved = {key: value.to(self.device) if isinstance(value, Tensor) else value for key, value in data.items()}
        if isinstance(data, MutableMapping):
            data.update(moved)
            return data
        return moved

    def forward_intactfaceshape_NOW(self, data: Mapping[str, Any]) -> dict[str, Tensor]:
        """Reconstructs the faces in photos: masks, renders, and the meshes without expression for the NoW Challenge.

        Args:
            data: a mapping with "img", the photos [B, 3, H, H] float32, RGB in [0, 1], cropped as
                `focus.alignment.align_face` does; other keys are not read. H >= 32; 224 upstream. They may be on any
                device.

        Returns:
            On `device`, float32:

            - "est_mask" [B, 1, H, H] in [0, 1], M: where the photo shows the face, 0 outside the render.
            - "raster_mask" [B, 1, H, H], 1 where the render is, without gradient.
            - "imgs_fitted" [B, 3, H, H], the render over the photo, RGB, not clamped.
            - "nonexp_vertex_intact" [B, 3, V], the mesh without expression, mm in the model's frame (y up, z out of
              the face). To subtract a misfit prior use `focus.MisfitPrior.subtract`.
            - "lmring" [B, 3, 7], its NoW landmarks, only where the face model has landmarks.

            All but raster_mask are differentiable in the photos and in the weights of both networks, with visibility
            held fixed. The authors' own dictionary has "est_mask" and "imgs_fitted"; what else is in it is not known
            here, and the other names are ours, the last two after variables in their public Demo.py.

        Raises:
            TypeError, ValueError: data has no "img", or it has the wrong type, dtype, shape or range.
        """
        photos = self._photos(data)
        autoencoder, side = self._autoencoder, photos.shape[2]
        preset, size = autoencoder.preset, autoencoder.size
        small = _resized(photos, size)
        identity, expression, albedo, camera, light = self.enc_net(small)
        theta = torch.cat([identity, expression, albedo, light, camera], 1)
        face = autoencoder.render(theta)
        visible = self.unet_for_mask(torch.cat([network_input(face, small, preset), small], 1))
        if side != size:
            visible = _resized(visible, side).clamp(0, 1)
            face = decode(autoencoder.face_model, theta, size=side, preset=preset)
        return {
            "est_mask": face.mask * visible.to(face.mask.dtype),
            "raster_mask": face.mask,
            "imgs_fitted": face.over(photos),
            **self._mesh(face),
        }

    def _mesh(self, face: Face) -> dict[str, Tensor]:
        model = self.mesh_model
        vertices = model.shape(face.parameters.identity).transpose(1, 2)
        parts = {"nonexp_vertex_intact": vertices}
        if model.landmarks is not None:
            parts["lmring"] = vertices[:, :, model.landmarks[list(LANDMARKS)]]
        return parts

    def _follow(self) -> None:
        """Brings the face models to where the encoder is, which may have been moved by itself."""
        self._autoencoder.face_model = self._autoencoder.face_model.to(self.device)
        if self._mesh_model is not None:
            self._mesh_model = self._mesh_model.to(self.device)

    def _photos(self, data: Mapping[str, Any]) -> Tensor:
        name = "FOCUSmodel.forward_intactfaceshape_NOW()"
        if not isinstance(data, Mapping):
            raise TypeError(f"{name}: expected data to be a mapping, got {type(data).__name__}")
        if "img" not in data:
            raise ValueError(f"{name}: expected data to have 'img', got {', '.join(map(repr, data)) or 'nothing'}")
        photos = data["img"]
        if not isinstance(photos, Tensor):
            raise TypeError(f"{name}: expected img to be a torch.Tensor, got {type(photos).__name__}")
        if photos.dtype != torch.float32:
            raise TypeError(f"{name}: expected img to be float32 in [0, 1], got {str(photos.dtype)[6:]}")
        if photos.ndim != 4 or photos.shape[1] != 3 or photos.shape[2] != photos.shape[3]:
            raise ValueError(f"{name}: expected img to be shape [B, 3, H, H], got {list(photos.shape)}")
        if photos.shape[2] < SMALLEST_SIZE:
            raise ValueError(f"{name}: expected img to be at least {SMALLEST_SIZE} px wide, got {photos.shape[2]}")
        if photos.numel():
            low, high = (float(bound) for bound in torch.aminmax(photos.detach()))
            if not (low >= _LOWEST and high <= _HIGHEST):  # NaN is neither
                raise ValueError(f"{name}: expected img to be RGB in [0, 1], got values from {low:g} to {high:g}")
        self._follow()
        return photos.to(self.device)


class EncoderNetwork(nn.Module):
    """R with the interface of the authors' `FaceEncoder`: images [B, 3, H, H] to five groups of parameters."""

    def __init__(self, autoencoder: FaceAutoencoder) -> None:
        super().__init__()
        self.network = autoencoder.encoder
        self.layout, self.size = autoencoder.layout, autoencoder.size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """`(shape_param, exp_param, color_param, camera_param, sh_coef)`, unscaled. Differentiable.

        Args:
            images: [B, 3, H, W] floating, RGB in [0, 1]; resized to the side that the network was trained with.

        Raises:
            TypeError, ValueError: images of the wrong type, dtype or shape.
        """
        theta = self.layout.split(self.network(_resized(_images("enc_net", images, 3), self.size)))
        camera = torch.cat([theta.angles, theta.translation], 1)
        return theta.identity, theta.expression, theta.albedo, camera, theta.light


class MaskNetwork(nn.Module):
    """S with the interface of the authors' `UNet`: one input, render and photo along the channels."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.network = segmenter

    def forward(self, images: Tensor) -> Tensor:
        """The probability [B, 1, H, W] that a pixel shows the face, not yet masked by the render. Differentiable.

        Args:
            images: [B, 6, H, W] floating: the render (RGB, on black or over the photo as the checkpoint was trained)
                and the photo.

        Raises:
            TypeError, ValueError: images of the wrong type, dtype or shape.
        """
        render, photo = _images("unet_for_mask", images, 6).split(3, 1)
        mask: Tensor = self.network(render, photo)
        return mask


def _setting(args: Any, name: str) -> Any:
    return args.get(name) if isinstance(args, Mapping) else getattr(args, name, None)


def _images(name: str, images: Tensor, channels: int) -> Tensor:
    if not isinstance(images, Tensor):
        raise TypeError(f"{name}(): expected images to be a torch.Tensor, got {type(images).__name__}")
    if not images.is_floating_point():
        raise TypeError(f"{name}(): expected images to be a floating type in [0, 1], got {str(images.dtype)[6:]}")
    if images.ndim != 4 or images.shape[1] != channels or 0 in images.shape[2:]:
        raise ValueError(f"{name}(): expected images to be shape [B, {channels}, H, W], got {list(images.shape)}")
    return images


def _resized(images: Tensor, side: int) -> Tensor:
    """[B, C, side, side], the corners of the image at its corners."""
    if images.shape[2:] == (side, side):
        return images
    if not images.numel():
        return images.new_zeros(*images.shape[:2], side, side)
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
