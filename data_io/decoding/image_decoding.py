"""Open, check and convert one image file."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image, UnidentifiedImageError

from data_io.decoding.image_errors import ImageError, image_errors
from data_io.decoding.image_formats import NAMED_FORMATS, open_unlimited, why_unreadable
from data_io.decoding.image_kinds import HEAD_BYTES, image_kind
from data_io.decoding.jpeg_tails import (
    completed,
    ends_gray,
    first_scan,
    has_end,
    has_several_scans,
    is_complete,
    lacks_scans,
)
from data_io.decoding.pixel_limit import MAX_PIXELS, require_decodable, turn_to_decode
from data_io.decoding.png_chunks import needed_chunks
from data_io.decoding.rgb import to_rgb
from data_io.decoding.tiff_pages import seek_photograph

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


class _Request(NamedTuple):
    """What the caller of `decode_rgb` asked for."""

    path: str | Path
    at_least_px: int | None
    square_px: int | None


def decode_rgb(
    path: str | Path, at_least_px: int | None = None, square_px: int | None = None
) -> Image.Image:
    """Decode an image file to upright RGB. Above `max_pixels()`, refuse it before decoding a pixel.

    The limit counts the pixels that are decoded, so a JPEG that is decoded at a reduced scale may
    be larger.

    Args:
        path: the image file.
        at_least_px: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size if both sides keep at
            least this many pixels; None decodes every pixel, but a JPEG of more than MAX_PIXELS at
            the largest scale below.
        square_px: resize to a square of this side; None keeps the size.

    Returns:
        An image of mode RGB.

    Raises:
        ImageError: the file is missing, empty, truncated, damaged, too large or not an image.
    """
    request = _Request(path, at_least_px, square_px)
    with image_errors(path), _regular_file(path) as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        ending = os.path.splitext(os.fspath(path))[1].lower()
        kind = image_kind(head) or NAMED_FORMATS.get(ending)
        if reason := why_unreadable(kind, head):
            raise ImageError(path, reason)
        return _decode_kind(kind, file, request)


def _decode_kind(kind: str | None, file: IO[bytes], request: _Request) -> Image.Image:
    """Decode an image of a kind that its first bytes name; None lets Pillow decide."""
    try:
        if kind == "JPEG":
            return _decode_jpeg(file, request)
        if kind == "PNG":
            return _decode_png(file, request)
        return _decode(file, request, (kind,) if kind and kind in NAMED_FORMATS.values() else None)
    except UnidentifiedImageError:
        if kind is None:
            raise
        reason = f"its header is damaged, or it is a kind of {kind} that is not read"
        raise ImageError(request.path, reason) from None


def _decode_png(file: IO[bytes], request: _Request) -> Image.Image:
    """Decode a PNG, if necessary without the chunks that hold no pixels."""
    try:
        return _decode(file, request)
    except ImageError:
        raise
    except Exception:
        return _decode(needed_chunks(file), request)


@contextmanager
def _regular_file(path: str | Path) -> Iterator[IO[bytes]]:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(path, "is a folder")
    # Opening a pipe would wait for ever.
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(path, "is not a regular file")
    if status.st_size == 0:
        raise ImageError(path, "empty file")
    with open(path, "rb") as file:
        yield file


def _decode_jpeg(file: IO[bytes], request: _Request) -> Image.Image:
    """Decode a JPEG whose pixels are all there, with or without an end marker."""
    content = file.read()
    file.seek(0)
    scan = first_scan(content)
    if not has_end(content, scan):
        content = completed(content)
        if lacks_scans(content) or not is_complete(content):
            raise ImageError(request.path, "truncated")
        return _decode(io.BytesIO(content), request)
    with open_unlimited(file, ("JPEG",)) as image:
        is_suspect = has_several_scans(image, content, scan) and lacks_scans(content)
        # Less memory while the pixels are decoded.
        del content
        rgb = _upright_rgb(image, request)
        if is_suspect or ends_gray(image):
            file.seek(0)
            if not is_complete(file.read()):
                raise ImageError(request.path, "truncated")
        return rgb


def _decode(
    file: IO[bytes], request: _Request, formats: tuple[str, ...] | None = None
) -> Image.Image:
    with open_unlimited(file, formats) as image:
        return _upright_rgb(image, request)


def _upright_rgb(image: Image.Image, request: _Request) -> Image.Image:
    """Decode the pixels of an opened file."""
    if reason := seek_photograph(image):
        raise ImageError(request.path, reason)
    stored = image.size
    box_px = _choose_scale(image, request.at_least_px)
    require_decodable(request.path, image, stored)
    with turn_to_decode(image, stored):
        image.load()
        turn = UPRIGHT.get(_orientation(image))
        rgb = to_rgb(image)
        # Resize before turning, because a small square turns faster.
        if request.square_px is not None:
            square = (request.square_px, request.square_px)
            rgb = rgb.resize(square, Image.Resampling.BILINEAR, box_px)
        return rgb if turn is None else rgb.transpose(turn)


def _choose_scale(
    image: Image.Image, at_least_px: int | None
) -> tuple[float, float, float, float] | None:
    """Choose the scale of a JPEG; return the box that the image covers in the rounded-up result."""
    # A lossless JPEG has no quantization tables, and it has no other scales.
    if not getattr(image, "quantization", None):
        return None
    least = (at_least_px, at_least_px)
    if at_least_px is None:
        width, height = image.size
        # By the constant: pixels must not depend on the limit that the user set.
        scale = next((s for s in (1, 2, 4) if -(-width // s) * -(-height // s) <= MAX_PIXELS), 8)
        if scale == 1:
            return None
        least = (width // scale, height // scale)
    drafted = image.draft(None, least)  # type: ignore[arg-type]
    return drafted and drafted[1]


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
        # Some programs write it as a byte instead of a short.
        return value[0] if isinstance(value, bytes) else int(value)
    # If only the EXIF block is damaged, use the pixels as stored, as every viewer does.
    except Exception:
        return 1
