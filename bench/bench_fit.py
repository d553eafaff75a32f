"""focus fit: one photograph, from landmarks to the photometric fit, with the default settings."""

from dataclasses import asdict

import pytest

from .race import TWO

TWO_THREADS = pytest.mark.parametrize("place", [TWO], indirect=True, ids=["2_threads"])


@TWO_THREADS
def test_fit_photo(race, place):
    """Timed once: it takes seconds. The fit has to explain the photo, else it fails here."""
    from focus import FaceModel
    from focus.demo import demo_photo
    from focus.fitting import FitSettings, fit_photo

    (photo, landmarks), model, results = demo_photo(), FaceModel.load(level=1), []
    race(
        "focus fit, 10k, one photo",
        [lambda: results.append(fit_photo(photo, landmarks, model, FitSettings()))],
        1,
        rounds=1,
        warmup=0,
        scaling=False,
    )
    fit = results[-1]
    assert fit.rmse_inlier < 20 and fit.inlier_fraction > 0.5, (fit.rmse_inlier, fit.inlier_fraction)
    race.benchmark.extra_info |= {"rmse_inlier": fit.rmse_inlier, "inlier_fraction": fit.inlier_fraction}
    race.benchmark.extra_info["settings"] = {key: str(value) for key, value in asdict(FitSettings()).items()}
    race.reach("fit", race.median and race.median / 1e3)
    race.reach("fit/rmse", fit.rmse_inlier, "<= 12 is asked of the median photo of a test set")
    race.reach("fit/inliers", 100 * fit.inlier_fraction, ">= 60 likewise")
