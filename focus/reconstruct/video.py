"""Reconstruction of videos: a table of parameters for every frame, and the faces over the frames as a video."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from focus.alignment import AlignmentError, align_face
from focus.atomic import staged_folder
from focus.images import write_png
from focus.landmarks import NoFaceError
from focus.views import shape_views

from .drawing import crop_views
from .export import NUMBERS, numbers, write_meshes
from .frames import VideoReader, VideoWriter
from .reconstructor import Prepared, Reconstructor
from .result import ReconstructionError, ReconstructionResult
from .smoothing import OneEuro

TABLE = "parameters.csv"
DECIMALS = 7  # significant ones, about what float32 holds
# One unit of speed for the filter: about the least motion that one sees in a frame.
LANDMARK_UNIT = 0.02  # of the face's extent in the photo
UNITS = {"coefficients": 0.5, "light": 0.1, "angles": 0.05, "translation": 2.0, "depth": 15.0}  # of theta, decoded

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class VideoResult:
    """What became of a video."""

    frames: int
    frames_with_face: int
    fps: float
    numbers: dict[str, float | None]  # medians of `focus.reconstruct.export.NUMBERS` over the frames with a face
    overlay: str  # name of the video with the faces


def reconstruct_video(
    reconstructor: Reconstructor,
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    smooth: bool = False,
    shared_identity: bool = False,
    detect_every: int = 1,
    progress: Progress | None = None,
) -> VideoResult:
    """Reconstruct the largest face in each frame of a video and write all files into `folder`, all or none.

    overlay.webm (or .mp4, .avi, as OpenCV can), the frames with the faces over them; parameters.csv, a row for each
    frame; mesh.{obj,ply,glb}, the neutral face of the medians of identity and colour; poster.png, the first frame with
    a face; crop.png, crop_overlay.png, crop_mask.png of that frame; shape_front.png and shape_side.png of the mesh.

    Args:
        smooth: filter landmarks and parameters over time (`OneEuro`); the filter starts anew after frames without a
            face.
        shared_identity: all frames get the medians of identity and colour coefficients; for videos of one person.
        detect_every: the detector looks at every n-th frame. Between two that show a face landmarks are interpolated;
            where one of them shows none, it looks at the frames between as well.
        progress: called as progress(stage, fraction of this video).

    Raises:
        VideoError: the video cannot be read, or no kind of video can be written.
        ReconstructionError: no frame shows a face.
        OSError: the folder cannot be written.
        focus.landmarks.DetectorUnavailableError: no detector can run.
    """
    if isinstance(detect_every, bool) or not isinstance(detect_every, int):
        raise TypeError(f"reconstruct_video(): expected detect_every to be an int, got {type(detect_every).__name__}")
    if detect_every < 1:
        raise ValueError(f"reconstruct_video(): expected detect_every to be at least 1, got {detect_every}")
    video = VideoReader(path)
    report = progress or (lambda stage, fraction: None)
    passes = 3 if smooth or shared_identity else 2
    found = _find_faces(reconstructor, video, detect_every, lambda done: report("finding faces", done / passes))
    if all(isinstance(item, str) for item in found):
        raise ReconstructionError(f"no face in any of its {len(found)} frames ({found[0]})" if found else "no frames")
    if smooth:
        found = _smooth_landmarks(found, 1 / video.fps)
    theta = None
    if passes == 3:
        theta = _encode(reconstructor, video, found, lambda done: report("first pass", (1 + done) / passes))
        if shared_identity:
            _share_identity(theta, reconstructor)
        if smooth:
            _smooth_theta(theta, reconstructor, 1 / video.fps)
    with staged_folder(folder) as stage:
        tail = lambda done: report("writing", (passes - 1 + done) / passes)
        return _write(Path(stage), reconstructor, video, found, theta, tail)


Found = list[np.ndarray | str]  # for each frame the landmarks [68, 2], px in the frame, or why there are none


def _find_faces(reconstructor: Reconstructor, video: VideoReader, every: int, report: Callable[[float], None]) -> Found:
    found: Found = []

    def look(frame: np.ndarray) -> np.ndarray | str:
        try:
            landmarks = reconstructor.find(frame)
            align_face(frame, landmarks, size=reconstructor.size)  # raises on landmarks that are no face's
        except (NoFaceError, AlignmentError) as error:
            return str(error)
        return landmarks

    frames = iter(video)
    between: list[np.ndarray] = []  # frames since the last that was looked at
    for frame in frames:
        if len(found) == 0:
            found.append(look(frame))
            continue
        between.append(frame)
        if len(between) == every:
            found += _interval(found[-1], look(frame), between[:-1], look)
            between = []
            report(min(1.0, len(found) / max(video.count, len(found), 1)))
    return found + [look(frame) for frame in between]


def _interval(
    first: np.ndarray | str,
    last: np.ndarray | str,
    between: Sequence[np.ndarray],
    look: Callable[[np.ndarray], np.ndarray | str],
) -> Found:
    """The frames after `first` up to `last`."""
    if isinstance(first, str) or isinstance(last, str):
        return [*(look(frame) for frame in between), last]
    steps = len(between) + 1
    return [first + (last - first) * (step / steps) for step in range(1, steps)] + [last]


def _smooth_landmarks(found: Found, seconds: float) -> Found:
    """Steady landmarks make a steady crop; in units of the face's extent, so that its distance does not matter."""
    smoothed: Found = []
    filtered, unit = OneEuro(), None
    for item in found:
        if isinstance(item, str):
            filtered.reset()
            unit = None
            smoothed.append(item)
            continue
        if unit is None:  # once: in units that tremble, steady points far from the corner would tremble
            unit = LANDMARK_UNIT * float(np.ptp(item, axis=0).max())
        smoothed.append(filtered(item / unit, seconds) * unit)
    return smoothed


def _batches(
    reconstructor: Reconstructor, video: VideoReader, found: Found
) -> Iterator[list[tuple[np.ndarray, Prepared | ReconstructionError]]]:
    """Frames, and each with its face aligned."""
    pairs = zip(video, found, strict=False)  # another reading ends earlier only where the file is changed meanwhile
    while batch := list(islice(pairs, reconstructor.batch_size)):
        yield [
            (frame, ReconstructionError(item) if isinstance(item, str) else reconstructor.prepare(frame, item))
            for frame, item in batch
        ]


def _encode(
    reconstructor: Reconstructor, video: VideoReader, found: Found, report: Callable[[float], None]
) -> list[np.ndarray | None]:
    """Theta of each frame, None for those without a face."""
    theta: list[np.ndarray | None] = []
    for batch in _batches(reconstructor, video, found):
        good = [item for _, item in batch if isinstance(item, Prepared)]
        made = iter(reconstructor.encode(good) if good else ())
        theta += [next(made).copy() if isinstance(item, Prepared) else None for _, item in batch]
        report(len(theta) / len(found))
    return theta


def _share_identity(theta: Sequence[np.ndarray | None], reconstructor: Reconstructor) -> None:
    """Medians over the frames in place of identity and colour, which a minority of covered frames cannot move."""
    layout = reconstructor.autoencoder.layout
    shared = np.r_[0 : layout.num_identity, sum(layout[:2]) : sum(layout)]
    values = np.median([item[shared] for item in theta if item is not None], axis=0)
    for item in theta:
        if item is not None:
            item[shared] = values


def _smooth_theta(theta: Sequence[np.ndarray | None], reconstructor: Reconstructor, seconds: float) -> None:
    layout, heads = reconstructor.autoencoder.layout, reconstructor.autoencoder.preset.heads
    unit = np.full(layout.total, UNITS["coefficients"])
    unit[sum(layout[:2]) : sum(layout)] /= heads.albedo
    unit[sum(layout) : -6] = UNITS["light"]
    unit[-6:-3] = UNITS["angles"] / heads.angles
    unit[-3:-1] = UNITS["translation"] / heads.translation
    unit[-1] = UNITS["depth"] / heads.depth
    filtered = OneEuro()
    for item in theta:
        if item is None:
            filtered.reset()
        else:
            item[:] = filtered(item / unit, seconds) * unit


def _write(
    stage: Path,
    reconstructor: Reconstructor,
    video: VideoReader,
    found: Found,
    theta: Sequence[np.ndarray | None] | None,
    report: Callable[[float], None],
) -> VideoResult:
    first: ReconstructionResult | None = None
    pictures: dict[str, np.ndarray] = {}
    rows: list[dict[str, float | None]] = []
    identities, albedos = [], []
    count = 0
    with (
        (stage / TABLE).open("w", newline="", encoding="utf-8") as file,
        VideoWriter(stage / "overlay", video.fps, video.size) as writer,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_header(reconstructor))
        for batch in _batches(reconstructor, video, found):
            known = [] if theta is None else [t for t in theta[count : count + len(batch)] if t is not None]
            given = np.stack(known) if known else None
            outcomes = reconstructor.reconstruct([item for _, item in batch], given)
            for (image, _), outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, ReconstructionError):
                    writer.write(image)
                    table.writerow([count, _text(count / video.fps), str(outcome)])
                    count += 1
                    continue
                drawn = reconstructor.draw(outcome, image)
                writer.write(drawn)
                row = numbers(outcome)
                rows.append(row)
                identities.append(outcome.identity)
                albedos.append(outcome.albedo_coeffs)
                table.writerow([count, _text(count / video.fps), "", *_row(outcome, row)])
                if first is None:
                    first = outcome
                    pictures = {"poster": drawn, **crop_views(outcome, image, drawn)}
                count += 1
            report(count / len(found))
    if first is None:
        raise ReconstructionError("no frame could be reconstructed")
    vertices = reconstructor.neutral(np.median(identities, axis=0))
    write_meshes(stage, vertices, first.faces, reconstructor.albedo(np.median(albedos, axis=0)).clip(0, 1))
    for name, picture in {**pictures, **shape_views(vertices, first.faces)}.items():
        write_png(stage / f"{name}.png", picture)
    columns = {name: [value for row in rows if (value := row[name]) is not None] for name in NUMBERS}
    medians = {name: median(values) if values else None for name, values in columns.items()}
    return VideoResult(count, len(rows), video.fps, medians, writer.path.name)


def _header(reconstructor: Reconstructor) -> list[str]:
    layout = reconstructor.autoencoder.layout
    counts = {
        "identity": layout.num_identity,
        "expression": layout.num_expression,
        "albedo": layout.num_albedo,
        "sh": 27,
    }
    columns = [f"{name}_{i}" for name, count in counts.items() for i in range(count)]
    pose = ["angle_a", "angle_b", "angle_c", "translation_x", "translation_y", "translation_z"]
    return ["frame", "seconds", "error", *NUMBERS, "align_zoom", "align_x", "align_y", *columns, *pose]


def _row(result: ReconstructionResult, row: dict[str, float | None]) -> list[str]:
    parts = (result.identity, result.expression, result.albedo_coeffs, result.sh_coeffs.reshape(-1))
    values = [result.align[0, 0], *result.align[:, 2], *np.concatenate([*parts, result.angles, result.translation])]
    return [*("" if row[name] is None else _text(row[name]) for name in NUMBERS), *map(_text, values)]


def _text(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{DECIMALS}g}"
