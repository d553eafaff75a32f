"""Frames of video files, read and written through OpenCV."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts", ".3gp", ".ogv", ".flv")
USUAL_FPS = 25.0  # where a file names none
FASTEST_FPS = 1000.0  # above it a file's number is no frame rate
# VP8 in WebM is the one kind that OpenCV's wheels write and browsers play; the others are for builds without it.
WRITERS = (("VP80", ".webm"), ("avc1", ".mp4"), ("mp4v", ".mp4"), ("MJPG", ".avi"))


class VideoError(ValueError):
    """A video that cannot be read or written; the message says why."""


class VideoReader:
    """A video file, read from its beginning as often as it is iterated: uint8 [H, W, 3] RGB frames, upright.

    Attributes:
        fps: frames per second.
        size: width and height, px.
        count: how many frames the file claims to have; 0 where it does not say. The truth is known after reading.

    Raises:
        VideoError: no such file, or none that OpenCV can read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise VideoError("no such file")
        with _quiet():
            capture = cv2.VideoCapture(str(self.path))
            good, frame = capture.read()
            fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
            capture.release()
        if not good:
            raise VideoError("an empty file" if self.path.stat().st_size == 0 else "not a video that OpenCV can read")
        self.fps = float(fps) if 0 < fps <= FASTEST_FPS else USUAL_FPS
        self.size = (frame.shape[1], frame.shape[0])
        self.count = int(count) if 0 < count < 1e9 else 0

    def __iter__(self) -> Iterator[np.ndarray]:
        capture = cv2.VideoCapture(str(self.path))
        try:
            while True:
                good, frame = capture.read()
                if not good:
                    return
                if frame.shape[1::-1] != self.size:  # rare: a stream that changes its size
                    frame = cv2.resize(frame, self.size, interpolation=cv2.INTER_AREA)
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()


class VideoWriter:
    """Writes frames to `stem` with the ending of the first format that this OpenCV can write; a context manager.

    Args:
        stem: path without ending.
        fps: frames per second.
        size: width and height of the frames; odd ones lose a row or column, as most formats want even sides.

    Raises:
        VideoError: no format can be written.
    """

    def __init__(self, stem: str | os.PathLike[str], fps: float, size: tuple[int, int]) -> None:
        self.size = (max(size[0] // 2 * 2, 2), max(size[1] // 2 * 2, 2))
        with _quiet():
            for code, ending in WRITERS:
                self.path = Path(stem).with_name(Path(stem).name + ending)
                fourcc = cv2.VideoWriter.fourcc(*code)
                self._writer = cv2.VideoWriter(str(self.path), fourcc, fps, self.size)
                if self._writer.isOpened():
                    return
                self.path.unlink(missing_ok=True)
        raise VideoError(f"this OpenCV can write none of {', '.join(f'{c} ({e})' for c, e in WRITERS)}")

    def write(self, frame: np.ndarray) -> None:
        """uint8 [H, W, 3] RGB, of the size given."""
        frame = frame[: self.size[1], : self.size[0]]
        self._writer.write(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV's own messages held back, also those that it prints past its log: what goes wrong is told by ours."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        cv2.utils.logging.setLogLevel(level)
