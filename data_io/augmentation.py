"""Change training images in ways that keep the product the same.

The flags of the 2018 original have their augmentations here; recipes can also name newer ones.
Randomness is an argument. `data_io.changes.mixing` mixes several images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from data_io.changes.geometry import (
    DEFAULT_MIN_AREA_SHARE,
    DEFAULT_MIN_SIDE_SHARE,
    crop,
    mirror_left_right,
    mirror_top_bottom,
    random_resized_crop,
    rotate,
    shift_scale_rotate,
)
from data_io.changes.pixels import black_pixels, blur, colour_jitter, cutout, grayscale, noise

# Small crops are enlarged: a square for the smallest crop of 8 % would be 3.5 times as wide.
MAX_SIDE_FACTOR = 2.0

Changes = Mapping[str, Mapping[str, float]]
"""Name of an augmentation -> its parameters; a missing parameter has its default."""

# Crops, mirrors and turns come first, on the full image; the others last, on the small image.
BEFORE_RESIZE: dict[str, Callable] = {
    "crop": crop,
    "random_resized_crop": random_resized_crop,
    "mirror_left_right": mirror_left_right,
    "mirror_top_bottom": mirror_top_bottom,
    "rotate": rotate,
}
AFTER_RESIZE: dict[str, Callable] = {
    "shift_scale_rotate": shift_scale_rotate,
    "colour_jitter": colour_jitter,
    "grayscale": grayscale,
    "blur": blur,
    "black_pixels": black_pixels,
    "noise": noise,
    "cutout": cutout,
}
AUGMENTATIONS = (*BEFORE_RESIZE, *AFTER_RESIZE)


def side_before(size_px: int, changes: Changes) -> int:
    """Return the side in pixels that an image needs before crops.

    A crop by sides keeps at least `size_px`. A crop by area keeps about this, but the side is at
    most doubled for it.
    """
    factor = 1.0
    if "crop" in changes:
        factor /= changes["crop"].get("min_side_share", DEFAULT_MIN_SIDE_SHARE)
    if "random_resized_crop" in changes:
        crop_changes = changes["random_resized_crop"]
        area_share = crop_changes.get("min_area_share", DEFAULT_MIN_AREA_SHARE)
        factor *= min(MAX_SIDE_FACTOR, 1 / math.sqrt(area_share))
    return math.ceil(size_px * factor)


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
