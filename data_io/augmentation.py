"""Change training images in ways that keep the product the same.

These are the augmentations behind the flags of the 2018 original. Randomness is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter

GRAY = (127, 127, 127)
DEFAULT_MIN_SIDE_SHARE = 0.7

Changes = Mapping[str, Mapping[str, float]]
"""Name of an augmentation -> its parameters; a missing parameter has its default."""


def crop(
    image: Image.Image,
    rng: np.random.Generator,
    min_side_share: float = DEFAULT_MIN_SIDE_SHARE,
) -> Image.Image:
    """Cut out a random part.

    Args:
        image: the image.
        rng: the source of randomness.
        min_side_share: smallest share of each side that is kept, 0..1.

    Returns:
        The part.
    """
    width, height = (max(1, round(side * rng.uniform(min_side_share, 1.0))) for side in image.size)
    left = rng.integers(image.width - width + 1)
    top = rng.integers(image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


def mirror_left_right(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Exchange left and right with probability 0.5."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def mirror_top_bottom(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Exchange top and bottom with probability 0.5."""
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if rng.random() < 0.5 else image


def rotate(image: Image.Image, rng: np.random.Generator, max_deg: float = 45.0) -> Image.Image:
    """Rotate about the centre; the corners become gray.

    Args:
        image: the image.
        rng: the source of randomness.
        max_deg: largest angle in degrees, in both directions (2018 original: 45).

    Returns:
        The rotated image, of the same size.
    """
    angle_deg = rng.uniform(-max_deg, max_deg)
    return image.rotate(angle_deg, Image.Resampling.BILINEAR, fillcolor=GRAY)


def blur(image: Image.Image, rng: np.random.Generator, max_px: float = 1.5) -> Image.Image:
    """Blur with a Gaussian.

    Args:
        image: the image.
        rng: the source of randomness.
        max_px: largest standard deviation in pixels.

    Returns:
        The blurred image.
    """
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, max_px)))


def black_pixels(
    image: Image.Image, rng: np.random.Generator, max_share: float = 0.1
) -> Image.Image:
    """Set single pixels to black.

    Args:
        image: the image.
        rng: the source of randomness.
        max_share: largest probability that a pixel becomes black, 0..1.

    Returns:
        The changed image.
    """
    pixels = np.array(image)
    pixels[rng.random(pixels.shape[:2]) < rng.uniform(0.0, max_share)] = 0
    return Image.fromarray(pixels)


def noise(image: Image.Image, rng: np.random.Generator, max_share: float = 0.05) -> Image.Image:
    """Add normal noise to each channel of each pixel.

    Args:
        image: the image.
        rng: the source of randomness.
        max_share: largest standard deviation as a share of 255, 0..1.

    Returns:
        The changed image.
    """
    pixels = np.asarray(image, np.float32)
    pixels = pixels + rng.normal(0.0, rng.uniform(0.0, max_share * 255), pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


# Changes of geometry come first, on the full image; changes of pixels last, on the small image.
BEFORE_RESIZE: dict[str, Callable] = {
    "crop": crop,
    "mirror_left_right": mirror_left_right,
    "mirror_top_bottom": mirror_top_bottom,
    "rotate": rotate,
}
AFTER_RESIZE: dict[str, Callable] = {"blur": blur, "black_pixels": black_pixels, "noise": noise}
AUGMENTATIONS = (*BEFORE_RESIZE, *AFTER_RESIZE)


def side_before(size_px: int, changes: Changes) -> int:
    """Return the side in pixels that an image needs so that a crop keeps at least `size_px`."""
    if "crop" not in changes:
        return size_px
    return math.ceil(size_px / changes["crop"].get("min_side_share", DEFAULT_MIN_SIDE_SHARE))


def augment(
    pixels: np.ndarray, size_px: int, changes: Changes, rng: np.random.Generator
) -> np.ndarray:
    """Change an image at random and resize it.

    Args:
        pixels: uint8 [H, W, 3].
        size_px: side of the result.
        changes: the augmentations to apply, by names of AUGMENTATIONS.
        rng: the source of randomness.

    Returns:
        uint8 [size_px, size_px, 3].
    """
    image = Image.fromarray(pixels)
    for name, change in BEFORE_RESIZE.items():
        if name in changes:
            image = change(image, rng, **changes[name])
    image = image.resize((size_px, size_px), Image.Resampling.BILINEAR)
    for name, change in AFTER_RESIZE.items():
        if name in changes:
            image = change(image, rng, **changes[name])
    return np.asarray(image)
