"""Fitting the face model to one photo: `fit_photo(image, landmarks, model) -> FitResult`."""

from .fit import fit_photo
from .result import FitError, FitResult
from .settings import FitSettings

__all__ = ["FitError", "FitResult", "FitSettings", "fit_photo"]
