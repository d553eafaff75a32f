"""Landmark files and detectors; the detectors run against stand-ins of the packages' interfaces."""

import enum
import functools
import socket
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from focus.landmarks import (
    DetectorUnavailableError,
    DlibDetector,
    FaceAlignmentDetector,
    LandmarkFileError,
    NoFaceError,
    make_detector,
    read_landmarks_csv,
)

POINTS = np.arange(136, dtype=np.float64).reshape(68, 2)
IMAGE = np.zeros((100, 120, 3), np.uint8)


def row(name, points=POINTS, extra=()):
    return ",".join([name, *extra, *(f"{value:g}" for value in points.reshape(-1))])


def header(first, name, extra=()):
    return ",".join([name, *extra, *(f"{axis}{index}" for index in range(first, first + 68) for axis in "xy")])


@pytest.mark.parametrize(
    "lines",
    [
        [header(0, "image", ["occlusion"]), row("a b.jpg", extra=["glasses"]), row("c.png", POINTS + 1, [""])],
        [header(1, "filename"), row("a b.jpg"), row("c.png", POINTS + 1)],
        [row("a b.jpg"), row("c.png", POINTS + 1)],
        ["\ufeff" + header(0, "image"), row("a b.jpg"), "", row("c.png", POINTS + 1)],
    ],
)
def test_layouts(tmp_path, lines):
    path = tmp_path / "landmarks.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    got = read_landmarks_csv(path)
    assert list(got) == ["a b.jpg", "c.png"]
    np.testing.assert_array_equal(got["a b.jpg"], POINTS + 0.5)  # integer pixel centres become half-pixel centres
    np.testing.assert_array_equal(got["c.png"], POINTS + 1.5)


@pytest.mark.parametrize(
    "lines,message",
    [
        ([], "has no rows"),
        ([header(0, "image")], "has a header and no rows"),
        ([header(0, "image").replace(",y67", "")], "'y67' is missing"),
        ([header(0, "image"), row("a.jpg") + ",3"], "line 2: expected 137 columns, got 138"),
        ([header(0, "image"), "a.jpg,1,2,3"], "line 2: expected 137 columns, got 4"),
        (["a.jpg,1,2,3"], "line 1: expected 137 columns, got 4"),
        ([row("a.jpg"), row("a.jpg")], "line 2: 'a.jpg' is given a second time"),
        ([row("a.jpg").replace(",7,", ",seven,")], "line 1: expected a finite number, got 'seven'"),
        ([row("a.jpg").replace(",7,", ",nan,")], "line 1: expected a finite number, got 'nan'"),
    ],
)
def test_file_errors_name_the_line(tmp_path, lines, message):
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(LandmarkFileError, match=message) as caught:
        read_landmarks_csv(path)
    assert str(path) in str(caught.value)


def test_unreadable_files(tmp_path):
    with pytest.raises(LandmarkFileError, match="cannot be read"):
        read_landmarks_csv(tmp_path / "none.csv")
    binary = tmp_path / "photo.csv"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(LandmarkFileError, match="not a CSV text file"):
        read_landmarks_csv(binary)


def fake_face_alignment(faces=None, error=None):
    module = types.ModuleType("face_alignment")

    class LandmarksType(enum.IntEnum):
        TWO_D = 1
        THREE_D = 3

    class FaceAlignment:
        def __init__(self, landmarks_type, network_size=4, device="cuda", flip_input=True, compile=True):
            if error is not None:
                raise error
            assert landmarks_type is LandmarksType.TWO_D and device == "cpu" and not compile

        def get_landmarks_from_image(self, image, detected_faces=None):
            assert image.dtype == np.uint8 and image.shape[2] == 3
            return faces

    module.LandmarksType, module.FaceAlignment = LandmarksType, FaceAlignment
    return module


def fake_dlib(boxes=()):
    module = types.ModuleType("dlib")

    class Box:
        def __init__(self, size):
            self.size = size

        def area(self):
            return self.size**2

    class Shape:
        def __init__(self, size):
            self.size = size

        def parts(self):
            return [types.SimpleNamespace(x=int(x) * self.size, y=int(y) * self.size) for x, y in POINTS]

    def shape_predictor(path):
        if b"predictor" not in Path(path).read_bytes():
            raise RuntimeError("Error deserializing")
        return lambda image, box: Shape(box.size)

    module.get_frontal_face_detector = lambda: lambda image, upsample: [Box(size) for size in boxes]
    module.shape_predictor = shape_predictor
    return module


@pytest.fixture
def no_detectors(monkeypatch):
    for name in ("face_alignment", "dlib", "face_recognition_models"):
        monkeypatch.setitem(sys.modules, name, None)
    return monkeypatch


@pytest.fixture
def models(tmp_path, no_detectors):
    """A package face_recognition_models on the path, which cannot be imported, as with a new setuptools."""
    package = tmp_path / "face_recognition_models"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('pkg_resources')")
    (package / "models" / "shape_predictor_68_face_landmarks.dat").write_bytes(b"predictor")
    no_detectors.delitem(sys.modules, "face_recognition_models")
    no_detectors.syspath_prepend(tmp_path)
    return package


def test_face_alignment_takes_the_largest_face(no_detectors):
    faces = [POINTS.astype(np.float32) / 2, POINTS.astype(np.float32)]
    no_detectors.setitem(sys.modules, "face_alignment", fake_face_alignment(faces))
    got = make_detector("face-alignment").detect(IMAGE)
    np.testing.assert_array_equal(got, POINTS + 0.5)
    assert got.dtype == np.float64


@pytest.mark.parametrize("faces", [None, []])
def test_face_alignment_without_a_face(no_detectors, faces):
    no_detectors.setitem(sys.modules, "face_alignment", fake_face_alignment(faces))
    with pytest.raises(NoFaceError, match="found no face"):
        FaceAlignmentDetector().detect(IMAGE)


def test_face_alignment_without_the_libraries_of_opencv(no_detectors, tmp_path):
    (tmp_path / "face_alignment.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    no_detectors.delitem(sys.modules, "face_alignment")
    no_detectors.syspath_prepend(tmp_path)
    with pytest.raises(DetectorUnavailableError, match=r"libGL\.so\.1.*apt-get install libgl1"):
        make_detector("face-alignment")


def test_face_alignment_offline(no_detectors):
    no_detectors.setitem(sys.modules, "face_alignment", fake_face_alignment(error=OSError("no route")))
    with pytest.raises(DetectorUnavailableError, match=r"could not be fetched \(no route\).*2DFAN4.*TORCH_HOME"):
        make_detector("face-alignment")


def test_face_alignment_waits_a_while_for_its_weights_and_not_for_ever(no_detectors):
    """A network that answers nothing ends as an error; sockets of others are as before."""
    seen = []
    module = fake_face_alignment()
    init = module.FaceAlignment.__init__

    def waiting(self, *arguments, **options):
        seen.append(socket.getdefaulttimeout())
        init(self, *arguments, **options)
        raise TimeoutError("timed out")

    module.FaceAlignment.__init__ = functools.wraps(init)(waiting)
    no_detectors.setitem(sys.modules, "face_alignment", module)
    with pytest.raises(DetectorUnavailableError, match=r"could not be fetched \(timed out\)"):
        make_detector("face-alignment")
    assert seen[0] is not None and 5 <= seen[0] <= 60 and socket.getdefaulttimeout() is None


def test_dlib_takes_the_largest_face(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", fake_dlib([1, 3, 2]))
    np.testing.assert_array_equal(make_detector("dlib").detect(IMAGE), POINTS * 3 + 0.5)


def test_dlib_without_a_face(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", fake_dlib())
    with pytest.raises(NoFaceError, match="found no face"):
        DlibDetector().detect(IMAGE)


def test_dlib_without_a_model(no_detectors, tmp_path):
    no_detectors.setitem(sys.modules, "dlib", fake_dlib())
    no_detectors.delitem(sys.modules, "face_recognition_models")
    no_detectors.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DetectorUnavailableError, match=r"shape_predictor_68.*pip install"):
        make_detector("dlib")
    with pytest.raises(DetectorUnavailableError, match="no predictor file at"):
        DlibDetector(tmp_path / "none.dat")
    wrong = tmp_path / "wrong.dat"
    wrong.write_bytes(b"something else")
    with pytest.raises(DetectorUnavailableError, match="not a dlib shape predictor"):
        DlibDetector(wrong)


def test_auto_prefers_face_alignment_then_dlib(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", fake_dlib([1]))
    assert isinstance(make_detector(), DlibDetector)
    monkeypatch.setitem(sys.modules, "face_alignment", fake_face_alignment(error=OSError("offline")))
    assert isinstance(make_detector("auto"), DlibDetector)
    monkeypatch.setitem(sys.modules, "face_alignment", fake_face_alignment([POINTS]))
    assert isinstance(make_detector("auto"), FaceAlignmentDetector)


def test_auto_lists_every_reason(no_detectors):
    with pytest.raises(DetectorUnavailableError) as caught:
        make_detector()
    message = str(caught.value)
    assert "pip install face-alignment" in message and "focus-kernels[dlib]" in message and "CSV" in message


def test_unknown_detector():
    with pytest.raises(ValueError, match="expected kind to be one of auto, face-alignment, dlib, got 'mtcnn'"):
        make_detector("mtcnn")


@pytest.mark.parametrize("image,error", [(IMAGE.astype(float), TypeError), (IMAGE[..., 0], ValueError)])
def test_detectors_refuse_other_images(no_detectors, image, error):
    no_detectors.setitem(sys.modules, "face_alignment", fake_face_alignment([POINTS]))
    with pytest.raises(error, match="expected image to be"):
        FaceAlignmentDetector().detect(image)


def test_real_dlib_refuses_a_file_that_is_no_model(tmp_path):
    pytest.importorskip("dlib", reason="dlib is not installed")
    path = tmp_path / "model.dat"
    path.write_bytes(b"no model")
    with pytest.raises(DetectorUnavailableError, match="not a dlib shape predictor"):
        DlibDetector(path)
