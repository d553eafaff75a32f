"""Evaluation: masks, pictures, landmarks and shapes against the truth, and the NoW challenge."""

from .evaluate import LabelledBatch, evaluate, evaluate_synthetic, make_validator, synthetic_batches
from .mesh_distance import Mesh, Surface
from .mesh_files import read_mesh, read_now_landmarks
from .metrics import (
    LandmarkErrors,
    MaskScores,
    Similarity,
    fit_similarity,
    image_rmse,
    landmark_errors,
    mask_scores,
    occluded_fraction,
    vertex_error,
)
from .now import NowError, now_error
from .now_challenge import NowResult, evaluate_now
from .results import Evaluation, Statistic, merged, read_statistics
from .tables import all_tables, mask_table, now_table, rmse_table, shape_table

__all__ = [
    "Evaluation",
    "LabelledBatch",
    "LandmarkErrors",
    "MaskScores",
    "Mesh",
    "NowError",
    "NowResult",
    "Similarity",
    "Statistic",
    "Surface",
    "all_tables",
    "evaluate",
    "evaluate_now",
    "evaluate_synthetic",
    "fit_similarity",
    "image_rmse",
    "landmark_errors",
    "make_validator",
    "mask_scores",
    "mask_table",
    "merged",
    "now_error",
    "now_table",
    "occluded_fraction",
    "read_mesh",
    "read_now_landmarks",
    "read_statistics",
    "rmse_table",
    "shape_table",
    "synthetic_batches",
    "vertex_error",
]
