"""Convert the pixels of an image to RGB, so that it looks as in a viewer on a white page."""

from __future__ import annotations

from PIL import Image

from data_io.decoding.wide_gray import is_wide, narrowed


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB; transparent parts become white.

    Args:
        image: decoded.

    Returns:
        An image of mode RGB; `image` itself if it is of that mode.
    """
    if is_wide(image):
        return narrowed(image).convert("RGB")
    if not image.has_transparency_data or _has_empty_alpha(image):
        # convert() would copy the pixels even if the mode is right.
        return image if image.mode == "RGB" else image.convert("RGB")
    # Pillow converts premultiplied gray only to gray.
    pixels = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = Image.new("RGBA", pixels.size, "white")
    return Image.alpha_composite(white, pixels).convert("RGB")


def _has_empty_alpha(image: Image.Image) -> bool:
    """Return whether a BMP leaves its fourth byte empty; viewers then show it as opaque."""
    return image.format == "BMP" and image.getchannel("A").getextrema() == (0, 0)
