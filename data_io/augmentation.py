"""Changes to a training photograph that leave the product the same. Behind the original's flags; randomness is an argument."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

MAX_ROTATION_DEG = 45.0  # the original: "rotate -45 degree to +45 degree"
MIN_CROP_SHARE = 0.7  # of each side
MAX_BLUR_PX = 1.5
MAX_DROPPED_SHARE = 0.1
MAX_NOISE = 0.05 * 255


def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random part, each side at least 70 % of the whole."""
    width, height = (max(1, round(side * rng.uniform(MIN_CROP_SHARE, 1.0))) for side in image.size)
    left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


def fliplr(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Left and right exchanged, in half of the cases."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def flipud(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Top and bottom exchanged, in half of the cases."""
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if rng.random() < 0.5 else image


def rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turned about its centre; what comes into the picture is gray."""
    angle_deg = rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG)
    return image.rotate(angle_deg, Image.Resampling.BILINEAR, fillcolor=(127, 127, 127))


def gausian(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur; the original's spelling."""
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, MAX_BLUR_PX)))


def dropout(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Single pixels go black, at most about a tenth of them."""
    pixels = np.array(image)
    pixels[rng.random(pixels.shape[:2]) < rng.uniform(0.0, MAX_DROPPED_SHARE)] = 0
    return Image.fromarray(pixels)


def noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Normal noise on every channel of every pixel."""
    pixels = np.asarray(image, np.float32)
    pixels = pixels + rng.normal(0.0, rng.uniform(0.0, MAX_NOISE), pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


# Geometry first and on the full photograph; pixel changes last and on the small one.
BEFORE_RESIZE: dict[str, Callable] = {"crop": crop, "fliplr": fliplr, "flipud": flipud, "rotate": rotate}
AFTER_RESIZE: dict[str, Callable] = {"gausian": gausian, "dropout": dropout, "noise": noise}
AUGMENTATIONS = (*BEFORE_RESIZE, *AFTER_RESIZE)


def side_before(size_px: int, names: tuple[str, ...]) -> int:
    """The side that a photograph needs so that the named augmentations leave `size_px` of it."""
    return math.ceil(size_px / MIN_CROP_SHARE) if "crop" in names else size_px


def augment(pixels: np.ndarray, size_px: int, names: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [size_px, size_px, 3], changed by the named augmentations.

    Raises: ValueError naming the known ones.
    """
    unknown = set(names) - set(AUGMENTATIONS)
    if unknown:
        raise ValueError(f"unknown augmentation {', '.join(sorted(unknown))}. Known: {', '.join(AUGMENTATIONS)}.")
    image = Image.fromarray(pixels)
    for name, change in BEFORE_RESIZE.items():
        if name in names:
            image = change(image, rng)
    image = image.resize((size_px, size_px), Image.Resampling.BILINEAR)
    for name, change in AFTER_RESIZE.items():
        if name in names:
            image = change(image, rng)
    return np.asarray(image)
