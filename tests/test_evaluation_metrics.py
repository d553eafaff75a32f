"""Measures of masks, pictures, shapes and landmarks against loops and hand-made cases."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from focus.evaluation import (
    fit_similarity,
    image_rmse,
    landmark_errors,
    mask_scores,
    occluded_fraction,
    vertex_error,
)


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scores_by_loops(mask, truth, raster, rounded):
    result = []
    for m, g, r in zip(mask, truth, raster, strict=True):
        tp = tn = fp = fn = 0.0
        for y in range(m.shape[1]):
            for x in range(m.shape[2]):
                a, b, c = float(m[0, y, x]), float(g[0, y, x]), float(r[0, y, x])
                if rounded:
                    a, b = float(a > 0.5), float(b > 0.5)
                tp += c * a * b
                tn += c * (1 - a) * (1 - b)
                fp += c * a * (1 - b)
                fn += c * (1 - a) * b
        tp, tn, fp, fn = (max(area, 1.0) for area in (tp, tn, fp, fn))
        result.append(((tp + tn) / (tp + tn + fp + fn), tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn)))
    return torch.tensor(result, dtype=torch.float64).T


@pytest.mark.parametrize("rounded", [False, True])
def test_mask_scores_are_the_sums_of_the_authors(rounded):
    mask, truth = random(3, 1, 7, 9), random(3, 1, 7, 9, seed=1)
    raster = (random(3, 1, 7, 9, seed=2) > 0.3).double()
    got = torch.stack(list(mask_scores(mask, truth, raster, rounded=rounded)))
    torch.testing.assert_close(got, scores_by_loops(mask, truth, raster, rounded), rtol=1e-12, atol=0)


def test_mask_scores_of_counted_pixels():
    """6 found, 2 found wrongly, 3 missed, 9 rightly left out; what lies outside the raster does not count."""
    mask, truth, raster = (torch.zeros(1, 1, 5, 5) for _ in range(3))
    raster.view(-1)[:20] = 1
    mask.view(-1)[[*range(8), 24]] = 1
    truth.view(-1)[[*range(6), 8, 9, 10, 22]] = 1
    acc, ppv, tpr, f1 = (float(value) for value in mask_scores(mask, truth, raster))
    assert (acc, ppv, tpr, f1) == pytest.approx((15 / 20, 6 / 8, 6 / 9, 12 / 17))


def test_each_area_counts_at_least_one_pixel():
    everything = torch.ones(2, 1, 10, 10)
    everything[1] = 0
    scores = mask_scores(everything, everything, torch.ones(2, 1, 10, 10))
    torch.testing.assert_close(scores.acc, torch.full((2,), 101 / 103, dtype=torch.float64))
    torch.testing.assert_close(scores.ppv, torch.tensor([100 / 101, 1 / 2], dtype=torch.float64))
    torch.testing.assert_close(scores.f1, torch.tensor([200 / 202, 2 / 4], dtype=torch.float64))


def test_rounding_is_above_one_half():
    mask = torch.tensor([0.5, 0.51, 0.49, 1.0] * 4).view(1, 1, 4, 4)
    ones = torch.ones_like(mask)
    assert float(mask_scores(mask, ones, ones, rounded=True).tpr) == pytest.approx(8 / 16)
    assert float(mask_scores(mask, ones, ones).tpr) == pytest.approx(10 / 16)


def test_rmse_is_over_pixels_and_colours_of_the_region():
    photo, render, region = random(2, 3, 5, 6), random(2, 3, 5, 6, seed=1) * 1.6 - 0.3, random(2, 1, 5, 6, seed=2)
    region[region < 0.4] = 0
    expected = []
    for image in range(2):
        total = weight = 0.0
        for y in range(5):
            for x in range(6):
                for c in range(3):
                    shown = min(max(float(render[image, c, y, x]), 0.0), 1.0)
                    total += float(region[image, 0, y, x]) * (255 * (float(photo[image, c, y, x]) - shown)) ** 2
                    weight += float(region[image, 0, y, x])
        expected.append(math.sqrt(total / weight))
    torch.testing.assert_close(image_rmse(photo, render, region), torch.tensor(expected, dtype=torch.float64))


def test_rmse_of_a_constant_difference_is_that_difference():
    photo = torch.full((1, 3, 4, 4), 0.5)
    region = torch.zeros(1, 1, 4, 4)
    assert math.isnan(image_rmse(photo, photo, region))
    region[0, 0, 1, 2] = 1
    assert float(image_rmse(photo, photo + 10 / 255, region)) == pytest.approx(10, rel=1e-6)


def test_occluded_fraction():
    raster, mask = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    raster[0, 0, :2], mask[0, 0, 0] = 1, 0.5
    fraction = occluded_fraction(mask, raster)
    assert float(fraction[0]) == 0.75 and math.isnan(fraction[1])


def moved(points, rng):
    scale, shift = rng.uniform(0.3, 3), rng.normal(size=3) * 20
    turn = Rotation.random(random_state=rng).as_matrix()
    return scale, turn, shift, scale * points @ turn.T + shift


def test_similarity_is_recovered():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4, 12, 3)) * 30
    found = [moved(part, rng) for part in points]
    got = fit_similarity(torch.from_numpy(points), torch.from_numpy(np.stack([f[3] for f in found])))
    np.testing.assert_allclose(got.scale, [f[0] for f in found], rtol=1e-10)
    np.testing.assert_allclose(got.rotation, [f[1] for f in found], atol=1e-10)
    np.testing.assert_allclose(got.translation, [f[2] for f in found], atol=1e-8)
    np.testing.assert_allclose(got.apply(torch.from_numpy(points)), [f[3] for f in found], atol=1e-8)


@pytest.mark.parametrize("scaling", [True, False])
@pytest.mark.parametrize("mirrored", [True, False])
def test_similarity_is_the_least_squares_optimum(scaling, mirrored):
    """No other similarity is better: scipy searches for one, from several starts."""
    rng = np.random.default_rng(3)
    source = rng.normal(size=(9, 3)) * [30, 25, 8]
    target = moved(source * [1, 1, -1 if mirrored else 1], rng)[3] + rng.normal(size=(9, 3)) * 4
    got = fit_similarity(torch.from_numpy(source)[None], torch.from_numpy(target)[None], scaling=scaling)
    assert float(torch.linalg.det(got.rotation)) == pytest.approx(1, abs=1e-9)
    error = float((got.apply(torch.from_numpy(source)[None])[0] - torch.from_numpy(target)).square().sum())

    def residual(p):
        scale = math.exp(p[6]) if scaling else 1.0
        return (scale * source @ Rotation.from_rotvec(p[:3]).as_matrix().T + p[3:6] - target).reshape(-1)

    starts = [np.concatenate([Rotation.random(random_state=rng).as_rotvec(), target.mean(0), [0]]) for _ in range(6)]
    best = min(2 * least_squares(residual, start, xtol=1e-10).cost for start in starts)
    assert error == pytest.approx(best, rel=1e-6)


def test_a_reflection_only_where_it_is_allowed():
    rng = np.random.default_rng(1)
    source = torch.from_numpy(rng.normal(size=(1, 7, 3)))
    target = source * torch.tensor([-1.0, 1, 1])
    free = fit_similarity(source, target, reflection=True)
    torch.testing.assert_close(free.apply(source), target)
    assert float(torch.linalg.det(free.rotation)) == pytest.approx(-1)
    assert float((fit_similarity(source, target).apply(source) - target).norm()) > 0.1


def test_vertex_errors():
    truth = random(2, 30, 3) * 100
    offset = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(vertex_error(truth + offset, truth), torch.full((2,), 3.0, dtype=torch.float64))
    turned = 1.7 * truth @ torch.from_numpy(Rotation.from_rotvec([0.1, 0.5, -0.2]).as_matrix()) + offset
    assert float(vertex_error(turned, truth, align=True).max()) < 1e-10
    noisy = truth + random(2, 30, 3, seed=5)
    by_loops = [
        np.mean([np.linalg.norm(a - b) for a, b in zip(*pair, strict=True)]) for pair in zip(noisy, truth, strict=True)
    ]
    np.testing.assert_allclose(vertex_error(noisy, truth), by_loops)


def test_what_is_not_finite_stays_with_its_image():
    truth = random(2, 10, 3)
    broken = truth.clone()
    broken[0, 4, 1] = torch.nan
    error = vertex_error(broken, truth, align=True)
    assert math.isnan(error[0]) and float(error[1]) < 1e-10


def test_landmark_errors():
    truth = random(2, 68, 2) * 200
    truth[:, 36], truth[:, 45] = torch.tensor([50.0, 80.0]), torch.tensor([130.0, 140.0])  # 100 px apart
    moved = truth + torch.tensor([3.0, 4.0])
    moved[1, 34:] = truth[1, 34:]
    errors = landmark_errors(moved, truth)
    torch.testing.assert_close(errors.pixels, torch.tensor([5.0, 2.5], dtype=torch.float64))
    torch.testing.assert_close(errors.interocular, torch.tensor([0.05, 0.025], dtype=torch.float64))


def test_wrong_arguments_are_named():
    mask = torch.ones(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"expected truth to be shape \[2, 1, 4, 4\], got \[1, 1, 4, 4\]"):
        mask_scores(mask, mask[:1], mask)
    with pytest.raises(ValueError, match=r"image_rmse\(\): expected photo to be shape \[B, 3, H, W\]"):
        image_rmse(mask, mask, mask)
    with pytest.raises(ValueError, match=r"image_rmse\(\): expected region"):
        image_rmse(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4), mask[:1])
    with pytest.raises(TypeError, match=r"vertex_error\(\): expected truth to be a torch.Tensor, got ndarray"):
        vertex_error(torch.ones(1, 5, 3), np.ones((1, 5, 3)))
    with pytest.raises(ValueError, match=r"landmark_errors\(\): expected landmarks to be shape \[2, 68, 2\]"):
        landmark_errors(torch.ones(2, 5, 2), torch.ones(2, 68, 2))
