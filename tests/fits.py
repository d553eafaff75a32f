"""A stand-in for `fit_photo`: results of the right kind at no cost, for tests of what is made of them."""

import numpy as np

from focus.fitting import FitResult

CROP = 224


def fit_result(model, **changes) -> FitResult:
    """The model's mean face beside a square of light, with numbers that differ from field to field."""
    rng = np.random.default_rng(0)
    mask = np.zeros((CROP, CROP), bool)
    mask[60:160, 70:150] = True
    raster = np.zeros((CROP, CROP), bool)
    raster[50:170, 60:160] = True
    landmarks = rng.uniform(40, 180, (68, 2)).astype(np.float32)
    values = {
        "photo": rng.integers(0, 256, (CROP, CROP, 3), dtype=np.uint8),
        "render": np.full((CROP, CROP, 3), 0.5, np.float32) * raster[:, :, None],
        "mask": mask,
        "raster_mask": raster,
        "identity": rng.normal(size=len(model.identity_basis)).astype(np.float32),
        "expression": rng.normal(size=len(model.expression_basis)).astype(np.float32),
        "albedo_coeffs": rng.normal(size=len(model.albedo_basis)).astype(np.float32),
        "sh_coeffs": rng.normal(size=(3, 9)).astype(np.float32),
        "angles": np.array([0.1, -0.2, 0.05], np.float32),
        "translation": np.array([1.5, -2.5, 30.0], np.float32),
        "vertices": model.mean_shape.numpy().copy(),
        "colors": model.mean_albedo.numpy().clip(0, 1),
        "faces": model.topology.faces.numpy(),
        "landmarks_projected": landmarks + 1,
        "landmarks_photo": landmarks,
        "rmse_inlier": 9.25,
        "rmse_all": 21.5,
        "inlier_fraction": 2 / 3,
        "landmark_error_px": 2**0.5,
        "seconds": 1.25,
        "align": np.array([[0.5, 0, 3.25], [0, 0.5, -4.5]]),
    }
    return FitResult(**(values | changes))
