"""Photographs as a source: crops, landmarks and masks that agree, and what cannot be used told and left out."""

import numpy as np
import pytest
import torch
from photo_folders import brightest, dots, small_photo, write_table
from PIL import Image

from focus.alignment import align_face
from focus.data import Augmentation, PhotoSource, UnusableItemError, in_order, split_of
from focus.data.augment import compose, warp

SIZE = 64


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def folder(tmp_path):
    """Four photographs of one face, moved a little, with a table."""
    image, points = small_photo()
    rows = []
    for index in range(4):
        moved = np.roll(image, (index, 2 * index), (0, 1))
        save(tmp_path / f"{index}.png", moved)
        rows.append((f"{index}.png", points + np.array([2 * index, index])))
    write_table(tmp_path / "landmarks.csv", rows)
    return tmp_path


def test_without_augmentation_it_is_the_alignment(folder):
    source = PhotoSource(folder, size=SIZE)
    batch = source.batch([2, 0], 5)
    image, points = small_photo()
    aligned = align_face(image, points, size=SIZE)
    assert source.names == ["0.png", "1.png", "2.png", "3.png"] and len(source) == 4
    assert list(batch.image.shape) == [2, 3, SIZE, SIZE] and batch.image.dtype == torch.float32
    assert np.array_equal((batch.image[1] * 255).round().byte().permute(1, 2, 0).numpy(), aligned.crop)
    assert np.allclose(batch.landmarks[1].numpy(), aligned.landmarks, atol=1e-4)
    assert batch.visible is None and batch.face is None and batch.vertices is None


def test_items_do_not_depend_on_batches_or_on_what_is_kept(folder):
    augmented = Augmentation()
    source = PhotoSource(folder, size=SIZE, augmentation=augmented, seed=4)
    whole = source.batch([0, 1, 2, 3], 1)
    forgetful = PhotoSource(folder, size=SIZE, augmentation=augmented, seed=4, cache_bytes=0)
    for index in (3, 1, 0, 2):
        for other in (source, forgetful):  # the first from memory
            single = other.batch([index], 1)
            assert torch.equal(single.image[0], whole.image[index])
            assert torch.equal(single.landmarks[0], whole.landmarks[index])
    assert not torch.equal(source.batch([0], 2).image[0], whole.image[0])
    assert not torch.equal(
        PhotoSource(folder, size=SIZE, augmentation=augmented, seed=5).batch([0], 1).image[0], whole.image[0]
    )


@pytest.mark.parametrize("scale", [1, 6])
def test_landmarks_stay_on_their_pixels(tmp_path, scale):
    """Dots at landmarks; photographs as large as the crop and six times as large."""
    points = small_photo()[1] * scale
    marked = [30, 27, 36, 45, 48]  # the tip and the root of the nose, an eye's corner and its partner, a mouth's corner
    save(tmp_path / "a.png", dots((128 * scale, 128 * scale), points[marked], 2.0 * scale))
    write_table(tmp_path / "landmarks.csv", [("a.png", points)])
    source = PhotoSource(tmp_path, size=112, augmentation=Augmentation(), seed=1)
    mouths = set()
    for epoch in range(6):
        batch = source.batch([0], epoch)
        image, found = (batch.image[0, 0] * 255).numpy(), batch.landmarks[0].numpy().astype(float)
        assert found[36, 0] < found[45, 0]  # the names of the landmarks change, their order does not
        for landmark in (30, 27, 36, 45):
            assert np.abs(brightest(image, found[landmark]) - found[landmark]).max() < 0.15
        mouths |= {corner for corner in (48, 54) if image[tuple(found[corner, ::-1].astype(int))] > 100}
    assert mouths == {48, 54}  # some of the epochs mirror


def test_what_is_kept_of_a_photograph_is_enough(folder):
    """The warp of the part that is kept is the warp of the whole photograph."""
    source = PhotoSource(folder, size=SIZE, augmentation=Augmentation(), seed=3)
    image, points = small_photo()
    matrix = align_face(image, points, size=SIZE).matrix
    for epoch in range(8):
        move, _ = source.augmentation.draw(np.random.default_rng([3, epoch, 0, 1]), SIZE)
        crop = (source.batch([0], epoch).image[0] * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.abs(warp(image, compose(matrix, move), SIZE).astype(int) - crop).max() <= 1


def test_masks_move_with_their_photographs(folder):
    image, points = small_photo()
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[:, : int(points[30, 0])] = 255  # one side of the nose
    save(folder / "masks/1_visible_skin_mask.png", mask)
    for augmentation in (None, Augmentation(flip=1)):
        source = PhotoSource(folder, size=SIZE, masks=folder / "masks", augmentation=augmentation)
        assert source.names == ["1.png"]
        assert [item.name for item in source.skipped] == ["0.png", "2.png", "3.png"]
        batch = source.batch([0], 0)
        visible = batch.visible[0, 0]
        assert list(batch.visible.shape) == [1, 1, SIZE, SIZE] and visible.min() >= 0 and visible.max() <= 1
        left, right = (batch.landmarks[0, [k]].long()[0] for k in (2, 14))
        if augmentation is not None:
            left, right = right, left
        assert visible[left[1], left[0]] == 1 and visible[right[1], right[0]] == 0


def test_a_mask_of_another_size_is_told(folder):
    save(folder / "masks/0.png", np.zeros((10, 20), np.uint8))
    with pytest.raises(UnusableItemError, match=r"0\.png: expected its mask to be 128 x 128 px, got 20 x 10"):
        PhotoSource(folder, size=SIZE, masks=folder / "masks").batch([0], 0)


def test_rows_that_cannot_be_used_are_left_out_and_told(folder):
    points = small_photo()[1]
    rows = [("0.png", points), ("1.png", ["nan"] * 136), ("gone.png", points), ("2.png", ["5"]), ("0.png", points)]
    write_table(folder / "landmarks.csv", rows)
    source = PhotoSource(folder, size=SIZE)
    assert source.names == ["0.png"]
    reasons = dict(source.skipped)
    assert "line 3: expected a finite number, got 'nan'" in reasons["1.png"]
    assert "no such file" in reasons["gone.png"]
    assert "line 5: expected 137 columns, got 2" in reasons["2.png"]
    assert "given a second time" in reasons["0.png"]


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_damaged_photographs_and_absurd_landmarks_are_unusable_items(folder, augmentation):
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:200])
    points = small_photo()[1]
    names = [f"{index}.png" for index in range(4)]
    shapes = [points, points, points * [-1, 1] + [128, 0], points]
    write_table(folder / "landmarks.csv", list(zip(names, shapes, strict=True)))
    source = PhotoSource(folder, size=SIZE, augmentation=augmentation)
    with pytest.raises(UnusableItemError, match=r"^1\.png: damaged picture") as error:
        source.batch([0, 1], 0)
    assert error.value.index == 1
    with pytest.raises(UnusableItemError, match=r"^2\.png: .*mirrored"):
        source.batch([2], 0)
    skipped = []
    batches = list(in_order(source, 3, skipped))
    assert [indices for indices, _ in batches] == [[0], [3]] and [len(b.image) for _, b in batches] == [1, 1]
    assert [item.name for item in skipped] == ["1.png", "2.png"]


def test_a_split_is_a_partition_that_never_moves(folder):
    names = [f"{index}.jpg" for index in range(2000)]
    sides = [split_of(name, 0.1) for name in names]
    assert 150 < sides.count("validation") < 250
    assert [k for k, side in enumerate(sides[:60]) if side == "validation"] == VALIDATION_BELOW_60
    wider = [split_of(name, 0.3) for name in names]
    assert all(w == "validation" for s, w in zip(sides, wider, strict=True) if s == "validation")
    halves = [PhotoSource(folder, size=SIZE, split=split, validation=0.5).names for split in ("train", "validation")]
    assert all(halves) and sorted(halves[0] + halves[1]) == ["0.png", "1.png", "2.png", "3.png"]
    with pytest.raises(ValueError, match=r"expected validation to be in \[0, 1\], got 2"):
        split_of("a", 2)


VALIDATION_BELOW_60 = [26, 34, 36, 38]


def test_a_folder_without_a_table_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"got no file .*landmarks\.csv; `focus data prepare` makes one"):
        PhotoSource(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 16}, "expected size >= 32"),
        ({"seed": -1}, "seed >= 0"),
        ({"split": "test"}, 'expected split to be "train"'),
        ({"masks": "nowhere"}, "expected masks to be a folder"),
        ({"landmarks": "nowhere.csv"}, "nowhere.csv: cannot be read"),
        ({"split": "validation", "validation": 0.0}, "of validation split with landmarks in .*found none"),
    ],
)
def test_wrong_arguments_are_told(folder, options, message):
    with pytest.raises(ValueError, match=message):
        PhotoSource(folder, **options)
