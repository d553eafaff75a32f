"""`fit_photo` on a few of the real photos that are not part of the repository."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focus import FaceModel
from focus.fitting import FitSettings, fit_photo
from focus.landmarks import read_landmarks_csv

FACES = Path(__file__).resolve().parents[2] / "shared" / "faces"
pytestmark = pytest.mark.skipif(not FACES.is_dir(), reason=f"no photos at {FACES}")


def test_unoccluded_photos_are_explained():
    with (FACES / "landmarks68.csv").open(newline="") as file:
        names = [row["image"] for row in csv.DictReader(file) if not row["occlusion"]][10::40]
    landmarks = read_landmarks_csv(FACES / "landmarks68.csv")
    model = FaceModel.load(level=0)
    results = []
    for name in names:
        image = np.asarray(Image.open(FACES / "photos" / name).convert("RGB"))
        results.append(fit_photo(image, landmarks[name], model, FitSettings(iterations=60)))
    # the project's numbers for the median photo
    assert np.median([result.rmse_inlier for result in results]) < 12
    assert np.median([result.inlier_fraction for result in results]) > 0.6
    assert np.median([result.landmark_error_px for result in results]) < 5
