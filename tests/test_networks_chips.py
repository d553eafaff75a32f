"""Face chips: dlib's own, OpenCV's and scikit-image's, least squares by numpy, gradients, images' borders."""

import math

import cv2
import numpy as np
import pytest
import torch
from networks import picture
from skimage.transform import SimilarityTransform

from focus.networks import arcface_chips, chips, recognizer_chips

DLIB_FIVE = [45, 42, 36, 39, 33]  # iBUG points that dlib's five are


def template(size=150, padding=0.25):
    """dlib's average face in its chip; the points that it does not use are elsewhere: [68, 2]."""
    points = np.random.default_rng(1).uniform(0, 1, (68, 2))
    used = [*range(27, 55), *range(60, 65)]
    points[used] = np.stack([chips._RECOGNIZER_X, chips._RECOGNIZER_Y], axis=1)
    return (points + padding) / (2 * padding + 1) * size


def turned(points, scale, angle, shift):
    """Points about the chip's middle, scaled, turned and moved."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return scale * (points - 75) @ np.array([[cosine, sine], [-sine, cosine]]) + shift


def photo(height=260, width=340):
    """Smooth random colours, uint8 [height, width, 3]."""
    coarse = np.random.default_rng(0).integers(0, 256, (26, 34, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def to_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


class TestSimilarity:
    def test_exact_transform(self):
        source = torch.rand(3, 7, 2, dtype=torch.float64)
        matrix = torch.tensor([[1.2, -0.7, 5.0], [0.7, 1.2, -3.0]], dtype=torch.float64)
        target = source @ matrix[:, :2].T + matrix[:, 2]
        torch.testing.assert_close(chips.fit_similarity(source, target), matrix.expand(3, 2, 3))

    def test_least_squares_by_numpy(self):
        rng = np.random.default_rng(2)
        source, target = rng.normal(0, 30, (2, 5, 2))
        # Unknowns a, b, x, y of [[a, -b, x], [b, a, y]].
        rows = [row for x, y in source for row in ([x, -y, 1, 0], [y, x, 0, 1])]
        a, b, x, y = np.linalg.lstsq(np.array(rows), target.reshape(-1), rcond=None)[0]
        fitted = chips.fit_similarity(torch.tensor(source), torch.tensor(target)[None])
        torch.testing.assert_close(fitted[0], torch.tensor([[a, -b, x], [b, a, y]]))

    def test_never_mirrors(self):
        source = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        fitted = chips.fit_similarity(source, (source * torch.tensor([-1.0, 1.0]))[None])
        assert torch.det(fitted[0, :, :2]) > 0

    def test_float32_far_from_the_origin(self):
        source = torch.tensor(template())
        target = torch.tensor(turned(template(), 1.3, 0.4, [4000.0, 3000.0]))[None]
        exact = chips.fit_similarity(source, target)
        single = chips.fit_similarity(source.float(), target.float())
        assert (exact - single)[:, :, :2].abs().max() < 1e-5
        assert (exact - single)[:, :, 2].abs().max() < 2e-3

    def test_one_point_only(self):
        points = torch.full((1, 68, 2), 50.0, requires_grad=True)
        for matrix in (chips.recognizer_matrix(points), chips.arcface_matrix(points)):
            (gradient,) = torch.autograd.grad(matrix.sum(), points)
            assert matrix.isfinite().all() and gradient.isfinite().all()


class TestRecognizerChips:
    def test_average_face_at_its_own_size(self):
        points = torch.tensor(template())[None]
        matrix = chips.recognizer_matrix(points)
        torch.testing.assert_close(matrix[0], torch.tensor([[1.0, 0, 0], [0, 1.0, 0]], dtype=torch.float64))
        image = picture(1, 3, 150, 150).double()
        torch.testing.assert_close(recognizer_chips(image, points), image)

    def test_scale_counts_from_pixel_centre_to_pixel_centre(self):
        points = torch.tensor(turned(template(), 1.5, 0.3, [120.0, 90.0]))[None]
        matrix = chips.recognizer_matrix(points)
        scale = (150 * 1.5 - 1) / 149
        torch.testing.assert_close(matrix[0, :, 0].norm().item(), scale)
        torch.testing.assert_close(matrix[0, 1, 0].atan2(matrix[0, 0, 0]).item(), 0.3)
        middle = matrix[0] @ torch.tensor([75.0, 75.0, 1.0], dtype=torch.float64)
        torch.testing.assert_close(middle, torch.tensor([120.0, 90.0], dtype=torch.float64))

    @pytest.mark.parametrize("count", [68, 5])
    @pytest.mark.parametrize(
        ("scale", "angle", "shift"), [(0.7, 0.3, (150, 130)), (1.1, -0.4, (160, 120)), (1.0, 3.0, (170, 130))]
    )
    def test_dlib_itself(self, count, scale, angle, shift):
        dlib = pytest.importorskip("dlib", reason="dlib is not installed")
        image = photo()
        rng = np.random.default_rng(3)
        points = np.rint(turned(template(), scale, angle, shift) + rng.normal(0, 2, (68, 2))).astype(int)
        points = points if count == 68 else points[DLIB_FIVE]
        parts = [dlib.point(int(x), int(y)) for x, y in points]
        detection = dlib.full_object_detection(dlib.rectangle(0, 0, 9, 9), parts)
        theirs = dlib.get_face_chip(image, detection, 150, 0.25).astype(np.float64)
        # dlib's landmarks have centres at integers; it cuts its answer off to whole numbers.
        ours = recognizer_chips(to_tensor(image), torch.tensor(points + 0.5)[None])[0].permute(1, 2, 0).numpy()
        assert (theirs > 0).mean() > 0.9
        assert (ours - theirs).min() > -1e-6 and (ours - theirs).max() < 1 + 1e-6
        assert np.ptp(theirs) > 100

    def test_size_and_padding(self):
        image = to_tensor(photo())
        points = torch.tensor(turned(template(), 1.0, 0.2, [170.0, 130.0]))[None].float()
        assert recognizer_chips(image, points, size=90).shape == (1, 3, 90, 90)
        wide, narrow = (chips.recognizer_matrix(points, padding=padding) for padding in (0.5, 0.0))
        scale = lambda matrix: (149 * matrix[0, :, 0].norm() + 1).item() / 150
        assert scale(wide) == pytest.approx(2 * scale(narrow), rel=1e-5)

    def test_black_outside(self):
        points = torch.tensor(turned(template(), 1.0, 0.0, [0.0, 75.0]))[None].float()
        chip = recognizer_chips(torch.ones(1, 3, 150, 200), points)
        assert not chip[..., :74].any()
        assert chip[..., 1:-1, 76:].sub(1).abs().max() < 1e-5


class TestArcfaceChips:
    @pytest.fixture
    def points(self):
        """A turned face of 68 points whose eyes are 80 px apart, [68, 2]."""
        rng = np.random.default_rng(4)
        return turned(template() + rng.normal(0, 2, (68, 2)), 1.1, -0.35, [170.0, 130.0])

    def test_insightface_transform(self, points):
        five = np.array(
            [points[[36, 39]].mean(axis=0), points[[42, 45]].mean(axis=0), points[30], points[48], points[54]]
        )
        # InsightFace fits with scikit-image; its coordinates have centres at integers.
        theirs = SimilarityTransform.from_estimate(five - 0.5, np.array(chips._ARCFACE_TEMPLATE))
        chip = np.random.default_rng(5).uniform(0, 112, (9, 2))
        matrix = chips.arcface_matrix(torch.tensor(points)[None])[0].numpy()
        np.testing.assert_allclose(chip @ matrix[:, :2].T + matrix[:, 2] - 0.5, theirs.inverse(chip - 0.5), atol=1e-9)
        again = chips.arcface_matrix(torch.tensor(five)[None])[0].numpy()
        np.testing.assert_allclose(again, matrix)

    def test_opencv_chip(self, points):
        image = photo()
        matrix = chips.arcface_matrix(torch.tensor(points)[None])[0].numpy()
        # From half-pixel centres to OpenCV's at integers: x + 0.5 = A (u + 0.5) + t.
        shifted = np.column_stack([matrix[:, :2], matrix[:, :2].sum(axis=1) * 0.5 + matrix[:, 2] - 0.5])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        theirs = cv2.warpAffine(image.astype(np.float32), shifted, (112, 112), flags=flags)
        ours = arcface_chips(to_tensor(image), torch.tensor(points)[None].float())[0].permute(1, 2, 0).numpy()
        assert np.abs(ours - theirs).max() < 3  # OpenCV may round places to 1/32 px; the colours change by 20 a pixel
        assert np.abs(ours - theirs).mean() < 0.3


@pytest.mark.parametrize("function", [recognizer_chips, arcface_chips])
class TestGradients:
    def test_images_and_landmarks(self, function):
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(1, 3, 9, 9, generator=generator, dtype=torch.float64, requires_grad=True)
        points = torch.tensor(turned(template(), 0.037, 0.21, [4.4, 4.7]))[None].requires_grad_()
        weights = torch.rand(150, 150, generator=generator, dtype=torch.float64)

        def loss(image, points):
            chip = function(image, points, landmark_gradient=True)
            return (chip * weights[: chip.shape[2], : chip.shape[3]]).mean()

        assert torch.autograd.gradcheck(loss, (image, points), eps=1e-7, atol=1e-5)

    def test_landmarks_are_constants_unless_asked(self, function):
        points = torch.tensor(turned(template(), 0.7, 0.2, [60.0, 60.0]))[None].requires_grad_()
        image = torch.rand(1, 3, 120, 120, requires_grad=True)
        function(image, points).sum().backward()
        assert points.grad is None and image.grad.abs().sum() > 0
        function(image, points, landmark_gradient=True).square().sum().backward()
        assert points.grad.abs().sum() > 0

    def test_a_batch_is_its_members(self, function):
        points = torch.tensor(np.stack([turned(template(), s, 0.2, [60.0, 70.0]) for s in (0.5, 0.8)])).float()
        images = torch.rand(2, 3, 120, 130)
        single = [function(images[i : i + 1], points[i : i + 1]) for i in range(2)]
        assert torch.equal(function(images, points), torch.cat(single))

    def test_nothing_waits_for_values(self, function):
        chip = function(torch.empty(2, 3, 224, 224, device="meta"), torch.empty(2, 68, 2, device="meta"))
        assert chip.shape[:2] == (2, 3) and chip.is_meta

    def test_autocast_keeps_places(self, function):
        points = torch.tensor(turned(template(), 0.7, 0.2, [60.0, 60.0]))[None].float()
        images = torch.rand(1, 3, 120, 120)
        expected = function(images, points)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(function(images, points), expected)
            half = function(images.bfloat16(), points)
        assert half.dtype == torch.float32 and (half - expected).abs().max() < 0.01

    def test_wrong_arguments(self, function):
        images, points = torch.rand(2, 3, 20, 20), torch.rand(2, 68, 2)
        with pytest.raises(TypeError, match=rf"{function.__name__}\(\): expected images to be a floating type"):
            function(torch.zeros(2, 3, 20, 20, dtype=torch.uint8), points)
        with pytest.raises(ValueError, match=r"expected images to be shape \[B, 3, H, W\], got \[3, 20, 20\]"):
            function(images[0], points)
        with pytest.raises(ValueError, match="expected landmarks for 2 images, got 1"):
            function(images, points[:1])
        with pytest.raises(ValueError, match=r"expected landmarks to be shape .*, got \[2, 51, 2\]"):
            function(images, points[:, :51])
        with pytest.raises(
            TypeError, match=r"expected landmarks to be torch.float32 or torch.float64, got torch.int64"
        ):
            function(images, points.long())


def test_sample_chips_checks_shapes():
    with pytest.raises(ValueError, match=r"expected images \[B, C, H, W\] and matrix \[B, 2, 3\]"):
        chips.sample_chips(torch.zeros(2, 1, 4, 4), torch.zeros(1, 2, 3), 5)
