"""Open image files with Pillow: only the formats of photographs, without Pillow's own limit."""

from __future__ import annotations

import functools
import threading
from typing import IO

from PIL import Image

# Other readers of Pillow are excluded because some of them run external programs (EPS).
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF", "ICO")
NAMED_FORMATS = {".tga": "TGA"}
"""Formats whose first bytes say nothing, by the ending of the file."""
_OTHER_PICTURES = {
    "PSD": "a Photoshop file; save it as JPEG or PNG",
    "JXL": "JPEG XL, which is not read; save it as JPEG or PNG",
}
# Files that are often saved under the name of an image: (first bytes in lower case, what it is).
_TEXTS = (
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<svg", "an SVG drawing; save it as PNG"),
    (b"<?xml", "an XML file"),
    (b"version https://git-lfs", "a pointer of Git LFS; run `git lfs pull`"),
)
_pillow_limit = threading.Lock()


def why_unreadable(kind: str | None, head: bytes) -> str:
    """Return why a file cannot be read that is of a known kind, else "".

    Args:
        kind: of the image, by `image_kinds.image_kind`.
        head: first bytes of the file.

    Returns:
        A reason with the remedy.
    """
    if kind == "HEIF" and not _register_heif():
        return 'HEIC needs pillow-heif: pip install -e ".[heic]" in the clone'
    if kind == "AVIF" and not _has_avif():
        return "AVIF needs Pillow 11.3 or newer"
    if kind in _OTHER_PICTURES:
        return _OTHER_PICTURES[kind]
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for text, name in _TEXTS:
        if kind is None and start.startswith(text):
            return f"not an image but {name}"
    return ""


def open_unlimited(file: IO[bytes], formats: tuple[str, ...] | None = None) -> Image.Image:
    """Open an image without Pillow's limit of pixels; the caller checks our own limit.

    Args:
        file: the image file.
        formats: some of FORMATS; None allows all of them.

    Returns:
        The image; its pixels are not decoded yet.
    """
    # Pillow's limit is one global value, and an image just above it only causes a warning.
    with _pillow_limit:
        pillow_max_pixels = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(file, formats=formats or _installed())
        finally:
            Image.MAX_IMAGE_PIXELS = pillow_max_pixels


@functools.cache
def _has_avif() -> bool:
    Image.init()
    return "AVIF" in Image.OPEN


@functools.cache
def _register_heif() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _installed() -> tuple[str, ...]:
    _has_avif()
    return tuple(name for name in FORMATS if name in Image.OPEN)
