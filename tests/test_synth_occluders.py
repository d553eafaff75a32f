"""Occluders: each kind covers what it should, and its coverage is what image and mask are blended with."""

import numpy as np
import pytest
import torch

from focus import FaceModel
from focus.synth import KINDS, SyntheticFaces
from focus.synth.layers import Layer, Stencil, capsule, ellipse, paste, uncover
from focus.synth.occluders import LEAST_SEEN, draw_occluder, occlude
from focus.synth.view import FaceView

SIZE = 96


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


@pytest.fixture(scope="module")
def faces(model):
    """Unoccluded faces at a size at which details can be told apart."""
    return SyntheticFaces(24, SIZE, 7, model=model, kinds=()).batch(range(24))


def views(faces):
    return [FaceView(SIZE, points, np.full(3, 0.6, np.float32)) for points in faces.landmarks.numpy()]


def left_visible(layers):
    visible = np.ones((SIZE, SIZE), np.float32)
    uncover(visible, layers)
    return visible


def test_layers_blend_by_hand():
    image = np.full((3, 4, 6), 0.5, np.float32)
    visible = np.ones((4, 6), np.float32)
    alpha = np.array([[0, 1], [0.25, 0.5]], np.float32)
    layer = Layer(3, 1, alpha, np.array([1, 0, 0.5], np.float32)[:, None, None])
    paste(image, [layer])
    uncover(visible, [layer])
    assert np.array_equal(visible[1:3, 3:5], [[1, 0], [0.75, 0.5]])
    assert np.array_equal(image[0, 1:3, 3:5], np.float32([[0.5, 1], [0.625, 0.75]]))
    assert np.array_equal(image[1, 1:3, 3:5], np.float32([[0.5, 0], [0.375, 0.25]]))
    rest = np.ones((4, 6), bool)
    rest[1:3, 3:5] = False
    assert (visible[rest] == 1).all() and (image[:, rest] == 0.5).all()
    uncover(visible, [layer])  # two layers leave the product
    assert visible[2, 4] == 0.25


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_stencils_place_points_at_half_pixel_centres(shift):
    square = np.array([[10, 12], [20, 12], [20, 18], [10, 18]]) + shift
    stencil = Stencil(40, square)
    coverage = stencil.blank()
    stencil.fill(coverage, square)
    layer = stencil.layer(coverage, np.zeros(3, np.float32))
    weight = layer.alpha / layer.alpha.sum()
    x = (weight.sum(0) * (np.arange(stencil.width) + stencil.left + 0.5)).sum()
    y = (weight.sum(1) * (np.arange(stencil.height) + stencil.top + 0.5)).sum()
    # OpenCV widens outlines by a good half of a pixel, and rounds the rows of horizontal edges.
    assert abs(x - 15 - shift) < 0.06 and abs(y - 15 - shift) < 0.5
    assert 60 <= layer.alpha.sum() <= 60 + 0.75 * 32


def test_stencils_are_cut_off_by_the_image():
    disc = ellipse(np.array([0.0, 20.0]), np.array([6.0, 0.0]), np.array([0.0, 6.0]))
    stencil = Stencil(40, disc)
    assert (stencil.left, stencil.top) == (0, 12) and stencil.shape == (17, 9)
    assert Stencil(40, disc - [50, 0]).empty and Stencil(40, disc - [-50, 0]).empty
    rod = capsule(np.array([5.0, 5.0]), np.array([5.0, 15.0]), 2.0, 1.0)
    assert np.allclose(rod.min(0), [3, 3], atol=0.05) and np.allclose(rod.max(0), [7, 16], atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_well_formed(faces, kind):
    drawn = 0
    for seed in range(3):
        for index, view in enumerate(views(faces)):
            for layer in draw_occluder(kind, np.random.default_rng([seed, index]), view):
                height, width = layer.alpha.shape
                assert layer.left >= 0 and layer.left + width <= SIZE
                assert layer.top >= 0 and layer.top + height <= SIZE
                assert layer.colour.shape in ((3, height, width), (3, 1, 1))
                for values in (layer.alpha, layer.colour):
                    assert values.dtype == np.float32
                    assert values.min() >= 0 and values.max() <= 1
                drawn += 1
    assert drawn >= 60


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        ("hand", 0.12, 0.5),
        ("glasses", 0.08, 0.3),
        ("mask", 0.3, 0.6),
        ("hair", 0.1, 0.4),
        ("text", 0.04, 0.25),
        ("shape", 0.1, 0.4),
        ("cutout", 0.1, 0.4),
    ],
)
def test_each_kind_covers_a_sensible_share(faces, kind, least, most):
    shares = []
    for seed in range(3):
        for index, view in enumerate(views(faces)):
            face = faces.face[index, 0].numpy()
            visible = left_visible(draw_occluder(kind, np.random.default_rng([seed, index]), view))
            shares.append(1 - (visible * face).sum() / face.sum())
    assert least < np.mean(shares) < most
    assert np.mean(np.array(shares) > 0.005) > 0.9
    assert np.std(shares) > 0.02


def visible_at(kind, faces, points):
    """Mean visibility at landmarks `points`, over faces seen from the front and three draws each."""
    values = []
    for seed in range(3):
        for index, view in enumerate(views(faces)):
            visible = left_visible(draw_occluder(kind, np.random.default_rng([seed, index]), view))
            column, row = view.landmarks[points].astype(int).clip(0, SIZE - 1).T
            values.append(visible[row, column].mean())
    return np.mean(values)


def test_worn_things_are_where_they_are_worn(faces):
    mouth, eyes, chin = slice(48, 68), slice(36, 48), slice(7, 10)
    assert visible_at("mask", faces, mouth) < 0.02 and visible_at("mask", faces, eyes) > 0.97
    assert visible_at("glasses", faces, eyes) < 0.6 and visible_at("glasses", faces, mouth) > 0.98
    assert visible_at("hair", faces, chin) > 0.9


def test_lenses_are_dark_clear_or_in_between(faces):
    at_eyes = []
    for seed in range(4):
        for index, view in enumerate(views(faces)):
            visible = left_visible(draw_occluder("glasses", np.random.default_rng([seed, index]), view))
            column, row = view.landmarks[42:48].mean(0).astype(int)
            at_eyes.append(visible[row, column])
    at_eyes = np.array(at_eyes)
    assert (at_eyes < 0.35).mean() > 0.3  # dark
    assert (at_eyes > 0.8).mean() > 0.1  # clear
    assert ((at_eyes > 0.02) & (at_eyes < 0.98)).mean() > 0.5  # what is seen through them counts by its share


def test_pixels_under_opaque_occluders_show_nothing_of_the_face(faces):
    """Two different faces under the same occluder look the same where the mask is 0."""
    view = views(faces)[0]
    for kind in KINDS:
        first, second = np.zeros((3, SIZE, SIZE), np.float32), np.ones((3, SIZE, SIZE), np.float32)
        layers = draw_occluder(kind, np.random.default_rng(1), view)
        paste(first, layers)
        paste(second, layers)
        visible = left_visible(layers)
        # What is left of the difference between a white and a black face is the visible share, in each colour.
        assert np.allclose(second - first, visible, atol=1e-6)


def test_occlude_reports_what_it_drew(faces):
    counts = dict.fromkeys(range(4), 0)
    for index, view in enumerate(views(faces) * 6):
        face = faces.face[index % 24, 0].numpy()
        image, visible = faces.image[index % 24].numpy().copy(), face.copy()
        drawn = occlude(np.random.default_rng(index), image, visible, view, KINDS, 0.25)
        assert len(set(drawn)) == len(drawn)
        assert (visible.sum() < face.sum()) == bool(drawn)
        assert visible.sum() >= LEAST_SEEN * face.sum()
        counts[len(drawn)] += 1
    assert 0.12 < counts[0] / 144 < 0.4
    assert counts[1] > counts[2] > counts[3] > 0


def test_held_out_kinds_never_appear(model):
    kinds = ("hair", "text", "mask")
    seen = SyntheticFaces(120, 48, 1, model=model, kinds=kinds, none_probability=0.0).batch(range(120)).occluders
    assert {kind for names in seen for kind in names} == set(kinds)
    assert all(len(set(names)) == len(names) for names in seen)
    assert {len(names) for names in seen} >= {1, 2, 3}
    everything = SyntheticFaces(120, 48, 1, model=model, none_probability=0.0).batch(range(120)).occluders
    assert {kind for names in everything for kind in names} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_alone(model, kind):
    sample = SyntheticFaces(16, SIZE, 2, model=model, kinds=(kind,), none_probability=0.0).batch(range(16))
    assert set(sample.occluders) <= {(kind,), ()}
    assert sample.occluders.count((kind,)) >= 13
    covered = torch.tensor([bool(names) for names in sample.occluders])
    assert torch.equal((sample.visible < sample.face).flatten(1).any(1), covered)


def test_unknown_kinds_are_named(faces):
    with pytest.raises(ValueError, match=r"expected kinds to be among hand, .*, got 'hat'"):
        draw_occluder("hat", np.random.default_rng(0), views(faces)[0])
