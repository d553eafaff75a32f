"""One photo from file to results: read, find landmarks, fit, write. What goes wrong is told, not raised."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .export import export_fit
from .face_model import FaceModel
from .fitting import FitError, FitSettings, fit_photo
from .images import ImageError, shrink
from .landmarks import Detector, NoFaceError
from .report import ReportItem
from .views import shape_views

DETECTOR_SIDE = 1600  # px; larger photos are shrunk for the detector, whose time and memory grow with the pixels

# Where in a photo's time each stage begins and ends: CPU time of the demo with the free model, 2.2 s in all.
STAGES = {
    "reading": (0.0, 0.01),
    "finding the face": (0.01, 0.02),
    "landmarks": (0.02, 0.06),
    "light": (0.06, 0.18),
    "photometric": (0.18, 0.94),
    "writing": (0.94, 1.0),
}

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Job:
    """A photo to fit."""

    label: str  # for messages and the report
    folder: str  # its results, inside the output folder
    read: Callable[[], np.ndarray]  # uint8 [H, W, 3] RGB; raises ImageError
    landmarks: np.ndarray | None = None  # [68, 2] px, half-pixel centres; None asks the detector
    error: str | None = None  # why it cannot even be begun


def fit_job(
    job: Job,
    out: str | Path,
    model: FaceModel,
    settings: FitSettings | None = None,
    detector: Detector | None = None,
    progress: Progress | None = None,
    debug: bool = False,
) -> ReportItem:
    """Fit one photo and write its results into its folder in `out`. Only interrupts are raised.

    Args:
        detector: for a job without landmarks.
        progress: called as progress(stage, fraction of this photo).
        debug: print the traceback of what fails.

    Returns:
        ReportItem, fitted when all files are complete, else failed with the reason.
    """
    try:
        return _fit(job, Path(out), model, settings, detector, progress or (lambda stage, fraction: None))
    except Exception as error:  # whatever it is, the other photos go on
        if debug:
            traceback.print_exc()
        return ReportItem.failed(job.label, _reason(error))


def _fit(
    job: Job,
    out: Path,
    model: FaceModel,
    settings: FitSettings | None,
    detector: Detector | None,
    report: Progress,
) -> ReportItem:
    start = time.perf_counter()
    if job.error is not None:
        return ReportItem.failed(job.label, job.error)
    report("reading", 0.0)
    image = job.read()
    landmarks = job.landmarks
    if landmarks is None:
        if detector is None:
            raise ValueError(f"fit_job(): expected landmarks or a detector for {job.label}")
        report("finding the face", STAGES["finding the face"][0])
        small, factor = shrink(image, DETECTOR_SIDE)
        landmarks = detector.detect(small) / factor  # half-pixel centres scale about the corner

    def fitting(stage: str, done: int, total: int) -> None:
        first, last = STAGES.get(stage, STAGES["photometric"])
        report(stage, first + (last - first) * done / max(total, 1))

    result = fit_photo(image, landmarks, model, settings, progress=fitting)
    report("writing", STAGES["writing"][0])
    size = (image.shape[1], image.shape[0])
    pictures = shape_views(result.vertices, result.faces)
    export_fit(out / job.folder, result, model, job.label, size, pictures)
    report("writing", 1.0)
    return ReportItem.fitted(job.label, job.folder, result, time.perf_counter() - start)


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if isinstance(error, (ImageError, NoFaceError, FitError)):
        return text or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"its results cannot be written: {error.strerror}"
    first = text.splitlines()[0] if text else "no message"
    return f"{type(error).__name__}: {first} (--debug shows where)"
