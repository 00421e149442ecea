"""Limit the pixels that are decoded of one image, and the memory of images decoded at once."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from PIL import Image

from data_io.decoding.image_errors import ImageError

MAX_PIXELS = 100_000_000
"""Limit on the decoded pixels of one image, unless `set_max_pixels` changed it."""
# A JPEG at a reduced scale may have this many times the limit. A progressive one needs 3 to 6 bytes
# of memory for each of its own pixels.
SCALED_SEQUENTIAL = 10
SCALED_PROGRESSIVE = 2.5
# Images from this number of pixels on are decoded one at a time.
LARGE_PIXELS = 40_000_000
# An environment variable reaches worker processes too.
_VARIABLE = "MANDOO_MAX_PIXELS"
_large_image = threading.Lock()


def set_max_pixels(limit: int) -> None:
    """Set the limit for this process and the processes that it starts.

    The limit decides which images are refused. It never changes the pixels of an image.

    Args:
        limit: number of pixels, at least 1.
    """
    os.environ[_VARIABLE] = str(limit)


def max_pixels() -> int:
    """Return the limit that `set_max_pixels` set, otherwise MAX_PIXELS."""
    return int(os.environ.get(_VARIABLE) or MAX_PIXELS)


def require_decodable(path: str | Path, image: Image.Image, stored: tuple[int, int]) -> None:
    """Refuse an image that is too large to decode.

    Args:
        path: the file, for the error.
        image: opened, at the scale at which it will be decoded.
        stored: (width, height) at full scale.

    Raises:
        ImageError: the image is too large, or it has no pixels.
    """
    stored_pixels = stored[0] * stored[1]
    if stored_pixels == 0:
        raise ImageError(path, "has no pixels")
    limit = max_pixels()
    ratio = 1.0
    if image.size != stored:
        ratio = SCALED_PROGRESSIVE if image.info.get("progressive") else SCALED_SEQUENTIAL
    if image.width * image.height > limit or stored_pixels > ratio * limit:
        raise ImageError(
            path,
            f"{stored[0]} x {stored[1]} pixels, over the limit of {limit:,}; "
            "--max_pixels raises it",
        )


def turn_to_decode(
    image: Image.Image, stored: tuple[int, int]
) -> contextlib.AbstractContextManager[object]:
    """Return a context in which no other large image is decoded, if this image is large."""
    in_memory = stored if image.info.get("progressive") else image.size
    is_large = in_memory[0] * in_memory[1] >= LARGE_PIXELS
    return _large_image if is_large else contextlib.nullcontext()
