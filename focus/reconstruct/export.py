"""Writing what a photo's reconstruction gives: meshes, parameters, masks and pictures, all or none."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np

from focus.atomic import staged_folder, write_atomic
from focus.export import face_parameters, write_glb, write_obj, write_ply
from focus.images import write_png
from focus.views import shape_views

from .drawing import crop_views
from .reconstructor import Reconstructor
from .result import ReconstructionResult

PARAMETERS_FORMAT = "focus-reconstruction"
PARAMETERS_VERSION = 1
NUMBERS = ("occluded_fraction", "rmse_inlier", "rmse_all", "landmark_error_px")


def numbers(result: ReconstructionResult) -> dict[str, float | None]:
    """NUMBERS of a result; None for what is not a number."""
    values = {name: float(getattr(result, name)) for name in NUMBERS}
    return {name: round(value, 5) if math.isfinite(value) else None for name, value in values.items()}


def parameters(result: ReconstructionResult, reconstructor: Reconstructor, photo: str = "") -> dict[str, Any]:
    """What `parameters.json` holds (docs/reconstruct.md), as plain Python values; the keys are those of `focus fit`.

    Args:
        photo: the photo's name.
    """
    return {
        "format": PARAMETERS_FORMAT,
        "version": PARAMETERS_VERSION,
        "photo": photo,
        "photo_size": list(result.photo_size),
        **face_parameters(result, reconstructor.model),
        "misfit_prior": reconstructor.prior is not None,
        **numbers(result),
    }


def export_reconstruction(
    folder: str | os.PathLike[str],
    result: ReconstructionResult,
    reconstructor: Reconstructor,
    image: np.ndarray,
    photo: str = "",
) -> None:
    """Write all files of one photo into `folder`, all or none.

    mesh.{obj,ply,glb}; parameters.json; mask.png and overlay.png in the photo's pixels; crop.png, crop_overlay.png,
    crop_mask.png, shape_front.png and shape_side.png for looking at.

    Args:
        image: the photo, uint8 [H, W, 3] RGB.
        photo: its name.

    Raises:
        OSError: the folder cannot be written.
    """
    # allow_nan=False: NaN is no JSON, and no other program would read it.
    text = json.dumps(parameters(result, reconstructor, photo), indent=1, allow_nan=False, ensure_ascii=False)
    drawn = reconstructor.draw(result, image)
    pictures = {
        "mask": np.round(result.mask_in_photo() * 255).astype(np.uint8),
        "overlay": drawn,
        **crop_views(result, image, drawn),
        **shape_views(result.vertices, result.faces),
    }
    with staged_folder(folder) as stage:
        write_meshes(stage, result.vertices, result.faces, result.colors)
        write_atomic(stage / "parameters.json", text + "\n")
        for name, picture in pictures.items():
            write_png(stage / f"{name}.png", picture)


def write_meshes(folder: str | os.PathLike[str], vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray) -> None:
    """mesh.obj, mesh.ply and mesh.glb, with colours in [0, 1]."""
    for write, ending in ((write_obj, "obj"), (write_ply, "ply"), (write_glb, "glb")):
        write(os.path.join(folder, f"mesh.{ending}"), vertices, faces, colors)  # noqa: PTH118
