"""From the encoder's output theta to a face: parameters, shape, colour, camera and render."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from focus_kernels import Camera, Render, blend, render_sh

from .camera import focus_camera
from .face_model import FaceModel
from .presets import HeadScales, Preset

LIGHT = 27  # nine spherical harmonics for red, then green, then blue
_HALF = (torch.float16, torch.bfloat16)


class Theta(NamedTuple):
    """The parts of theta, as the encoder gives them or, after `scaled`, in the units below.

    Attributes:
        identity: [B, K_id], standard deviations.
        expression: [B, K_exp], standard deviations.
        albedo: [B, K_alb], standard deviations.
        light: [B, 27], nine coefficients for red, then green, then blue.
        angles: [B, 3], radians, of `focus_camera`.
        translation: [B, 3], mm, of `focus_camera`.
    """

    identity: Tensor
    expression: Tensor
    albedo: Tensor
    light: Tensor
    angles: Tensor
    translation: Tensor

    @property
    def shape(self) -> Tensor:
        """Identity and expression [B, K_id + K_exp], as `FaceModel.shape_basis` has them."""
        return torch.cat([self.identity, self.expression], 1)

    def joined(self) -> Tensor:
        """All parts in one tensor [B, K], in the order of theta."""
        return torch.cat(list(self), 1)

    def scaled(self, heads: HeadScales) -> Theta:
        """The encoder's output in units: times the factors of its heads, the light plus its offset. Differentiable."""
        factors = self.translation.new_tensor([heads.translation, heads.translation, heads.depth])
        offset = self.light.new_zeros(3, LIGHT // 3)
        offset[:, 0] = heads.light_offset
        return self._replace(
            albedo=self.albedo * heads.albedo,
            light=self.light + offset.view(LIGHT),
            angles=self.angles * heads.angles,
            translation=self.translation * factors,
        )


class ThetaLayout(NamedTuple):
    """How many numbers of theta each part has; light (27), angles (3) and translation (3) follow the coefficients."""

    num_identity: int
    num_expression: int
    num_albedo: int

    @classmethod
    def of(cls, model: FaceModel) -> ThetaLayout:
        """The layout of a face model: 80, 64, 80 (257 numbers in all) for FOCUS's."""
        return cls(len(model.identity_basis), len(model.expression_basis), len(model.albedo_basis))

    @property
    def total(self) -> int:
        return sum(self) + LIGHT + 6

    def split(self, theta: Tensor) -> Theta:
        """The parts of theta [B, total], views of it, nothing scaled. Differentiable.

        Raises:
            TypeError: no tensor.
            ValueError: a wrong shape.
        """
        if not isinstance(theta, Tensor):
            raise TypeError(f"ThetaLayout.split(): expected theta to be a torch.Tensor, got {type(theta).__name__}")
        if theta.ndim != 2 or theta.shape[1] != self.total:
            raise ValueError(
                f"ThetaLayout.split(): expected theta to be shape [*, {self.total}], got {list(theta.shape)}"
            )
        return Theta(*theta.split([*self, LIGHT, 3, 3], 1))


class Face(NamedTuple):
    """A decoded batch of faces; all of it is differentiable in theta but where `focus_kernels.render_sh` says no.

    Attributes:
        parameters: in units (`Theta.scaled`); what L_reg looks at.
        vertices: [B, V, 3], mm, in the model's frame.
        albedo: [B, V, 3] RGB, not clamped.
        camera: `focus_camera` of the angles and the translation.
        render: its image is on black; mask, raster and positions as of `focus_kernels.render_sh`.
        landmarks: [B, 68, 2], pixels with half-pixel centres, of the projected iBUG vertices; None where the model
            names none.
    """

    parameters: Theta
    vertices: Tensor
    albedo: Tensor
    camera: Camera
    render: Render
    landmarks: Tensor | None

    @property
    def image(self) -> Tensor:
        """The render on black [B, 3, H, W], RGB, not clamped."""
        return self.render.image

    @property
    def mask(self) -> Tensor:
        """The raster's mask [B, 1, H, W], 1 where the face is, without gradient."""
        return self.render.mask

    def over(self, photo: Tensor) -> Tensor:
        """The render over a photo [B, 3, H, W]. Differentiable in both."""
        return torch.where(self.mask > 0, self.image, photo.to(self.image.dtype))


def decode(model: FaceModel, theta: Tensor, *, size: int = 224, preset: Preset | None = None) -> Face:
    """The faces that an encoder's output stands for: splits theta, scales it and calls `render_face`.

    Theta of zeros is the mean face, seen from the front, under light of the same illumination, 1.2407, everywhere.

    Args:
        model: the face model, on the device of theta.
        theta: [B, K], K = ThetaLayout.of(model).total (257 for FOCUS's models), in the dtype of the model's means, or
            in half precision, which is widened to that; differentiable.
        size: height and width of the image in pixels.
        preset: its `heads` and `rendering` are used; None is `paper`.

    Returns:
        Face. It is computed in the dtype of the model's means (float32 as a rule), also inside autocast.

    Raises:
        TypeError: theta is no tensor or of another dtype.
        ValueError: a wrong shape, device or size.
    """
    preset = Preset() if preset is None else preset
    parts = ThetaLayout.of(model).split(theta)
    wide = model.mean_shape.dtype
    if theta.dtype in _HALF:
        parts = Theta(*(part.to(wide) for part in parts))
    elif theta.dtype != wide:
        raise TypeError(
            f"decode(): expected theta to be {wide} as the face model, or half precision, got {theta.dtype}"
        )
    if theta.device != model.device:
        raise ValueError(f"decode(): expected theta to be on {model.device} as the face model, got {theta.device}")
    return render_face(model, parts.scaled(preset.heads), size=size, preset=preset)


def render_face(model: FaceModel, parameters: Theta, *, size: int = 224, preset: Preset | None = None) -> Face:
    """The faces of parameters that are in units already.

    vertices = mean + [identity, expression] @ basis; albedo alike; `focus_camera`; `focus_kernels.render_sh` on black.

    Args:
        model: the face model.
        parameters: see `Theta`, in the dtype and on the device of the model's means; differentiable.
        size: height and width of the image in pixels; the focal length follows it.
        preset: its `rendering` is used (normals, coverage, perspective correction); None is `paper`.

    Returns:
        Face, computed in that dtype, also inside autocast.

    Raises:
        TypeError, ValueError: parameters or size do not fit the model, as `focus_kernels.blend` and `render_sh` say.
    """
    rendering = (Preset() if preset is None else preset).rendering
    with torch.autocast(model.device.type, enabled=False):
        vertices = blend(model.mean_shape, model.shape_basis, parameters.shape)
        albedo = blend(model.mean_albedo, model.albedo_basis, parameters.albedo)
        camera = focus_camera(parameters.angles, parameters.translation, size=size)
        render = render_sh(
            vertices,
            albedo,
            parameters.light.reshape(-1, 3, LIGHT // 3),
            model.topology,
            camera,
            (size, size),
            normals=rendering.normals,
            coverage=rendering.coverage,
            perspective_correct=rendering.perspective_correct,
        )
    landmarks = None if model.landmarks is None else render.positions[:, model.landmarks, :2]
    return Face(parameters, vertices, albedo, camera, render, landmarks)


def network_input(face: Face, photo: Tensor, preset: Preset) -> Tensor:
    """The render [B, 3, H, W] for the segmentation network and the losses: with `composite_input` over the photo."""
    return face.over(photo) if preset.composite_input else face.image
