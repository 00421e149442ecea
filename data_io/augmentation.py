"""Change training images in ways that keep the product the same.

The flags of the 2018 original have their augmentations here; recipes can also name newer ones.
Randomness is an argument. `data_io.mixing` mixes several images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter, ImageStat

GRAY = (127, 127, 127)
DEFAULT_MIN_SIDE_SHARE = 0.7
DEFAULT_MIN_AREA_SHARE = 0.35
# Small crops are enlarged: a square for the smallest crop of 8 % would be 3.5 times as wide.
MAX_SIDE_FACTOR = 2.0
CROP_TRIES = 10
# ITU-R 601: share of each channel in the brightness of a pixel, as in Pillow's "L".
GRAY_WEIGHTS = np.array([0.299, 0.587, 0.114])

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


def random_resized_crop(
    image: Image.Image,
    rng: np.random.Generator,
    min_area_share: float = DEFAULT_MIN_AREA_SHARE,
    max_area_share: float = 1.0,
    max_aspect: float = 4 / 3,
) -> Image.Image:
    """Cut out a part of random area and aspect ratio; `augment` resizes it to a square.

    The area is uniform, and so is the logarithm of the aspect ratio. If ten parts in a row do not
    fit into the image, the largest central part with an allowed aspect ratio is used. Source:
    Szegedy et al., arXiv:1409.4842, section 6; torchvision's RandomResizedCrop.

    Args:
        image: the image.
        rng: the source of randomness.
        min_area_share: smallest share of the area that is kept, 0..1.
        max_area_share: largest share of the area that is kept, 0..1.
        max_aspect: largest ratio of the longer to the shorter side of the part, at least 1.

    Returns:
        The part.
    """
    for _ in range(CROP_TRIES):
        area_px = image.width * image.height * rng.uniform(min_area_share, max_area_share)
        aspect = math.exp(rng.uniform(-math.log(max_aspect), math.log(max_aspect)))
        width = max(1, round(math.sqrt(area_px * aspect)))
        height = max(1, round(math.sqrt(area_px / aspect)))
        if width <= image.width and height <= image.height:
            left = int(rng.integers(image.width - width + 1))
            top = int(rng.integers(image.height - height + 1))
            return image.crop((left, top, left + width, top + height))
    width = min(image.width, max(1, round(image.height * max_aspect)))
    height = min(image.height, max(1, round(image.width * max_aspect)))
    left = (image.width - width) // 2
    top = (image.height - height) // 2
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


def colour_jitter(
    image: Image.Image, rng: np.random.Generator, strength: float = 0.2
) -> Image.Image:
    """Change brightness, contrast and saturation, in this order.

    Each is multiplied by its own factor, uniform between 1 - strength and 1 + strength. As in
    torchvision's ColorJitter, contrast scales the distance from the mean gray of the image, and
    saturation the distance from the gray of the pixel. Values are clipped once, at the end.

    Args:
        image: the image.
        rng: the source of randomness.
        strength: largest change of the three factors, 0..1; 0 changes nothing.

    Returns:
        The changed image.
    """
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    # The three steps are linear, so one matrix does them all.
    mean_gray = GRAY_WEIGHTS @ ImageStat.Stat(image).mean
    offset = brightness * (1 - contrast) * mean_gray
    matrix = np.full((3, 4), offset)
    colours = saturation * np.eye(3) + (1 - saturation) * GRAY_WEIGHTS
    matrix[:, :3] = brightness * contrast * colours
    return image.convert("RGB", tuple(matrix.ravel()))


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
    "random_resized_crop": random_resized_crop,
    "mirror_left_right": mirror_left_right,
    "mirror_top_bottom": mirror_top_bottom,
    "rotate": rotate,
}
AFTER_RESIZE: dict[str, Callable] = {
    "colour_jitter": colour_jitter,
    "blur": blur,
    "black_pixels": black_pixels,
    "noise": noise,
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
