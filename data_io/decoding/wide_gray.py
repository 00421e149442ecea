"""Convert gray images of more than 8 bits to 8 bits, so that they look as in a viewer."""

from __future__ import annotations

import numpy as np
from PIL import Image, TiffImagePlugin

# Source: TIFF 6.0, sections 4 and 19.
BITS_PER_SAMPLE = 258
PHOTOMETRIC = 262
SAMPLE_FORMAT = 339
UNSIGNED, SIGNED, FLOAT = (1,), (2,), (3,)
# Floats up to this multiple of white are highlights, which viewers cut off. The same part of white
# below black comes from filters.
OVERSHOOT = 0.5


def _add_tiff_kinds() -> None:
    """Let Pillow open the gray TIFF files for which it has an unpacker, but no entry."""
    kinds = (
        (b"II", UNSIGNED, 32, ("I", "I;32N")),
        (b"MM", UNSIGNED, 32, ("I", "I;32B")),
        (b"II", SIGNED, 32, ("I", "I;32S")),
        (b"MM", SIGNED, 32, ("I", "I;32BS")),
        (b"II", UNSIGNED, 16, ("I;16", "I;16")),
        (b"MM", UNSIGNED, 16, ("I;16B", "I;16B")),
        (b"II", SIGNED, 16, ("I", "I;16S")),
        (b"MM", SIGNED, 16, ("I", "I;16BS")),
        (b"II", FLOAT, 64, ("F", "F;64F")),
        (b"MM", FLOAT, 64, ("F", "F;64BF")),
    )
    for byte_order, sample_format, bits, modes in kinds:
        for photometric in (0, 1):
            key = (byte_order, photometric, sample_format, 1, (bits,), ())
            TiffImagePlugin.OPEN_INFO.setdefault(key, modes)  # type: ignore[arg-type]


_add_tiff_kinds()


def is_wide(image: Image.Image) -> bool:
    """Return whether an image is gray with more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def narrowed(image: Image.Image) -> Image.Image:
    """Convert a gray image of 12, 16 or 32 bits or of floats to 8 bits, rounded.

    16 bits run from 0 to 65535 (12 bits to 4095). 32 bits and floats have no convention for white:
    it is the least of 1 (floats only), 255 and 65535 that holds all values; if none does, the
    values are stretched from the smallest or 0 to the largest. A TIFF may say that 0 is white.
    A transparent value becomes white.

    Args:
        image: of a mode that `is_wide`.

    Returns:
        The image with mode L.
    """
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if tags.get(SAMPLE_FORMAT, UNSIGNED) == UNSIGNED and values.dtype == np.int32:
        # Pillow has no mode for unsigned 32 bits.
        values = values.view(np.uint32)
    black, white = _black_and_white(values, tags)
    if black == 0 and white == 65535 and values.dtype.itemsize == 2:
        gray = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    else:
        gray = _stretched(values, black, white)
    if tags.get(PHOTOMETRIC) == 0:
        np.subtract(255, gray, out=gray)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray[values == transparent] = 255
    return Image.fromarray(gray)


def _stretched(values: np.ndarray, black: float, white: float) -> np.ndarray:
    shades = (values.astype(np.float32) - np.float32(black)) * np.float32(255 / (white - black))
    return np.rint(np.clip(np.nan_to_num(shades, nan=0.0), 0, 255)).astype(np.uint8)


def _black_and_white(values: np.ndarray, tags: dict) -> tuple[float, float]:
    """Return the values that are shown black and white."""
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0] if tags else 16
    is_float = values.dtype.kind == "f"
    # All formats except TIFF store 16 bits, or are scaled to them by Pillow.
    if not is_float and bits <= 16 and tags.get(SAMPLE_FORMAT, UNSIGNED) == UNSIGNED:
        return 0.0, float(2**bits - 1)
    finite = values[np.isfinite(values)] if is_float else values
    if not finite.size:
        return 0.0, 1.0
    low = float(finite.min())
    high = float(finite.max())
    overshoot = OVERSHOOT if is_float else 0.0
    whites = [255.0, 65535.0]
    if is_float:
        whites.insert(0, 1.0)
    elif bits == 16:
        whites.insert(1, 32767.0)
    fitting = [white for white in whites if high <= (1 + overshoot) * white]
    if fitting and low >= -overshoot * fitting[0]:
        return 0.0, fitting[0]
    black = min(low, 0.0)
    return black, max(high, black + 1.0)
