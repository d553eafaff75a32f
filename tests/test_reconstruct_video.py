"""Videos: frames read and written, the table, shared identity, smoothing, and frames without a face."""

import csv

import numpy as np
import pytest
from reconstructions import autoencoder, landmarks, photo

from focus import FaceModel
from focus.landmarks import NoFaceError
from focus.reconstruct import OneEuro, ReconstructionError, Reconstructor, VideoError, reconstruct_video
from focus.reconstruct.frames import VideoReader, VideoWriter
from focus.reconstruct.video import _smooth_landmarks

FPS, SIZE = 20.0, (96, 72)


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


class Detector:
    """A face in every frame that is not dark, jumping to and fro by a pixel."""

    def __init__(self, model):
        self.points, self.seen = landmarks(model, (48, 36), 60), 0

    def detect(self, image):
        self.seen += 1
        if image.mean() < 20:
            raise NoFaceError("found no face")
        return self.points + (self.seen % 2)


@pytest.fixture
def clip(tmp_path):
    """Writes a clip whose frames change their colours; those in `dark` are black."""

    def make(count=9, dark=()):
        with VideoWriter(tmp_path / "clip", FPS, SIZE) as writer:
            for number in range(count):
                frame = photo(number % 3, SIZE[1], SIZE[0]) // 2 + 60
                writer.write(frame * 0 if number in dark else frame)
        return writer.path

    return make


def table(folder):
    with (folder / "parameters.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def columns(rows, name):
    keys = [key for key in rows[0] if key.startswith(name)]
    return np.array([[float(row[key]) for key in keys] for row in rows if not row["error"]])


def test_frames_written_are_frames_read(tmp_path):
    frames = [np.full((41, 60, 3), (40 + 10 * n, 200 - 10 * n, 90), np.uint8) for n in range(6)]
    with VideoWriter(tmp_path / "a", FPS, (60, 41)) as writer:
        for frame in frames:
            writer.write(frame)
    video = VideoReader(writer.path)
    assert video.size == (60, 40) and video.fps == pytest.approx(FPS)  # even sides only
    for _ in range(2):  # as often as one likes
        found = list(video)
        assert len(found) == 6
        for before, after in zip(frames, found, strict=True):
            assert np.abs(before[:40].astype(int) - after).mean() < 6  # red and blue keep their places


@pytest.mark.parametrize(
    "content, text", [(b"", "an empty file"), (b"no video", "not a video"), (None, "no such file")]
)
def test_what_is_no_video(content, text, tmp_path, capfd):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=text):
        VideoReader(path)
    assert capfd.readouterr().err == ""


def test_a_video(model, clip, tmp_path):
    reconstructor = Reconstructor(autoencoder(model), detector=Detector(model), batch_size=4)
    seen = []
    result = reconstruct_video(
        reconstructor, clip(9, dark=(0, 5)), tmp_path / "out", progress=lambda stage, share: seen.append(share)
    )
    assert (result.frames, result.frames_with_face, result.overlay) == (9, 7, "overlay.webm")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {f"{n}.png" for n in ("poster", "crop", "crop_overlay", "crop_mask", "shape_front", "shape_side")}
    assert names == {"parameters.csv", "overlay.webm", "mesh.obj", "mesh.ply", "mesh.glb"} | pictures
    rows = table(tmp_path / "out")
    assert [row["error"] for row in rows] == ["found no face" if n in (0, 5) else "" for n in range(9)]
    assert [float(row["seconds"]) for row in rows] == pytest.approx([n / FPS for n in range(9)])
    assert columns(rows, "identity_").shape == (7, 80) and columns(rows, "sh_").shape == (7, 27)
    assert result.numbers["occluded_fraction"] == 0
    assert seen == sorted(seen) and seen[-1] == 1
    frames, drawn = list(VideoReader(tmp_path / "clip.webm")), list(VideoReader(tmp_path / "out/overlay.webm"))
    changed = [np.abs(a.astype(int) - b)[25:50, 35:60].mean() for a, b in zip(frames, drawn, strict=True)]
    assert [value > 8 for value in changed] == [n not in (0, 5) for n in range(9)]


def test_rows_are_what_the_photo_gives(model, clip, tmp_path):
    path, detector = clip(3), Detector(model)
    reconstruct_video(Reconstructor(autoencoder(model), detector=detector), path, tmp_path / "out")
    rows = table(tmp_path / "out")
    for number, (frame, row) in enumerate(zip(VideoReader(path), rows, strict=True)):
        points = detector.points + (number + 1) % 2
        (alone,) = Reconstructor(autoencoder(model))(frame, points)
        assert float(row["expression_3"]) == pytest.approx(alone.expression[3], rel=1e-4)
        assert float(row["translation_z"]) == pytest.approx(alone.translation[2], rel=1e-4)
        assert float(row["align_x"]) == pytest.approx(alone.align[0, 2], rel=1e-5)
        assert float(row["rmse_all"]) == pytest.approx(alone.rmse_all, rel=1e-4)


def test_one_identity_for_all_frames(model, clip, tmp_path):
    path = clip(7, dark=(2,))
    own = Reconstructor(autoencoder(model), detector=Detector(model), batch_size=2)
    reconstruct_video(own, path, tmp_path / "own")
    shared = Reconstructor(autoencoder(model), detector=Detector(model), batch_size=2)
    reconstruct_video(shared, path, tmp_path / "shared", shared_identity=True)
    before, after = table(tmp_path / "own"), table(tmp_path / "shared")
    for name in ("identity_", "albedo_"):
        expected = np.median(columns(before, name), axis=0)
        np.testing.assert_allclose(columns(after, name), np.tile(expected, (6, 1)), rtol=1e-4, atol=1e-5)
        assert np.ptp(columns(before, name), axis=0).max() > 0.01
    for name in ("expression_", "sh_", "angle_"):
        np.testing.assert_allclose(columns(after, name), columns(before, name), rtol=1e-5, atol=1e-6)


def test_smoothing_calms_what_jumps(model, clip, tmp_path):
    path = clip(12)
    for name, smooth in (("raw", False), ("smooth", True)):
        reconstructor = Reconstructor(autoencoder(model), detector=Detector(model))
        reconstruct_video(reconstructor, path, tmp_path / name, smooth=smooth)
    raw, smooth = table(tmp_path / "raw"), table(tmp_path / "smooth")
    for name in ("align_x", "expression_", "angle_", "translation_"):
        jumps = [np.abs(np.diff(columns(rows, name), axis=0)).mean() for rows in (raw, smooth)]
        assert jumps[1] < 0.7 * jumps[0], name


def test_smoothing_leaves_still_points_still(model):
    """Also where another point moves, and with it the extent that the speeds are measured in."""
    points = landmarks(model, (900, 500), 60)
    found = [points.copy() for _ in range(6)]
    for number in (1, 3):
        found[number][8, 1] += 9.0  # the chin
    found[4] = "found no face"
    smoothed = _smooth_landmarks(found, 1 / FPS)
    assert smoothed[4] == "found no face"
    for number in (0, 1, 2, 3, 5):
        np.testing.assert_allclose(np.delete(smoothed[number], 8, 0), np.delete(points, 8, 0), atol=1e-9)
    assert 0 < smoothed[1][8, 1] - points[8, 1] < 8 and smoothed[5][8, 1] == points[8, 1]


def test_landmarks_between_are_interpolated_where_both_ends_have_a_face(model, clip, tmp_path):
    detector = Detector(model)
    reconstructor = Reconstructor(autoencoder(model), detector=detector)
    result = reconstruct_video(reconstructor, clip(9), tmp_path / "out", detect_every=4)
    assert detector.seen == 3 and result.frames_with_face == 9
    x = columns(table(tmp_path / "out"), "align_x")[:, 0]
    np.testing.assert_allclose(np.diff(x[:5], 2), 0, atol=1e-3)  # evenly from one to the next
    assert abs(x[0] - x[4]) > 0.1
    detector = Detector(model)
    reconstructor = Reconstructor(autoencoder(model), detector=detector)
    result = reconstruct_video(reconstructor, clip(9, dark=(4, 5)), tmp_path / "out", detect_every=4)
    assert detector.seen == 9 and result.frames_with_face == 7


def test_a_video_without_a_face_leaves_nothing(model, clip, tmp_path):
    reconstructor = Reconstructor(autoencoder(model), detector=Detector(model))
    with pytest.raises(ReconstructionError, match=r"no face in any of its 4 frames \(found no face\)"):
        reconstruct_video(reconstructor, clip(4, dark=range(4)), tmp_path / "out")
    with pytest.raises(VideoError):
        reconstruct_video(reconstructor, tmp_path / "none.mp4", tmp_path / "out")
    for every, error in ((0, ValueError), (1.0, TypeError)):
        with pytest.raises(error, match="detect_every"):
            reconstruct_video(reconstructor, clip(1), tmp_path / "out", detect_every=every)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.webm"]


def test_one_euro_is_the_papers_filter():
    """Casiez et al. 2012, algorithm 1, one number at a time."""
    values = np.random.default_rng(0).normal(size=(20, 2)).cumsum(0)
    rate, min_cutoff, beta, d_cutoff = 30.0, 1.2, 0.4, 0.8

    def alpha(cutoff):
        tau = 1 / (2 * np.pi * cutoff)
        return 1 / (1 + tau * rate)

    filtered = OneEuro(min_cutoff, beta, d_cutoff)
    found = np.array([filtered(v, 1 / rate) for v in values])
    for column in range(2):
        x, dx = values[0, column], 0.0
        for row in range(1, 20):
            speed = (values[row, column] - x) * rate
            dx = alpha(d_cutoff) * speed + (1 - alpha(d_cutoff)) * dx
            a = alpha(min_cutoff + beta * abs(dx))
            x = a * values[row, column] + (1 - a) * x
            assert found[row, column] == pytest.approx(x, rel=1e-12)
    filtered.reset()
    np.testing.assert_array_equal(filtered(values[3], 1 / rate), values[3])


@pytest.mark.parametrize("arguments", [{"min_cutoff": 0.0}, {"beta": -1.0}, {"speed_cutoff": float("nan")}])
def test_one_euro_refuses(arguments):
    with pytest.raises(ValueError, match=rf"OneEuro\(\): expected {next(iter(arguments))} to be finite"):
        OneEuro(**arguments)


def test_one_euro_wants_the_same_shape_and_time_that_passes():
    filtered = OneEuro()
    filtered(np.zeros(3), 0.1)
    with pytest.raises(ValueError, match=r"values to be shape \[3\] as before, got \[2\]"):
        filtered(np.zeros(2), 0.1)
    with pytest.raises(ValueError, match="seconds to be > 0"):
        filtered(np.zeros(3), 0.0)
