"""Open, check and convert one image file."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_io.artifacts import one_line

# Found by the content, not by the suffix. Other readers of Pillow are excluded because some of them
# run external programs (EPS).
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
MAX_PIXELS = 100_000_000
EXIF_ORIENTATION = 0x0112
# The change that turns stored pixels upright. Source: EXIF 2.3, section 4.6.4, tag Orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_pillow_limit = threading.Lock()


class ImageError(ValueError):
    """An image file cannot be read.

    Attributes:
        path: the file.
        reason: what is wrong with it, in a few words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        # Without this, the error could not be sent from a worker process.
        return ImageError, (self.path, self.reason)


def decode_rgb(
    path: str | Path, at_least_px: int | None = None, square_px: int | None = None
) -> Image.Image:
    """Decode an image file to upright RGB. Above MAX_PIXELS, refuse it before decoding a pixel.

    Args:
        path: the image file.
        at_least_px: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size if both sides keep at
            least this many pixels; None decodes every pixel.
        square_px: resize to a square of this side; None keeps the size.

    Returns:
        An image of mode RGB.

    Raises:
        ImageError: the file is missing, empty, truncated, damaged, too large or not an image.
    """
    with _image_errors(path), _open(path) as image:
        box_px = _choose_scale(image, at_least_px)
        image.load()
        turn = UPRIGHT.get(_orientation(image))
        rgb = _to_rgb(image, path)
        # Resize before turning, because a small square turns faster.
        if square_px is not None:
            rgb = rgb.resize((square_px, square_px), Image.Resampling.BILINEAR, box_px)
        return rgb if turn is None else rgb.transpose(turn)


def _choose_scale(
    image: Image.Image, at_least_px: int | None
) -> tuple[float, float, float, float] | None:
    """Choose the scale of a JPEG; return the box that the image covers in the rounded-up result."""
    # A lossless JPEG has no quantization tables, and it has no other scales.
    if at_least_px is None or not getattr(image, "quantization", None):
        return None
    drafted = image.draft(None, (at_least_px, at_least_px))  # type: ignore[arg-type]
    return drafted and drafted[1]


@contextmanager
def _open(path: str | Path) -> Iterator[Image.Image]:
    """Open a file, read its header and check its size."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(path, "is a folder")
    # Opening a pipe would wait for ever.
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(path, "is not a regular file")
    if status.st_size == 0:
        raise ImageError(path, "empty file")
    with open(path, "rb") as file, _open_unlimited(file) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(path, f"{width} x {height} pixels, over the limit of {MAX_PIXELS:,}")
        if width * height == 0:
            raise ImageError(path, "has no pixels")
        if image.format in ("JPEG", "MPO") and not _has_end_marker(file):
            raise ImageError(path, "truncated")
        yield image


def _has_end_marker(file: IO[bytes]) -> bool:
    """Return whether an end marker follows the position of `file`, which is the scan of a JPEG."""
    # An interrupted download that had reserved its space ends in zeros, which would decode to gray
    # without an error.
    scan = file.tell()
    has_marker = file.read().rfind(b"\xff\xd9") >= 0
    file.seek(scan)
    return has_marker


def _open_unlimited(file: IO[bytes]) -> Image.Image:
    """Open an image without Pillow's limit of pixels; the caller checks our own limit."""
    # Pillow's limit is one global value, and an image just above it only causes a warning.
    with _pillow_limit:
        pillow_max_pixels = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(file, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = pillow_max_pixels


@contextmanager
def _image_errors(path: str | Path) -> Iterator[None]:
    """Convert any error of a bad file to an ImageError."""
    # Pillow raises a dozen types, from SyntaxError to zlib.error.
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(path, "file not found") from None
    except UnidentifiedImageError:
        raise ImageError(
            path, f"not an image ({', '.join(FORMATS)}), or its header is damaged"
        ) from None
    except MemoryError:
        raise ImageError(path, "not enough memory to decode it") from None
    except Exception as error:
        if "truncated" in str(error).lower():
            raise ImageError(path, "truncated") from error
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(path, f"cannot be read: {error.strerror}") from error
        raise ImageError(path, f"damaged: {one_line(error)[:100]}") from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    # If only the EXIF block is damaged, use the pixels as stored, as every viewer does.
    except Exception:
        return 1


def _to_rgb(image: Image.Image, path: str | Path) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _from_wide(image, path)
    if not image.has_transparency_data:
        # convert() would copy the pixels even if the mode is right.
        return image if image.mode == "RGB" else image.convert("RGB")
    pixels = image.convert("RGBA")
    white = Image.new("RGBA", pixels.size, "white")
    return Image.alpha_composite(white, pixels).convert("RGB")


def _from_wide(image: Image.Image, path: str | Path) -> Image.Image:
    """Convert 16-bit gray to 8 bits, rounded."""
    # Larger numbers are refused, because there is no convention for their white.
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ImageError(
            path, "pixels of more than 16 bits, their range is unknown; save it with 8 or 16 bits"
        )
    gray = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(gray).convert("RGB")
