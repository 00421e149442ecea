"""Tell whether the pixels of a JPEG file are all there. libjpeg shows missing ones as gray."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from PIL import Image

from data_io.decoding.image_formats import open_unlimited

END = b"\xff\xd9"
# Pixels from which a file is compared at 1/8 of its size, to save memory.
LARGE_PIXELS = 25_000_000
# What libjpeg shows where pixels are missing: zero coefficients. CMYK is stored inverted.
_MISSING = frozenset((127, 128))
# Bytes after the pixels are ignored; in their place they would be pixels.
_NOISE = bytes(range(0xB6, 0xFF, 3)) * 4
# A marker in the data of a scan: no stuffed byte, no restart. Source: ITU T.81, table B.1.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
# No length follows these: stuffed and fill bytes, restarts, start and end of the image.
_SPECIAL = frozenset((0x00, 0xFF, *range(0xD0, 0xDA)))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_NUM_COEFFICIENTS = 64
_NO_BIT = 99


def has_end(content: bytes, scan: int) -> bool:
    """Return whether an end marker follows the first scan, which starts at position `scan`."""
    return content.rfind(END, scan) >= 0


def has_several_scans(image: Image.Image, content: bytes, scan: int) -> bool:
    """Return whether a JPEG has several scans.

    Args:
        image: opened.
        content: the file.
        scan: position of the first scan.

    Returns:
        Whether it is progressive, or the first scan lacks some components.
    """
    num_components = content[scan + 4]
    return bool(image.info.get("progressive")) or num_components < getattr(image, "layers", 0)


def ends_gray(image: Image.Image) -> bool:
    """Return whether the last pixel is the gray of missing ones; it seldom is in a complete JPEG.

    Args:
        image: decoded at any scale, not yet turned.

    Returns:
        Whether the image must be looked at.
    """
    last = image.getpixel((image.width - 1, image.height - 1))
    shades = last if isinstance(last, tuple) else (last,)
    return all(shade in _MISSING for shade in shades)


def completed(content: bytes) -> bytes:
    """Return a JPEG file without an end marker up to its last byte that is not 0, and the marker.

    An interrupted download that had reserved its space ends in zeros.
    """
    data = content.rstrip(b"\0")
    # A byte 0xff of the pixels is followed by 0; half an end marker does no harm there.
    return data + (b"\0" if data.endswith(b"\xff") else b"") + END


def is_complete(content: bytes) -> bool:
    """Return whether the last scan is complete: bytes put behind it must not change the image.

    Args:
        content: a file with an end marker.

    Returns:
        Whether no pixel of the last scan is missing.
    """
    end = _end(content)
    return _pixels(content[:end] + END) == _pixels(content[:end] + _NOISE + END)


def _pixels(content: bytes) -> bytes:
    with open_unlimited(io.BytesIO(content), ("JPEG",)) as image:
        if image.width * image.height > LARGE_PIXELS:
            image.draft(None, (image.width // 8, image.height // 8))  # type: ignore[arg-type]
        return image.tobytes()


def first_scan(content: bytes) -> int:
    """Return the position of the first scan, or the length; the thumbnail in EXIF has markers, too.

    Args:
        content: a JPEG file.

    Returns:
        The position of its marker.
    """
    position = 2
    # Usual files have only whole segments here. Otherwise search for the markers.
    while content[position : position + 1] == b"\xff" and content[position + 1] not in _SPECIAL:
        if content[position + 1] == _START_OF_SCAN:
            return position
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    for marker, start, _ in _segments(content):
        if marker == _START_OF_SCAN:
            return start
    return len(content)


def _end(content: bytes) -> int:
    """Return the position of the end marker of the first image, or the length."""
    for marker, start, _ in _segments(content):
        if marker == _END_OF_IMAGE:
            return start
    return len(content)


def lacks_scans(content: bytes) -> bool:
    """Return whether no scan holds some bit of a coefficient. Source: ITU T.81, B.2.3.

    Args:
        content: a JPEG file, sequential or progressive.

    Returns:
        Whether a scan is missing; false for a lossless file.
    """
    # Component -> for each coefficient the lowest bit that a scan holds.
    lowest_bits: dict[int, list[int]] = {}
    for marker, _, segment in _segments(content):
        if marker in _LOSSLESS:
            return False
        if marker in _FRAMES:
            lowest_bits |= {name: [_NO_BIT] * _NUM_COEFFICIENTS for name in segment[6::3]}
        if marker != _START_OF_SCAN:
            continue
        num_components = segment[0] if segment else 0
        if len(segment) < 4 + 2 * num_components:
            return True
        first, last, bits = segment[1 + 2 * num_components : 4 + 2 * num_components]
        for name in segment[1 : 1 + 2 * num_components : 2]:
            if name in lowest_bits:
                lowest_bits[name][first : last + 1] = [bits & 15] * (last + 1 - first)
    return any(any(bits) for bits in lowest_bits.values())


def _segments(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (marker, its position, segment without length) of the first image."""
    position = 2
    while found := _MARKER.search(content, position):
        marker = found.group()[1]
        body = found.end()
        length = 0
        if marker != _END_OF_IMAGE:
            length = max(2, int.from_bytes(content[body : body + 2], "big"))
        yield marker, found.start(), content[body + 2 : body + length]
        if marker == _END_OF_IMAGE:
            return
        position = body + length
