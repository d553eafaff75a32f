"""Reading photos of every common kind as 8-bit RGB, and writing PNG files."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .atomic import write_atomic

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif")
SIXTEEN_BIT = 257  # 65535 / 255
BACKGROUND = (255, 255, 255)  # what transparent pixels show


class ImageError(ValueError):
    """A photo that cannot be read; the message says why."""


def read_image(path: str | Path) -> np.ndarray:
    """Read a photo as uint8 [H, W, 3] RGB, upright.

    The EXIF orientation is applied; grey, palette, CMYK and 16-bit pictures are converted; transparent pixels become
    white; of an animation the first frame is read.

    Raises:
        ImageError: no such file, no picture, a damaged or cut-off file, or one of more than 178 million pixels.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and damaged EXIF blocks, which do not matter here
            with Image.open(path) as file:
                file.load()
                image = ImageOps.exif_transpose(file)
                return _rgb(image)
    except FileNotFoundError as error:
        raise ImageError("no such file") from error
    except IsADirectoryError as error:
        raise ImageError("a folder, not a picture") from error
    except PermissionError as error:
        raise ImageError("no permission to read it") from error
    except UnidentifiedImageError as error:
        kind = "an empty file" if path.stat().st_size == 0 else "not a picture in a known format"
        raise ImageError(kind) from error
    except Image.DecompressionBombError as error:
        raise ImageError("more than 178 million pixels; shrink it first") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises on damaged files
        raise ImageError(f"damaged picture ({str(error).rstrip('.')})") from error


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey; "I" is how Pillow opens some of them
        values = np.asarray(image).astype(np.int64)
        grey = (np.clip(values, 0, 65535) + SIXTEEN_BIT // 2) // SIXTEEN_BIT
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise ImageError("a picture of floating-point numbers; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(ground, image)
    return np.array(image.convert("RGB"))


def shrink(image: np.ndarray, max_side: int) -> tuple[np.ndarray, float]:
    """The picture with its longer side at most `max_side` pixels, and the factor: small = factor * large."""
    height, width = image.shape[:2]
    if max(height, width) <= max_side:
        return image, 1.0
    factor = max_side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX)), factor


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 [H, W], [H, W, 3] or [H, W, 4] as PNG, atomically."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
