"""`fit_photo`: alignment, landmark stage, photometric stage."""

import time
from collections.abc import Callable

import numpy as np
import torch

from focus.alignment import CROP_SIZE, Alignment, AlignmentError, align_face
from focus.face_model import FaceModel

from .contour import Contour
from .landmark_stage import fit_landmarks
from .photometric import Photometric
from .result import FitError, FitResult
from .settings import FitSettings

MIN_PHOTO_SIDE = 32  # px; a smaller photo holds no face that 257 numbers could be read from


def fit_photo(
    image: np.ndarray,
    landmarks: np.ndarray,
    model: FaceModel,
    settings: FitSettings | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> FitResult:
    """Fit the face model to one photo: FOCUS's energy (Eq. 8) minimised for this photo, masks by Eq. 9-10.

    Deterministic: the same inputs and number of threads give the same result.

    Args:
        image: uint8 [H, W, 3] RGB, at least 32 px on each side.
        landmarks: [68, 2] px in `image`, iBUG order, half-pixel centres, as `focus.landmarks` gives them.
        model: face model with 68 landmarks; its device is used.
        settings: None for the defaults.
        progress: called as progress(stage, done, total) with the stages "landmarks", "light", "photometric".

    Raises:
        FitError: the landmarks or the photo do not allow a fit; the message says why.
        TypeError, ValueError: arguments of the wrong type or shape.
    """
    start = time.perf_counter()
    settings = settings or FitSettings()
    if model.landmarks is None:
        raise ValueError("fit_photo(): expected model to have 68 landmarks, got one without; set them in its file")
    alignment = _align(image, landmarks)
    report = progress or (lambda stage, done, total: None)
    mean, basis = (t.detach().cpu().float().numpy() for t in (model.mean_shape, model.shape_basis))
    faces = model.topology.faces.cpu().numpy()
    contour = Contour(faces, model.landmarks.cpu().numpy(), settings.contour_radius)
    pose = fit_landmarks(mean, basis, contour, alignment.landmarks, CROP_SIZE, settings)
    report("landmarks", 1, 1)
    like = model.mean_shape
    photo = torch.from_numpy(alignment.crop).to(like).permute(2, 0, 1) / 255
    state = Photometric(
        model,
        photo.contiguous(),
        torch.from_numpy(alignment.inside).to(like.device),
        alignment.landmarks,
        contour,
        pose,
        settings,
    )
    state.start_light()
    report("light", 1, 1)
    state.optimise(progress)
    return _result(state, alignment, faces, start)


def _align(image: np.ndarray, landmarks: np.ndarray) -> Alignment:
    if isinstance(image, np.ndarray) and image.ndim >= 2 and min(image.shape[:2]) < MIN_PHOTO_SIDE:
        height, width = image.shape[:2]
        raise FitError(f"the photo is {width} x {height} px; at least {MIN_PHOTO_SIDE} px on each side are needed")
    try:
        return align_face(image, landmarks)
    except AlignmentError as error:
        raise FitError(f"the face cannot be aligned: {error}") from error


@torch.no_grad()
def _result(state: Photometric, alignment: Alignment, faces: np.ndarray, start: float) -> FitResult:
    render = state.render()
    raster_mask = render.mask[0, 0] > 0
    distance = state.distance(render.image)
    mask = raster_mask & state.inside & (distance < state.settings.inlier_threshold)
    if not raster_mask.any() or not torch.isfinite(distance).all():
        raise FitError("the fitted face is empty or not finite")
    if not mask.any():
        raise FitError("the fitted face explains no pixel of the photo")
    projected = render.positions[0, state.chosen, :2].cpu().numpy()
    offset = np.linalg.norm(projected - alignment.landmarks, axis=1)

    def array(tensor: torch.Tensor) -> np.ndarray:
        return tensor[0].float().cpu().numpy()

    def rmse(where: torch.Tensor) -> float:
        return 255 * float((distance[where].mean() / 3).sqrt()) if where.any() else float("nan")

    return FitResult(
        photo=alignment.crop,
        render=array(render.image.permute(0, 2, 3, 1)),
        mask=mask.cpu().numpy(),
        raster_mask=raster_mask.cpu().numpy(),
        identity=array(state.identity),
        expression=array(state.expression),
        albedo_coeffs=array(state.albedo),
        sh_coeffs=array(state.light),
        angles=array(state.angles),
        translation=np.concatenate([array(state.translation), array(state.depth)]),
        vertices=array(state.vertices()),
        colors=array(state.model.albedo(state.albedo).clamp(0, 1)),
        faces=faces.astype(np.int32),
        landmarks_projected=projected.astype(np.float32),
        landmarks_photo=alignment.landmarks.astype(np.float32),
        rmse_inlier=rmse(mask),
        rmse_all=rmse(raster_mask),
        inlier_fraction=float(mask.sum() / raster_mask.sum()),
        landmark_error_px=float(offset.mean()),
        seconds=time.perf_counter() - start,
        align=alignment.matrix,
    )
