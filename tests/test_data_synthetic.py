"""Synthetic faces as a source: the faces of focus.synth, whatever is kept, and mirror images that are true."""

import pytest
import torch

from focus import FaceModel
from focus.data import Augmentation, SyntheticSource
from focus.synth import SyntheticFaces
from focus.synth.scenes import FaceParameters, project_landmarks

SIZE = 48
MIRROR = Augmentation(shift=0, scale=0, rotation=0, flip=1)


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


@pytest.fixture(scope="module")
def faces(model):
    return SyntheticFaces(6, SIZE, 9, model=model).batch(range(12))


def source(model, count=6, **options):
    return SyntheticSource(count, SIZE, seed=9, model=model, **options)


def rounded(tensor):
    return (tensor * 255).round() / 255


def test_without_augmentation_they_are_the_faces_in_8_bits(model, faces):
    batch = source(model).batch([4, 1], 7)
    rows = [4, 1]
    for name in ("image", "visible", "face"):
        assert torch.allclose(getattr(batch, name), rounded(getattr(faces, name)[rows]), atol=1e-6)
    assert torch.equal(batch.landmarks, faces.landmarks[rows])
    assert torch.equal(batch.vertices, faces.vertices[rows])


@pytest.mark.parametrize("options", [{}, {"fresh": True}])
def test_items_do_not_depend_on_batches_or_on_what_is_kept(model, options):
    first = source(model, augmentation=Augmentation(), **options)
    whole = first.batch([0, 1, 2, 3], 1)
    small = source(model, augmentation=Augmentation(), cache_bytes=20_000, **options)  # room for one
    for index in (2, 0, 3):
        for other in (first, small):
            single = other.batch([index], 1)
            assert all(torch.equal(a[0], b[index]) for a, b in zip(single, whole, strict=True))
    assert not torch.equal(first.batch([0], 2).image[0], whole.image[0])
    assert (first._cache.kept, small._cache.kept) == ((0, 0) if options else (4, 1))


def test_fresh_faces_are_others_in_every_epoch(model, faces):
    fresh = source(model, fresh=True)
    assert torch.allclose(fresh.batch([0, 3], 0).image, rounded(faces.image[[0, 3]]), atol=1e-6)
    assert torch.allclose(fresh.batch([0, 3], 1).image, rounded(faces.image[[6, 9]]), atol=1e-6)


def test_a_mirror_image_has_the_mirrored_truth(model, faces):
    batch = source(model, augmentation=MIRROR).batch(range(6), 0)
    for name in ("image", "visible", "face"):
        assert torch.allclose(getattr(batch, name), rounded(getattr(faces, name)[:6]).flip(3), atol=1e-6)
    # Mirrored vertices under the mirrored pose come to lie where the landmarks are.
    parameters = FaceParameters(*(field[:6] for field in faces.parameters))
    parameters = parameters._replace(
        angles=parameters.angles * torch.tensor([1.0, -1.0, -1.0]),
        translation=parameters.translation * torch.tensor([-1.0, 1.0, 1.0]),
    )
    projected = project_landmarks(model, batch.vertices, parameters, SIZE)
    # The landmarks' vertices are symmetric to 0.3 mm, 0.3 px at 224.
    assert (projected - batch.landmarks).abs().max() < 0.15
    assert (projected - faces.landmarks[:6]).abs().max() > 1


def test_masks_move_with_the_picture(model):
    """Where the face is alone on black, the picture is dark exactly where the mask is empty."""
    options = {"augmentation": Augmentation(), "kinds": (), "person_probability": 0.0, "backgrounds": ("gradient",)}
    batch = source(model, **options).batch([0, 1, 2], 0)
    plain = source(model, **options | {"augmentation": None}).batch([0, 1, 2], 0)
    assert torch.equal(batch.visible, batch.face)
    assert not torch.equal(batch.face, plain.face)
    inside = batch.landmarks[:, 30].long()
    assert all(batch.face[row, 0, y, x] == 1 for row, (x, y) in enumerate(inside.tolist()))
    area, before = batch.face.sum((1, 2, 3)), plain.face.sum((1, 2, 3))
    assert ((area / before).sqrt() - 1).abs().max() < 0.13


def test_vertices_are_given_where_they_are_true(model):
    crooked = FaceModel.load(level=0)
    crooked.mean_shape[5, 0] += 1.0
    assert source(crooked, augmentation=MIRROR).batch([0], 0).vertices is None
    assert source(crooked).batch([0], 0).vertices is not None
    assert source(crooked, augmentation=Augmentation(flip=0)).batch([0], 0).vertices is not None
    assert source(model, vertices=False).batch([0], 0).vertices is None


def test_wrong_arguments_are_told(model):
    with pytest.raises(ValueError, match="expected count to be >= 1, got 0"):
        source(model, count=0)
    with pytest.raises(ValueError, match=r"expected indices to be in 0\.\.5, got \[6\]"):
        source(model).batch([6], 0)
    with pytest.raises(ValueError, match="expected kinds to be among"):
        source(model, kinds=("hat",))
