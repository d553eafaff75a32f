"""Random faces of a face model: parameters from a torch.Generator, and their render over a background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from focus_kernels import antialias, render_sh

from ..alignment import AlignmentError, crop_matrix
from ..camera import focus_camera
from ..face_model import FaceModel
from ..fitting.light import sh_basis

COSINE = np.array([np.pi] + 3 * [2 * np.pi / 3] + 5 * [np.pi / 4])  # Lambert's cosine in bands 0, 1 and 2
DIRECTIONS = 128  # over which a light is judged
MAX_LAMPS = 3
ALIGNMENT_STEPS = 2
DEEPEST = 0.15  # least illumination of a side that the camera sees, of the mean


@dataclass(frozen=True)
class SceneSettings:
    """How widely scenes vary. The angles and translations are those of docs and papers on FOCUS's misfit prior.

    Attributes:
        identity, expression, albedo: standard deviation of the coefficients (1 is the model's own).
        limit: coefficients are clamped to so many of the model's standard deviations.
        yaw, tilt: standard deviation of the head's turn, and of nod and roll, radians.
        shift, depth: of the translation across and along the line of sight, mm, where faces are not aligned.
        exposure: mean and standard deviation of the logarithm of the mean illumination of what the camera can see.
        ambient: least and most share of light without direction; the rest comes from one to three lamps.
        tint: standard deviation of the lamps' colours.
        light_noise: standard deviation of what is added to each of the 27 coefficients.
        aligned: faces are where `focus.alignment` puts those of photos, by their true landmarks.
        darkest, brightest: what exposure keeps the skin's mean brightness above, and its peak in any colour below.
    """

    identity: float = 1.0
    expression: float = 1.0
    albedo: float = 1.0
    limit: float = 2.5
    yaw: float = 0.3
    tilt: float = 0.15
    shift: float = 5.0
    depth: float = 30.0
    exposure: tuple[float, float] = (0.15, 0.25)
    ambient: tuple[float, float] = (0.35, 0.85)
    aligned: bool = True
    tint: float = 0.06
    light_noise: float = 0.04
    darkest: float = 0.12
    brightest: float = 1.05

    def __post_init__(self) -> None:
        widths = ("identity", "expression", "albedo", "limit", "yaw", "tilt", "shift", "depth", "tint", "light_noise")
        for name in widths:
            if not getattr(self, name) >= 0:
                raise ValueError(f"SceneSettings(): expected {name} to be >= 0, got {getattr(self, name)}")
        low, high = self.ambient
        if not 0 <= low <= high <= 1:
            raise ValueError(f"SceneSettings(): expected ambient to be shares in [0, 1] in order, got {self.ambient}")
        if not 0 < self.darkest < self.brightest:
            raise ValueError(
                f"SceneSettings(): expected 0 < darkest < brightest, got {self.darkest} and {self.brightest}"
            )


class FaceParameters(NamedTuple):
    """The parameters of one face, or with a batch dimension in front of each field. float32.

    In units, in the order of theta: what the decoder has after the factors of its heads.

    Attributes:
        identity [K_id], expression [K_exp], albedo [K_alb]: in standard deviations.
        light: [27], R9 G9 B9, as `focus_kernels.render_sh` takes it: FOCUS's offset of band 0 is part of it.
        angles: [3] Euler angles in radians, and translation: [3] in mm, as `focus.focus_camera` takes them.
    """

    identity: Tensor
    expression: Tensor
    albedo: Tensor
    light: Tensor
    angles: Tensor
    translation: Tensor


class RenderedFaces(NamedTuple):
    """Faces over backgrounds.

    Attributes:
        image: [B, 3, H, W] RGB in [0, 1]. mask: [B, 1, H, W], the share of each pixel that the face covers.
        landmarks: [B, 68, 2] px, half-pixel centres. vertices: [B, V, 3] mm, model frame.
    """

    image: Tensor
    mask: Tensor
    landmarks: Tensor
    vertices: Tensor


class SceneSampler:
    """Draws faces of a model.

    Args:
        model: float32, on the CPU.
        settings: None gives the defaults.
    """

    def __init__(self, model: FaceModel, settings: SceneSettings | None = None) -> None:
        self.model = model
        self.settings = settings or SceneSettings()
        self._mean_skin = model.mean_albedo.double().mean(0).numpy()
        self._skin_basis = model.albedo_basis.double().mean(1).numpy().reshape(-1, 3)
        steps = (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
        z, turn = -np.sqrt(steps), np.pi * (1 + 5**0.5) * np.arange(DIRECTIONS)  # each pixel of a sphere counts alike
        r = np.sqrt(1 - z * z)
        self._seen = sh_basis(np.stack([r * np.cos(turn), r * np.sin(turn), z], 1))

    def sample(self, generator: torch.Generator) -> FaceParameters:
        """One face, without a batch dimension. The same number of draws is taken from the generator for every face."""
        s, model = self.settings, self.model
        counts = [model.num_identity, len(model.shape_basis) - model.num_identity, len(model.albedo_basis)]
        normal = torch.randn(sum(counts) + 64, generator=generator, dtype=torch.float64)
        uniform = torch.rand(8, generator=generator, dtype=torch.float64).numpy()
        identity, expression, albedo, rest = normal.split([*counts, 64])
        identity, expression, albedo = (
            (scale * values).clamp(-s.limit, s.limit).float()
            for scale, values in ((s.identity, identity), (s.expression, expression), (s.albedo, albedo))
        )
        angles = rest[:3] * torch.tensor([s.tilt, s.yaw, s.tilt], dtype=torch.float64)
        translation = rest[3:6] * torch.tensor([s.shift, s.shift, s.depth], dtype=torch.float64)
        light = self._light(rest[6:].numpy(), uniform, self._skin(albedo))
        return FaceParameters(
            identity, expression, albedo, torch.from_numpy(light).float(), angles.float(), translation.float()
        )

    def skin(self, parameters: FaceParameters) -> np.ndarray:
        """The mean colour [3] float32 in [0, 1] of one face under its light."""
        light = parameters.light.double().numpy().reshape(3, 9)
        return np.clip(self._skin(parameters.albedo) * (self._seen @ light.T).mean(0), 0, 1).astype(np.float32)

    def _skin(self, albedo: Tensor) -> np.ndarray:
        return np.clip(self._mean_skin + albedo.double().numpy() @ self._skin_basis, 0.02, 1)

    def _light(self, normal: np.ndarray, uniform: np.ndarray, skin: np.ndarray) -> np.ndarray:
        """Light [27] from 58 normal and 8 uniform numbers, for skin of the mean albedo [3]."""
        s = self.settings
        lamps = 1 + int(uniform[0] * MAX_LAMPS)
        ambient = s.ambient[0] + uniform[1] * (s.ambient[1] - s.ambient[0])
        place = normal[: 3 * MAX_LAMPS].reshape(MAX_LAMPS, 3)[:lamps]
        # Lamps stand anywhere around the viewer, rather above the face than below it.
        towards = np.stack([0.8 * place[:, 0], 0.6 * place[:, 1] - 0.35, -np.abs(0.5 + 0.5 * place[:, 2]) - 0.05], 1)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        power = np.array([1.0, *(0.7 * uniform[2:4])])[:lamps]
        warm = 1 + s.tint * np.clip(normal[9:12], -2.5, 2.5)[:lamps, None] * np.array([1.0, 0.1, -1.0])
        warm = warm + 0.3 * s.tint * normal[12:21].reshape(MAX_LAMPS, 3)[:lamps]
        lamp = (power[:, None] * warm).T @ (COSINE * sh_basis(towards))  # [3, 9]
        lamp /= (lamp @ self._seen.T).mean()
        light = (1 - ambient) * lamp
        light[:, 0] += ambient / self._seen[0, 0] * (1 + 0.5 * s.tint * normal[21:24])
        light += s.light_noise * normal[24:51].reshape(3, 9)
        # Deep shades are mixed with the mean until the darkest side has a share of it.
        seen = light @ self._seen.T  # [3, N]
        mean, low = seen.mean(), seen.min()
        if low < DEEPEST * mean:
            keep = (1 - DEEPEST) * mean / (mean - low)
            light *= keep
            light[:, 0] += (1 - keep) * mean / self._seen[0, 0]
            seen = light @ self._seen.T
        exposure = np.exp(s.exposure[0] + s.exposure[1] * np.clip(normal[51], -2.5, 2.5)) / seen.mean()
        bright = (np.sort(seen)[:, DIRECTIONS * 9 // 10] * skin).max() * 1.2  # the brightest skin is above its mean
        exposure = max(exposure, s.darkest / (seen.mean(1) @ skin / 3))
        return (light * min(exposure, s.brightest / bright)).reshape(27)


def stack_parameters(parameters: Sequence[FaceParameters]) -> FaceParameters:
    """Single faces as one batch."""
    return FaceParameters(*(torch.stack(field) for field in zip(*parameters, strict=True)))


def project_landmarks(model: FaceModel, vertices: Tensor, parameters: FaceParameters, size: int) -> Tensor:
    """The model's landmarks [B, 68, 2] in pixels, half-pixel centres, of vertices [B, V, 3]. Without rendering."""
    camera = focus_camera(parameters.angles, parameters.translation, size=size)
    return camera.project(vertices[:, model.landmarks].contiguous())[..., :2]


@torch.no_grad()
def align_faces(model: FaceModel, vertices: Tensor, parameters: FaceParameters, size: int) -> FaceParameters:
    """A batch of faces moved to where `focus.alignment.align_face` would crop them, to a hundredth of a pixel or so.

    Faces that it refuses, such as those turned away, only come to the middle of the picture at their distance.
    """
    model_points = vertices[:, model.landmarks].contiguous()
    translation = parameters.translation.clone()
    for _ in range(ALIGNMENT_STEPS):
        camera = focus_camera(parameters.angles, translation, size=size)
        points = camera.project(model_points).double().numpy()
        f = float(camera.K[0, 0, 0])
        for row, face in enumerate(points):
            depth = face[:, 2].mean()
            try:
                matrix = crop_matrix(face[:, :2], (size, size), size=size)
            except AlignmentError:
                middle = size / 2 - face[:, :2].mean(0)
                translation[row, :2] += torch.from_numpy(middle * depth / f).float()
                continue
            zoom = matrix[0, 0]
            offset = zoom * size / 2 + matrix[:, 2] - size / 2  # where the middle of the picture goes
            move = np.array([*(offset * depth / (zoom * f)), depth * (1 / zoom - 1)])
            translation[row] += torch.from_numpy(move).float()
    return parameters._replace(translation=translation)


@torch.no_grad()
def render_faces(
    model: FaceModel,
    parameters: FaceParameters,
    vertices: Tensor,
    size: int,
    background: Tensor | None = None,
    out: tuple[Tensor, Tensor] | None = None,
) -> RenderedFaces:
    """Faces with smooth outlines over backgrounds.

    Args:
        parameters: a batch. vertices: [B, V, 3] mm, `model.shape` of it.
        background: [B, 3, size, size] RGB in [0, 1]; None is black.
        out: image [B, 3, size, size] and mask [B, 1, size, size] to write to.

    The same bits whatever the batch. Nothing is differentiable.
    """
    B = len(vertices)
    camera = focus_camera(parameters.angles, parameters.translation, size=size)
    light = parameters.light.reshape(B, 3, 9)
    albedo = model.albedo(parameters.albedo)
    render = render_sh(vertices, albedo, light, model.topology, camera, (size, size))
    canvas = vertices.new_zeros(B, 4, size, size)
    canvas[:, 3:] = render.mask
    if background is not None:
        torch.mul(background, 1 - render.mask, out=canvas[:, :3])
    canvas[:, :3] += render.image  # zero where no face is
    canvas = antialias(canvas, render.raster, render.positions, model.topology)
    image, mask = out or (vertices.new_empty(B, 3, size, size), vertices.new_empty(B, 1, size, size))
    torch.clamp(canvas[:, :3], 0, 1, out=image)
    torch.clamp(canvas[:, 3:], 0, 1, out=mask)
    return RenderedFaces(image, mask, render.positions[:, model.landmarks, :2], vertices)
