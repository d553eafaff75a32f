"""Augmentation: pixels and landmarks move together, nothing aliases, and the draws stay in their limits."""

import numpy as np
import pytest
from photo_folders import brightest, dots

from focus import FaceModel
from focus.data import Augmentation
from focus.data.augment import block_mean, compose, map_points, mirror_landmarks, warp

NONE = Augmentation(shift=0, scale=0, rotation=0, flip=0)


def test_mirrored_landmarks_of_a_symmetric_face_are_itself():
    model = FaceModel.load(level=0)
    points = model.mean_shape[model.landmarks].numpy()
    assert np.abs(mirror_landmarks(points * [-1, 1, 1]) - points).max() < 0.5  # mm
    order = np.arange(68.0)[:, None] * [1, 1]
    assert np.array_equal(mirror_landmarks(mirror_landmarks(order)), order)
    assert not np.array_equal(mirror_landmarks(order), order)


@pytest.mark.parametrize("zoom", [2.3, 1.0, 0.71, 0.36, 0.2])
@pytest.mark.parametrize("flip", [False, True])
def test_pixels_go_where_points_go(zoom, flip):
    """Also mirrored: half a pixel of error is what programs make that mirror indices one way and points another."""
    turn, size = 0.15, 64
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = linear @ np.diag([-1.0 if flip else 1.0, 1.0])
    source = np.array([150.3, 97.6])
    matrix = np.column_stack([linear, np.array([30.4, 35.1]) - linear @ source])
    image = dots((200, 300), [source], sigma=1.5 / min(zoom, 1))
    result = warp(image, matrix, size)[:, :, 0]
    assert np.abs(brightest(result, (30.4, 35.1), 12) - (30.4, 35.1)).max() < 0.06


def test_the_identity_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    assert np.array_equal(warp(image, np.eye(2, 3), 48), image)
    assert np.array_equal(warp(image[:, :, 0], np.eye(2, 3), 48, cubic=False), image[:, :, 0])


@pytest.mark.parametrize("shrink", [1.5, 2.0, 3.4])
def test_fine_patterns_turn_grey_when_they_shrink(shrink):
    image = np.zeros((240, 240, 3), np.uint8)
    image[:, ::2] = 255
    result = warp(image, np.array([[1 / shrink, 0, 0], [0, 1 / shrink, 0]]), 60)[4:-4, 4:-4]
    assert np.abs(result.astype(float) - 127.5).max() < 40  # 127 where it aliases


def test_outside_is_black_or_the_reflection():
    image = np.full((32, 32, 3), 200, np.uint8)
    away = np.array([[1.0, 0, 16], [0, 1, 0]])
    assert warp(image, away, 32)[:, :14].max() == 0
    assert warp(image, away, 32, border="reflect").min() == 200


def test_blocks_are_means_from_the_first_pixel_on():
    image = np.arange(30, dtype=np.uint8).reshape(5, 6) * 8
    result = block_mean(image, 2)
    assert result.shape == (3, 3)
    for row in range(2):
        for column in range(3):
            block = image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert abs(result[row, column] - block.mean()) <= 0.5
    assert block_mean(image, 1) is image


def test_draws_stay_in_their_limits_and_fill_them():
    augmentation = Augmentation()
    rng = np.random.default_rng(1)
    zooms, turns, shifts, flips = [], [], [], []
    for _ in range(2000):
        matrix, flip = augmentation.draw(rng, 112)
        linear = matrix[:, :2] @ np.diag([-1.0 if flip else 1.0, 1.0])
        zooms.append(np.sqrt(np.linalg.det(linear)))
        turns.append(np.rad2deg(np.arctan2(linear[1, 0], linear[0, 0])))
        shifts.append(np.linalg.solve(linear, map_points(matrix, np.full(2, 56.0)) - 56))
        flips.append(flip)
    assert 0.9 <= min(zooms) < 0.91 and 1.09 < max(zooms) <= 1.1
    assert -10 <= min(turns) < -9.8 and 9.8 < max(turns) <= 10
    assert -5 <= np.min(shifts) < -4.9 and 4.9 < np.max(shifts) <= 5  # 10 px at 224
    assert 0.46 < np.mean(flips) < 0.54


def test_no_augmentation_is_the_identity_and_a_mirror_keeps_the_border():
    rng = np.random.default_rng(0)
    assert np.allclose(NONE.draw(rng, 64)[0], np.eye(2, 3))
    matrix, flip = Augmentation(shift=0, scale=0, rotation=0, flip=1).draw(rng, 64)
    assert flip and np.allclose(matrix, [[-1, 0, 64], [0, 1, 0]])
    image = rng.integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(warp(image, matrix, 64), image[:, ::-1])


def test_no_draw_looks_beyond_the_reach():
    augmentation, rng = Augmentation(shift=20, scale=0.3, rotation=25), np.random.default_rng(2)
    corners = np.array([[0, 0], [64, 0], [64, 64], [0, 64]])
    farthest = 0.0
    for _ in range(3000):
        matrix, _flip = augmentation.draw(rng, 64)
        seen = np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T).T
        farthest = max(farthest, np.abs(seen - 32).max())
    assert 0.85 * augmentation.reach(64) < farthest <= augmentation.reach(64)


def test_maps_are_composed_in_order():
    first, then = np.array([[2.0, 0, 1], [0, 2, 5]]), np.array([[0.0, -1, 3], [1, 0, 0]])
    points = np.array([[1.0, 2], [-3, 0.5]])
    assert np.allclose(map_points(compose(first, then), points), map_points(then, map_points(first, points)))


@pytest.mark.parametrize(("field", "value"), [("shift", -1), ("scale", 1.0), ("rotation", 181), ("flip", 1.5)])
def test_limits_are_checked(field, value):
    with pytest.raises(ValueError, match=rf"Augmentation\(\): expected {field} to be"):
        Augmentation(**{field: value})
