"""Changes to a training photograph that leave the product the same. Behind the original's flags; randomness is an argument."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter

GRAY = (127, 127, 127)

Changes = Mapping[str, Mapping[str, float]]
"""Name of an augmentation -> its parameters; what is left out has its default."""


def crop(image: Image.Image, rng: np.random.Generator, min_side_share: float = 0.7) -> Image.Image:
    """Return a random part, each side at least `min_side_share` of the whole."""
    width, height = (max(1, round(side * rng.uniform(min_side_share, 1.0))) for side in image.size)
    left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


def mirror_left_right(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Exchange left and right, in half of the cases."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def mirror_top_bottom(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Exchange top and bottom, in half of the cases."""
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if rng.random() < 0.5 else image


def rotate(image: Image.Image, rng: np.random.Generator, max_deg: float = 45.0) -> Image.Image:
    """Turn about the centre by at most `max_deg`; the corners become gray. The original: "-45 degree to +45 degree"."""
    angle_deg = rng.uniform(-max_deg, max_deg)
    return image.rotate(angle_deg, Image.Resampling.BILINEAR, fillcolor=GRAY)


def blur(image: Image.Image, rng: np.random.Generator, max_px: float = 1.5) -> Image.Image:
    """Blur with a Gaussian of at most `max_px` pixels."""
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, max_px)))


def black_pixels(
    image: Image.Image, rng: np.random.Generator, max_share: float = 0.1
) -> Image.Image:
    """Set single pixels to black, at most about `max_share` of them."""
    pixels = np.array(image)
    pixels[rng.random(pixels.shape[:2]) < rng.uniform(0.0, max_share)] = 0
    return Image.fromarray(pixels)


def noise(image: Image.Image, rng: np.random.Generator, max_share: float = 0.05) -> Image.Image:
    """Add normal noise to every channel of every pixel; its deviation is at most `max_share` of 255."""
    pixels = np.asarray(image, np.float32)
    pixels = pixels + rng.normal(0.0, rng.uniform(0.0, max_share * 255), pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


# Geometry first and on the full photograph; pixel changes last and on the small one.
BEFORE_RESIZE: dict[str, Callable] = {
    "crop": crop,
    "mirror_left_right": mirror_left_right,
    "mirror_top_bottom": mirror_top_bottom,
    "rotate": rotate,
}
AFTER_RESIZE: dict[str, Callable] = {"blur": blur, "black_pixels": black_pixels, "noise": noise}
AUGMENTATIONS = (*BEFORE_RESIZE, *AFTER_RESIZE)


def side_before(size_px: int, changes: Changes) -> int:
    """Return the side that a photograph needs so that the augmentations leave `size_px` of it."""
    smallest = changes["crop"].get("min_side_share", 0.7) if "crop" in changes else 1.0
    return math.ceil(size_px / smallest)


def augment(
    pixels: np.ndarray, size_px: int, changes: Changes, rng: np.random.Generator
) -> np.ndarray:
    """Change a photograph at random and resize it.

    Args:
        pixels: uint8 [H, W, 3].
        size_px: side of the result.
        changes: the augmentations to apply.
        rng: the only source of randomness.

    Returns:
        uint8 [size_px, size_px, 3].

    Raises:
        ValueError: naming the known augmentations.
    """
    unknown = set(changes) - set(AUGMENTATIONS)
    if unknown:
        raise ValueError(
            f"unknown augmentation {', '.join(sorted(unknown))}. Known: {', '.join(AUGMENTATIONS)}."
        )
    image = Image.fromarray(pixels)
    for name, change in BEFORE_RESIZE.items():
        if name in changes:
            image = change(image, rng, **changes[name])
    image = image.resize((size_px, size_px), Image.Resampling.BILINEAR)
    for name, change in AFTER_RESIZE.items():
        if name in changes:
            image = change(image, rng, **changes[name])
    return np.asarray(image)
