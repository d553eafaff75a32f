"""FOCUS's camera and its alignment."""

import math

import numpy as np
import pytest
import torch

from focus.alignment import (
    CROP_SCALE,
    STANDARD_POINTS,
    AlignmentError,
    align_face,
    fit_pos,
    five_points,
)
from focus.camera import angles_from_rotation, focus_camera, rotation_matrix


def face_landmarks(centre=(200.0, 150.0), scale=80.0, angle=0.0):
    """68 points whose five alignment points are the standard ones, seen from the front; the others lie on the nose."""
    points = np.zeros((68, 2))
    flat = STANDARD_POINTS[:, :2] * [1, -1]
    points[:] = flat[2]
    for index, where in zip([(36, 39), (42, 45), (30,), (48,), (54,)], flat, strict=True):
        points[list(index)] = where
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return scale * points @ turn.T + centre


def test_rotation_is_the_product_of_the_axis_rotations():
    a, b, c = 0.3, -0.7, 1.1
    rx = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    ry = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    rz = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    expected = np.diag([1.0, -1.0, -1.0]) @ rx @ ry @ rz
    got = rotation_matrix(torch.tensor([[a, b, c]], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-15)  # a few roundings of float64
    np.testing.assert_allclose(angles_from_rotation(expected), [a, b, c], atol=1e-14)


def test_camera_frames_the_face():
    camera = focus_camera(torch.zeros(1, 3), torch.tensor([[10.0, 0.0, 0.0]]))
    positions = camera.project(torch.tensor([[[0.0, 0.0, 0.0], [0.0, 50.0, 0.0], [0.0, 0.0, 100.0]]]))[0]
    # 1014.72 px focal length at 1000 mm: 1.01472 px per mm; y up in the model is up in the image; z is nearer.
    expected = [[112 + 10.1472, 112, 1000], [112 + 10.1472, 112 - 50.736, 1000], [112 + 10147.2 / 900, 112, 900]]
    torch.testing.assert_close(positions, torch.tensor(expected))


def test_camera_is_differentiable():
    angles = torch.tensor([[0.1, -0.4, 0.2]], dtype=torch.float64, requires_grad=True)
    translation = torch.tensor([[3.0, -2.0, 20.0]], dtype=torch.float64, requires_grad=True)
    points = torch.tensor([[[10.0, -30.0, 5.0], [-40.0, 20.0, 60.0]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, t: focus_camera(a, t).project(points), (angles, translation))


@pytest.mark.parametrize("angles,translation", [((3,), (1, 3)), ((1, 3), (2, 3)), ((1, 4), (1, 4))])
def test_camera_refuses_shapes(angles, translation):
    with pytest.raises(ValueError, match=r"focus_camera\(\): expected"):
        focus_camera(torch.zeros(angles), torch.zeros(translation))


def test_pos_recovers_a_weak_perspective_camera():
    matrix = np.array([[70.0, 8.0, -20.0], [5.0, -72.0, 11.0]])
    image = STANDARD_POINTS @ matrix.T + [31.0, 17.0]
    got, translation, scale = fit_pos(image, STANDARD_POINTS)
    np.testing.assert_allclose(got, matrix, atol=1e-10)
    np.testing.assert_allclose(translation, [31.0, 17.0], atol=1e-11)
    assert scale == pytest.approx((np.linalg.norm(matrix[0]) + np.linalg.norm(matrix[1])) / 2)


@pytest.mark.parametrize("scale", [20.0, 80.0, 300.0])
def test_face_lands_where_focus_puts_it(scale):
    image = np.zeros((300, 400, 3), np.uint8)
    aligned = align_face(image, face_landmarks(scale=scale))
    expected = STANDARD_POINTS[:, :2] * [1, -1] * CROP_SCALE + 112
    np.testing.assert_allclose(five_points(aligned.landmarks), expected, atol=1e-9)
    assert aligned.matrix[0, 0] == aligned.matrix[1, 1] == pytest.approx(CROP_SCALE / scale)
    assert aligned.matrix[0, 1] == aligned.matrix[1, 0] == 0


def test_identity_window_copies_pixels():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (260, 300, 3), dtype=np.uint8)
    # At scale 102 the window is a square of 224 px around (132, 128): it starts at pixel (20, 16).
    aligned = align_face(image, face_landmarks(centre=(132.0, 128.0), scale=CROP_SCALE))
    np.testing.assert_allclose(aligned.matrix, [[1, 0, -20], [0, 1, -16]], atol=1e-9)
    np.testing.assert_array_equal(aligned.crop, image[16:240, 20:244])
    assert aligned.inside.all()


@pytest.mark.parametrize("scale", [30.0, 150.0])
def test_landmarks_stay_on_their_pixels(scale):
    """A bright disk stays around its landmark: image and coordinates move together, in half-pixel centres."""
    landmarks = face_landmarks(centre=(200.0, 150.0), scale=scale)
    y, x = np.mgrid[:300, :400] + 0.5
    for index in (36, 30, 54):
        disk = np.hypot(x - landmarks[index, 0], y - landmarks[index, 1]) < 4 * scale / CROP_SCALE + 2
        image = np.repeat(disk[..., None], 3, axis=2).astype(np.uint8) * 255
        aligned = align_face(image, landmarks)
        weight = aligned.crop[..., 0].astype(float)
        cy, cx = np.mgrid[:224, :224] + 0.5
        centre = [(weight * cx).sum() / weight.sum(), (weight * cy).sum() / weight.sum()]
        # The disk is drawn with hard pixels, which moves its centre by up to about 0.1 photo pixel.
        np.testing.assert_allclose(centre, aligned.landmarks[index], atol=0.15 * max(1.0, CROP_SCALE / scale))


def test_outside_is_black_and_marked():
    image = np.full((120, 100, 3), 200, np.uint8)
    aligned = align_face(image, face_landmarks(centre=(0.0, 60.0), scale=CROP_SCALE))
    assert not aligned.inside[:, :111].any() and aligned.inside[60:160, 113:211].all()
    assert (aligned.crop[:, :108] == 0).all() and (aligned.crop[60:160, 116:208] == 200).all()


def test_shrinking_does_not_alias():
    image = np.zeros((1200, 1200, 3), np.uint8)
    image[:, ::2] = 255  # one-pixel stripes average to grey
    aligned = align_face(image, face_landmarks(centre=(600.0, 600.0), scale=500.0))
    assert np.abs(aligned.crop.astype(int) - 127).max() <= 3


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda lm: lm * np.nan, "finite"),
        (lambda lm: lm * 0 + 50, "at least 8 px"),
        (lambda lm: np.stack([lm[:, 0], lm[:, 0]], axis=1), "line"),
        (lambda lm: (lm - lm.mean(0)) * [-1, 1] + lm.mean(0), "mirrored"),
        (lambda lm: lm * 1e5, "inside the photo"),
        (lambda lm: lm + 5000, "inside the photo"),
    ],
)
def test_absurd_landmarks_are_refused(change, message):
    with pytest.raises(AlignmentError, match=message):
        align_face(np.zeros((300, 400, 3), np.uint8), change(face_landmarks()))


def test_wrong_arguments_are_refused():
    good = face_landmarks()
    with pytest.raises(TypeError, match=r"align_face\(\): expected image to be uint8, got float64"):
        align_face(np.zeros((300, 400, 3)), good)
    with pytest.raises(ValueError, match=r"expected image to be shape \[H, W, 3\], got \[300, 400\]"):
        align_face(np.zeros((300, 400), np.uint8), good)
    with pytest.raises(ValueError, match=r"expected landmarks to be shape \[68, 2\], got \[5, 2\]"):
        align_face(np.zeros((300, 400, 3), np.uint8), good[:5])
