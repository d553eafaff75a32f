"""Reconstructor: batches, masks in the photo's pixels, the face drawn over the photo, priors, and what goes wrong."""

import numpy as np
import pytest
import torch
from PIL import Image
from reconstructions import SIZE, Segmenter, autoencoder, landmarks, photo

import focus
from focus import FaceModel
from focus.alignment import align_face
from focus.landmarks import NoFaceError
from focus.prior import MisfitPrior
from focus.reconstruct import ReconstructionError, Reconstructor
from focus.reconstruct.result import to_photo_pixels


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


class Detector:
    """The same landmarks in every photo that is not black; remembers what it was shown."""

    def __init__(self, points):
        self.points, self.shapes = points, []

    def detect(self, image):
        self.shapes.append(image.shape)
        if image.max() == 0:
            raise NoFaceError("found no face")
        return self.points


def test_a_batch_gives_what_each_photo_gives_alone(model):
    photos = [photo(seed) for seed in range(5)]
    points = [landmarks(model, (58 + seed, 45), 70 + seed) for seed in range(5)]
    reconstructor = Reconstructor(autoencoder(model), batch_size=2)
    together = reconstructor(photos, points)
    assert len(together) == 5
    for image, lm, result in zip(photos, points, together, strict=True):
        (alone,) = reconstructor(image, lm)
        for name in ("vertices", "albedo", "render", "angles", "sh_coeffs", "align"):
            np.testing.assert_allclose(getattr(result, name), getattr(alone, name), rtol=1e-5, atol=1e-4)
    assert np.abs(together[0].vertices - together[1].vertices).max() > 0.1  # the photos matter


def test_parts_are_those_of_theta_in_units(model):
    net = autoencoder(model)
    (result,) = Reconstructor(net)(photo(), landmarks(model))
    made = net(torch.from_numpy(result.photo).permute(2, 0, 1)[None].float() / 255)
    parts = made.face.parameters
    np.testing.assert_allclose(result.theta, made.theta[0].detach(), atol=1e-6)
    np.testing.assert_allclose(result.albedo_coeffs, parts.albedo[0].detach(), atol=1e-6)
    np.testing.assert_allclose(result.sh_coeffs.reshape(-1), parts.light[0].detach(), atol=1e-6)
    np.testing.assert_allclose(result.translation, parts.translation[0].detach(), atol=1e-6)
    np.testing.assert_allclose(result.landmarks_projected, made.face.landmarks[0].detach(), atol=1e-3)
    assert result.vertices.shape == (model.num_vertices, 3) and result.photo_size == (120, 90)
    assert result.colors.min() >= 0 and result.colors.max() <= 1


def test_occluded_fraction_is_what_the_mask_leaves_of_the_render(model):
    (bare,) = Reconstructor(autoencoder(model))(photo(), landmarks(model))
    assert bare.occluded_fraction == 0 and (bare.mask == bare.raster_mask).all()
    (covered,) = Reconstructor(autoencoder(model, Segmenter(0.25)))(photo(), landmarks(model))
    assert covered.occluded_fraction == pytest.approx(0.75)
    assert set(np.unique(covered.mask)) == {np.float32(0), np.float32(0.25)}


def test_errors_by_the_loop(model):
    class Half(torch.nn.Module):
        def forward(self, render, photo):
            mask = torch.full_like(photo[:, :1], 0.5)
            mask[..., : SIZE // 2] = 1.0
            return mask

    (result,) = Reconstructor(autoencoder(model, Half()))(photo(), landmarks(model))
    squares = ((result.render - result.photo / 255.0) ** 2).mean(2)
    inside = everywhere = weight = 0.0
    for y, x in np.argwhere(result.raster_mask):
        m = 1.0 if x < SIZE // 2 else 0.5
        inside, weight, everywhere = inside + m * squares[y, x], weight + m, everywhere + squares[y, x]
    assert result.rmse_inlier == pytest.approx(255 * (inside / weight) ** 0.5, rel=1e-5)
    assert result.rmse_all == pytest.approx(255 * (everywhere / result.raster_mask.sum()) ** 0.5, rel=1e-5)
    distance = np.linalg.norm(result.landmarks_projected - result.landmarks_photo, axis=1).mean()
    assert result.landmark_error_px == pytest.approx(distance, rel=1e-6)


@pytest.mark.parametrize("zoom", [0.4, 1.0, 2.7])
def test_a_picture_of_the_crop_lies_right_in_the_photo(zoom):
    size, offset, photo_size = 40, np.array([-11.3, 4.6]), (150, 110)
    align = np.array([[zoom, 0, offset[0]], [0, zoom, offset[1]]])
    ramp = np.repeat(np.arange(size, dtype=np.float32)[None] + 0.5, size, 0)  # each pixel's x, at its centre
    for image, axis in ((ramp, 0), (ramp.T.copy(), 1)):
        found = to_photo_pixels(image, align, photo_size)
        assert found.shape == (110, 150) and found.dtype == np.float32
        ys, xs = np.nonzero(found)
        expected = np.stack([xs, ys], 1)[:, axis] * zoom + 0.5 * zoom + offset[axis]
        inner = (expected > 2 + zoom) & (expected < size - 2 - zoom)  # away from the border, where the filter is cut
        assert inner.sum() > 50
        # The filter that shrinks samples a triangle, off by at most 1/20; half a pixel's confusion would be 0.85.
        np.testing.assert_allclose(found[ys, xs][inner], expected[inner], atol=1e-3 if zoom <= 1 else 0.05)
    whole = to_photo_pixels(np.ones((size, size), np.float32), align, photo_size)
    corners = (np.array([[0, 0], [size, size]]) - offset) / zoom
    width, height = np.minimum(corners[1], photo_size) - np.maximum(corners[0], 0)
    assert (width - 2) * (height - 2) <= whole.sum() <= width * height + 1e-3  # pixels that the border cuts are 0
    assert whole.max() == pytest.approx(1)


def test_a_crop_beside_the_photo_leaves_it_empty():
    align = np.array([[1.0, 0, 500], [0, 1.0, 0]])
    assert not to_photo_pixels(np.ones((8, 8), np.float32), align, (20, 10)).any()


def test_points_of_the_crop_return_to_the_photo(model):
    points = landmarks(model, (70, 40), 60)
    (result,) = Reconstructor(autoencoder(model))(photo(), points)
    np.testing.assert_allclose(result.to_photo(result.landmarks_photo), points, atol=1e-4)
    mask = result.mask_in_photo()
    assert mask.shape == (90, 120)
    y, x = np.argwhere(mask > 0.5).mean(0) + 0.5
    cy, cx = np.argwhere(result.raster_mask).mean(0) + 0.5
    np.testing.assert_allclose(result.to_photo(np.array([cx, cy])), [x, y], atol=0.6)


@pytest.mark.parametrize("width", [40.0, 150.0])
def test_the_drawn_face_is_the_render_at_the_photos_resolution(model, width):
    """Aligned again, the photo with the face shows the render: in place, size and colour."""
    points = landmarks(model, (100, 80), width)
    image = np.zeros((170, 200, 3), np.uint8)
    reconstructor = Reconstructor(autoencoder(model, strength=0.02, size=64))
    (result,) = reconstructor(image, points)
    drawn = reconstructor.draw(result, image)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8 and not image.any()
    again = align_face(drawn, points, size=64).crop
    face = np.clip(result.render, 0, 1) * 255
    inner = np.abs(face - again)[result.raster_mask]
    assert np.median(inner) < 3
    covered = again.max(2) > 40
    assert (covered & result.raster_mask).sum() / (covered | result.raster_mask).sum() > 0.93


def test_a_face_that_leaves_the_photo_is_drawn_to_its_edge(model):
    reconstructor = Reconstructor(autoencoder(model, strength=0.0))
    image = np.zeros((60, 60, 3), np.uint8)
    (result,) = reconstructor(image, landmarks(model, (5, 30), 50))
    drawn = reconstructor.draw(result, image)
    assert drawn[20:40, 0].any() and not drawn[:, -1].any()
    with pytest.raises(ValueError, match=r"Reconstructor.draw\(\): expected image to be uint8 \[60, 60, 3\]"):
        reconstructor.draw(result, image[:-1])


def test_files_and_the_detector(model, tmp_path):
    points = landmarks(model)
    Image.fromarray(photo()).save(tmp_path / "a.png")
    detector = Detector(points)
    reconstructor = Reconstructor(autoencoder(model), detector=detector)
    by_file, by_array = reconstructor([tmp_path / "a.png", photo()], [None, points])
    np.testing.assert_array_equal(by_file.vertices, by_array.vertices)
    assert detector.shapes == [(90, 120, 3)]


def test_large_photos_are_shrunk_for_the_detector_only(model, monkeypatch):
    monkeypatch.setattr("focus.reconstruct.reconstructor.DETECTOR_SIDE", 60)
    detector = Detector(landmarks(model, (30, 22.5), 40))
    (result,) = Reconstructor(autoencoder(model), detector=detector)(photo())
    assert detector.shapes == [(45, 60, 3)]
    np.testing.assert_allclose(result.to_photo(result.landmarks_photo), landmarks(model), atol=1e-4)


def test_what_fails_keeps_its_place(model, tmp_path):
    points = landmarks(model)
    (tmp_path / "broken.jpg").write_text("no picture")
    reconstructor = Reconstructor(autoencoder(model), detector=Detector(points), batch_size=3)
    photos = [photo(), tmp_path / "broken.jpg", np.zeros((90, 120, 3), np.uint8), photo(1), photo(2)]
    given = [points, None, None, np.full((68, 2), 7.0), points]
    results = reconstructor(photos, given, errors="return")
    texts = [str(r) if isinstance(r, ReconstructionError) else "" for r in results]
    assert texts[0] == texts[4] == ""
    assert texts[1] == "not a picture in a known format" and texts[2] == "found no face"
    assert texts[3].startswith("the face cannot be aligned: align_face(): expected eyes, nose and mouth")
    with pytest.raises(ReconstructionError, match=r"broken\.jpg: not a picture"):
        reconstructor(photos, given)


def test_an_answer_that_is_not_finite_is_an_error_of_that_photo(model):
    net = autoencoder(model)

    class Bad(type(net.encoder)):
        def forward(self, photos):
            theta = super().forward(photos)
            theta[0, 3] = torch.nan
            return theta

    net.encoder.__class__ = Bad
    first, second = Reconstructor(net)([photo(), photo(1)], [landmarks(model)] * 2, errors="return")
    assert str(first) == "the networks' answer is not finite" and second.vertices.any()


def test_meshes_of_another_resolution(model):
    fine = FaceModel.load(level=1)
    coarse = Reconstructor(autoencoder(model))
    reconstructor = Reconstructor(autoencoder(model), mesh_model=fine)
    (result,), (plain,) = (r(photo(), landmarks(model)) for r in (reconstructor, coarse))
    expected = fine.shape(torch.from_numpy(result.identity)[None], torch.from_numpy(result.expression)[None])
    np.testing.assert_allclose(result.vertices, expected[0], atol=1e-5)
    assert len(result.faces) == fine.topology.num_faces and len(result.albedo) == fine.num_vertices
    np.testing.assert_array_equal(result.render, plain.render)  # what is seen stays
    few = FaceModel.load(level=0, components=(10, 64, 80))
    with pytest.raises(ValueError, match=r"mesh_model to have \[80, 64, 80\] coefficients .* got \[10, 64, 80\]"):
        Reconstructor(autoencoder(model), mesh_model=few)


def test_the_prior_is_subtracted_from_meshes_and_from_nothing_else(model, tmp_path):
    offsets = torch.randn(model.num_vertices, 3, generator=torch.Generator().manual_seed(1))
    prior = MisfitPrior(offsets, model.name)
    prior.save(tmp_path / "prior.safetensors")
    (plain,) = (bare := Reconstructor(autoencoder(model)))(photo(), landmarks(model))
    for given in (prior, tmp_path / "prior.safetensors"):
        reconstructor = Reconstructor(autoencoder(model), prior=given)
        (result,) = reconstructor(photo(), landmarks(model))
        np.testing.assert_allclose(result.vertices, plain.vertices - offsets.numpy(), atol=1e-5)
        neutral = bare.neutral(plain.identity)
        np.testing.assert_allclose(reconstructor.neutral(result.identity), neutral - offsets.numpy(), atol=1e-5)
        np.testing.assert_array_equal(result.render, plain.render)
    with pytest.raises(ValueError, match="face model"):
        Reconstructor(autoencoder(model), prior=prior, mesh_model=FaceModel.load(level=1))


def test_neutral_has_no_expression(model):
    reconstructor = Reconstructor(autoencoder(model))
    (result,) = reconstructor(photo(), landmarks(model))
    expected = model.shape(torch.from_numpy(result.identity)[None])[0]
    np.testing.assert_allclose(reconstructor.neutral(result.identity), expected, atol=1e-5)
    assert np.abs(result.vertices - expected.numpy()).max() > 0.1


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"photos": [], "landmarks": [None]}, ValueError, "landmarks for each of 0 photos"),
        ({"photos": [np.zeros((4, 4), np.uint8)]}, ValueError, r"photos to be uint8 \[H, W, 3\], got uint8 \[4, 4\]"),
        ({"photos": np.zeros((9, 9, 3))}, ValueError, "got float64"),
        ({"photos": np.zeros((9, 9, 3), np.uint8), "landmarks": np.zeros((5, 2))}, ValueError, r"shape \[68, 2\]"),
        ({"photos": [], "errors": "ignore"}, ValueError, "errors to be 'raise' or 'return'"),
    ],
)
def test_wrong_arguments(model, arguments, error, text):
    with pytest.raises(error, match=text):
        Reconstructor(autoencoder(model))(**arguments)


def test_wrong_arguments_of_the_constructor(model):
    for batch, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match=r"Reconstructor\(\): expected batch_size"):
            Reconstructor(autoencoder(model), batch_size=batch)
    with pytest.raises(ValueError, match="face_model to be None beside an autoencoder"):
        Reconstructor(autoencoder(model), face_model=model)
    assert focus.Reconstructor is Reconstructor
    assert Reconstructor(autoencoder(model))([]) == []
