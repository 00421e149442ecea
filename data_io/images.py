"""Decodes one image file safely: upright RGB, uint8 [H, W, 3], or an ImageError that says what is wrong with the file."""

from __future__ import annotations

import math
import os
import stat
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from data_io.records import ImageList

MAX_PIXELS = 100_000_000
PROGRESS_FROM = 200  # a shorter check is over before a progress bar says anything
CHECK_PX = 32
# A JPEG decoded at 1/2, 1/4 or 1/8 keeps at least so many times the result's side. Measured on mosaics of real photographs at
# 224 px: with 2.0, ResNet-50's embeddings have a cosine of 0.997 with those of full decoding; from 2.25 on, at least 0.999.
OVERSAMPLING = 2.25
DECODING_VERSION = (
    1  # raise it when load_image gives other pixels: what was cached is decoded again
)
# Tried on the content, whatever the extension. A closed list, because some of Pillow's other readers run outside programs (EPS).
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
EXIF_ORIENTATION = 0x0112
UPRIGHT = {  # EXIF 2.3, section 4.6.4, tag Orientation: what turns the stored pixels upright
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
    """A file that is not a whole, readable image: `path`, and `reason` in a few words."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return ImageError, (self.path, self.reason)  # errors cross process borders


def decode_image(
    source: str | Path, max_pixels: int = MAX_PIXELS, at_least_px: int | None = None
) -> np.ndarray:
    """The image as uint8 [H, W, 3] RGB: EXIF orientation applied, transparency over white, 16 bits scaled to 8, first frame.

    Colour profiles are not applied. max_pixels is compared with the header before any pixel is decoded.
    at_least_px: lets a JPEG come at 1/2, 1/4 or 1/8 of its size, as long as both sides keep so many pixels.
    Raises: ImageError for a missing, empty, truncated, damaged or too large file, and for what is not an image.
    """
    return np.array(_decode_rgb(source, max_pixels, at_least_px))


def load_image(
    path: str | Path, size_px: int, max_pixels: int = MAX_PIXELS, reduced: bool = True
) -> np.ndarray:
    """The image squashed to a square, as the original system did: uint8 [size_px, size_px, 3], antialiased bilinear.

    reduced: a JPEG is decoded at the smallest scale that keeps `sufficient_px(size_px)`; False decodes every pixel.
    Raises: ImageError as decode_image does, for the same files with either.
    """
    return np.array(
        _decode_rgb(path, max_pixels, sufficient_px(size_px) if reduced else None, size_px)
    )


def sufficient_px(size_px: int) -> int:
    """The least side of a photograph that shrinks to `size_px` as the whole file would."""
    return math.ceil(OVERSAMPLING * size_px)


def check_images(
    images: ImageList, description: str = "checking images", num_threads: int = 4
) -> ImageList:
    """Decodes every file and returns the list without the bad ones, which join `skipped` with their reason."""
    quiet = len(images) < PROGRESS_FROM or not sys.stderr.isatty()
    with ThreadPoolExecutor(num_threads) as pool:
        found = pool.map(_what_is_wrong, images.paths)
        reasons = list(
            tqdm(found, desc=description, total=len(images), unit="image", disable=quiet)
        )
    bad = [
        (str(path), reason) for path, reason in zip(images.paths, reasons, strict=True) if reason
    ]
    return images.take(
        np.array([not reason for reason in reasons], bool), skipped=(*images.skipped, *bad)
    )


def _what_is_wrong(path: str) -> str:
    try:
        _decode_rgb(path, MAX_PIXELS, at_least_px=CHECK_PX)
    except ImageError as error:
        return error.reason
    return ""


def _decode_rgb(
    path: str | Path, max_pixels: int, at_least_px: int | None = None, square_px: int | None = None
) -> Image.Image:
    """An upright image of mode RGB, squashed to a square if asked for. A JPEG is decoded at the smallest scale of 1/1 to 1/8
    that keeps `at_least_px`, if given."""
    with _readable_reason(path), _open(path, max_pixels) as image:
        whole = _choose_scale(image, at_least_px)
        image.load()
        turn = UPRIGHT.get(_orientation(image))
        rgb = _to_rgb(image, path)
        if square_px is not None:  # before it is turned: a small square turns faster
            rgb = rgb.resize((square_px, square_px), Image.Resampling.BILINEAR, whole)
        return rgb if turn is None else rgb.transpose(turn)


def _choose_scale(
    image: Image.Image, at_least_px: int | None
) -> tuple[float, float, float, float] | None:
    """Has a JPEG decoded at a smaller scale. Returns what the photograph covers of the result, whose sides are rounded up."""
    if at_least_px is None or not getattr(
        image, "quantization", None
    ):  # a lossless JPEG has no tables and no other scales
        return None
    drafted = image.draft(None, (at_least_px, at_least_px))  # type: ignore[arg-type]
    return drafted and drafted[1]


@contextmanager
def _open(path: str | Path, max_pixels: int) -> Iterator[Image.Image]:
    """The opened file with its header read and its size checked."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(path, "is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(path, "is not a regular file")  # opening a pipe would wait for ever
    if status.st_size == 0:
        raise ImageError(path, "empty file")
    with open(path, "rb") as file, _open_unlimited(file) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(path, f"{width} x {height} pixels, over the limit of {max_pixels:,}")
        if width * height == 0:
            raise ImageError(path, "has no pixels")
        if image.format in ("JPEG", "MPO") and not _has_end_marker(file):
            raise ImageError(path, "truncated")
        yield image


def _has_end_marker(file: IO[bytes]) -> bool:
    """Whether a JPEG ends behind its scan, where `file` stands. A download that broke off but had reserved its space ends in
    zeros instead, and those decode to gray without a complaint."""
    scan = file.tell()
    found = file.read().rfind(b"\xff\xd9") >= 0  # from the end, where it stands
    file.seek(scan)
    return found


def _open_unlimited(file: IO[bytes]) -> Image.Image:
    """Image.open without Pillow's own size limit, which is process-wide and at first only a warning; ours follows at once."""
    with _pillow_limit:
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = usual


@contextmanager
def _readable_reason(path: str | Path) -> Iterator[None]:
    """Turns whatever Pillow raises on a bad file (a dozen types, from SyntaxError to zlib.error) into an ImageError."""
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
        raise ImageError(
            path, f"damaged: {' '.join(str(error).split())[:100] or type(error).__name__}"
        ) from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except (
        Exception
    ):  # a damaged EXIF block beside whole pixels: every viewer shows those as stored, and so do we
        return 1


def _to_rgb(image: Image.Image, path: str | Path) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _from_wide(image, path)
    if not image.has_transparency_data:
        return (
            image if image.mode == "RGB" else image.convert("RGB")
        )  # converting would copy 12 megapixels
    pixels = image.convert("RGBA")
    white = Image.new("RGBA", pixels.size, "white")
    return Image.alpha_composite(white, pixels).convert("RGB")


def _from_wide(image: Image.Image, path: str | Path) -> Image.Image:
    """Gray of 16 bits: 0..65535 to 0..255, rounded. Wider numbers have no agreed white, so only those that fit are taken."""
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ImageError(
            path, "pixels of more than 16 bits, their range unknown; save it with 8 or 16 bits"
        )
    gray = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(gray).convert("RGB")
