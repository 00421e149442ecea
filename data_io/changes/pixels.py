"""Change the pixels of a training image in their places: colours, blur, noise, holes."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter, ImageStat

# ITU-R 601: share of each channel in the brightness of a pixel, as in Pillow's "L".
GRAY_WEIGHTS = np.array([0.299, 0.587, 0.114])


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


def grayscale(
    image: Image.Image, rng: np.random.Generator, probability: float = 0.1
) -> Image.Image:
    """Remove the colours, as torchvision's RandomGrayscale.

    Args:
        image: the image.
        rng: the source of randomness.
        probability: of the image to be changed.

    Returns:
        The image, perhaps with three equal channels.
    """
    return image.convert("L").convert("RGB") if rng.random() < probability else image


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


def cutout(
    image: Image.Image,
    rng: np.random.Generator,
    side_share: float = 0.4,
    probability: float = 1.0,
) -> Image.Image:
    """Set a square to black.

    The centre is uniform in the image, and the square is cut off at its edges, as in TensorFlow
    Addons' random_cutout and in DeVries and Taylor, arXiv:1708.04552.

    Args:
        image: the image.
        rng: the source of randomness.
        side_share: side of the square as a share of the image's shorter side, 0..1.
        probability: of the image to be changed.

    Returns:
        The changed image.
    """
    if rng.random() >= probability:
        return image
    side = round(side_share * min(image.size))
    left = int(rng.integers(image.width)) - side // 2
    top = int(rng.integers(image.height)) - side // 2
    changed = image.copy()
    changed.paste((0, 0, 0), (left, top, left + side, top + side))
    return changed
