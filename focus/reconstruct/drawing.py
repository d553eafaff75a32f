"""Pictures of a reconstruction: the face over the whole photo, and the mask shown on the crop."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from focus.alignment import align_face
from focus.autoencoder import FaceAutoencoder
from focus.camera import focus_camera
from focus_kernels import Camera, blend, render_sh

from .result import ReconstructionResult

COVERED = np.array([226.0, 43.0, 62.0])  # RGB laid over what covers the face
COVERED_OPACITY = 0.62
OUTSIDE_LIGHT = 0.42  # of the photo's brightness, off the face
VIEW_SIZE = 336  # px, of the crop in the page


@torch.no_grad()
def draw_face(autoencoder: FaceAutoencoder, result: ReconstructionResult, image: np.ndarray) -> np.ndarray:
    """The face over a photo [H, W, 3] uint8: rendered again at the photo's resolution, where the mesh falls in it."""
    model, rendering = autoencoder.face_model, autoencoder.preset.rendering

    def batch(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values)[None].to(model.mean_shape)

    shape = torch.cat([batch(result.identity), batch(result.expression)], 1)
    vertices = blend(model.mean_shape, model.shape_basis, shape)
    albedo = blend(model.mean_albedo, model.albedo_basis, batch(result.albedo_coeffs))
    camera = focus_camera(batch(result.angles), batch(result.translation), size=len(result.photo))
    zoom, offset = result.align[0, 0], result.align[:, 2]
    # Crop pixel = zoom * photo pixel + offset: the same pinhole with another focal length and principal point.
    K = camera.K.double().cpu().numpy()[0]
    K[:2, 2] -= offset
    K[:2] /= zoom
    seen = vertices[0] @ camera.R[0].T + camera.t[0]
    points = (seen[:, :2] / seen[:, 2:]).double().cpu().numpy() * K[[0, 1], [0, 1]] + K[:2, 2]
    low = np.maximum(np.floor(points.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(points.max(0)), result.photo_size).astype(int)
    drawn = image.copy()
    if (high <= low).any():
        return drawn
    K[:2, 2] -= low
    render = render_sh(
        vertices,
        albedo,
        batch(result.sh_coeffs),
        model.topology,
        Camera(torch.from_numpy(K)[None].to(camera.K), camera.R, camera.t),
        tuple((high - low)[::-1].tolist()),
        normals=rendering.normals,
        coverage=rendering.coverage,
        perspective_correct=rendering.perspective_correct,
    )
    face = (render.image[0].clamp(0, 1) * 255).round().permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    window = drawn[low[1] : high[1], low[0] : high[0]]
    covers = render.mask[0, 0].cpu().numpy() > 0
    window[covers] = face[covers]
    return drawn


def crop_views(result: ReconstructionResult, image: np.ndarray, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """The crop at VIEW_SIZE, whatever the networks' size is: crop, crop_overlay, crop_mask, each uint8 [S, S, 3].

    Args:
        image: the photo [H, W, 3] uint8. drawn: the photo with the face over it, of `draw_face`.
    """
    landmarks = result.to_photo(result.landmarks_photo)
    crop = align_face(image, landmarks, size=VIEW_SIZE).crop
    mask, raster = (
        np.asarray(Image.fromarray(plane).resize((VIEW_SIZE, VIEW_SIZE), Image.Resampling.BILINEAR))
        for plane in (result.mask, result.raster_mask.astype(np.float32))
    )
    return {
        "crop": crop,
        "crop_overlay": align_face(drawn, landmarks, size=VIEW_SIZE).crop,
        "crop_mask": draw_mask(crop, mask, raster),
    }


def draw_mask(photo: np.ndarray, mask: np.ndarray, raster_mask: np.ndarray) -> np.ndarray:
    """A mask on its photo: uint8 [S, S, 3]; the visible face as it is, what covers it red, the rest dark.

    Args:
        photo: [S, S, 3] uint8. mask: M, and raster_mask: the face, visible or not, both [S, S] in [0, 1].
    """
    covered = (raster_mask - mask).clip(0, 1)[:, :, None] * COVERED_OPACITY
    light = OUTSIDE_LIGHT + (1 - OUTSIDE_LIGHT) * raster_mask[:, :, None]
    picture = photo * light * (1 - covered) + COVERED * covered
    return np.round(picture).clip(0, 255).astype(np.uint8)
