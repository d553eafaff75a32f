"""Photos of every common kind come out as upright 8-bit RGB, the others with a reason."""

import numpy as np
import pytest
from PIL import Image

from focus.images import ImageError, read_image, shrink, write_png

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]


def test_rgb_is_read_as_it_is(tmp_path):
    write_png(tmp_path / "a.png", RGB)
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, RGB)
    assert image.dtype == np.uint8 and image.flags.writeable


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, tmp_path):
    # What a camera stores so that its orientation tag brings RGB back; from the EXIF standard's table.
    stored = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, 1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)


def test_grey_palette_and_one_bit(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(GREY[:, :, None], 3, 2))
    palette = Image.fromarray(RGB // 128 * 255).quantize(8)
    palette.save(tmp_path / "palette.gif")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.gif"), RGB // 128 * 255)
    Image.fromarray(GREY > 100).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bit.png")[:, :, 1], np.where(GREY > 100, 255, 0))


def test_transparent_pixels_become_white(tmp_path):
    alpha = np.full(GREY.shape, 255, np.uint8)
    alpha[2] = 0
    write_png(tmp_path / "a.png", np.dstack([RGB, alpha]))
    image = read_image(tmp_path / "a.png")
    assert (image[2] == 255).all()
    np.testing.assert_array_equal(np.delete(image, 2, 0), np.delete(RGB, 2, 0))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits(suffix, tmp_path):
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}")[:, :, 2], GREY)


def test_sixteen_bit_colour_png(tmp_path):
    # OpenCV wants libraries that a machine without a desktop lacks.
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    cv2.imwrite(str(tmp_path / "a.png"), RGB[:, :, ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - [255, 0, 0]).max() <= 3  # JPEG rounds


def damaged(path):
    buffer = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(buffer).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:4000])


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_text("hello"), "not a picture"),
        (damaged, "damaged picture"),
        (lambda path: Image.new("F", (9, 9)).save(path, "TIFF"), "floating-point"),
    ],
)
def test_unreadable_files_say_why(make, reason, tmp_path):
    make(tmp_path / "a.png")
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / "a.png")


def test_too_many_pixels(tmp_path, monkeypatch):
    write_png(tmp_path / "a.png", RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ImageError, match="pixels"):
        read_image(tmp_path / "a.png")


def test_shrink_keeps_small_pictures_and_the_place_of_things():
    assert shrink(RGB, 9) == (pytest.approx(RGB), 1.0)
    large = np.zeros((300, 600, 3), np.uint8)
    large[100:110, 400:410] = 255
    small, factor = shrink(large, 60)
    assert small.shape == (30, 60, 3) and factor == 0.1
    y, x = np.argwhere(small[:, :, 0])[0] + 0.5  # half-pixel centres
    assert (x / factor, y / factor) == pytest.approx((405, 105))
