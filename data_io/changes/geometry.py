"""Move the pixels of a training image: crops, mirrors, turns and shifts."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

GRAY = (127, 127, 127)
DEFAULT_MIN_SIDE_SHARE = 0.7
DEFAULT_MIN_AREA_SHARE = 0.35
CROP_TRIES = 10


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


def shift_scale_rotate(
    image: Image.Image,
    rng: np.random.Generator,
    max_shift_share: float = 0.0625,
    max_scale_share: float = 0.1,
    max_deg: float = 45.0,
    probability: float = 0.5,
) -> Image.Image:
    """Scale and rotate about the centre, and move, in one step; pixels from outside are gray.

    Shifts, scale and angle are uniform and independent, as in albumentations' ShiftScaleRotate,
    which by default mirrors the image at its edges instead.

    Args:
        image: the image.
        rng: the source of randomness.
        max_shift_share: largest shift in x and in y, as a share of the width and height, 0..1.
        max_scale_share: the scale is between 1 - max_scale_share and 1 + max_scale_share.
        max_deg: largest angle in degrees, in both directions.
        probability: of the image to be changed.

    Returns:
        The changed image, of the same size.
    """
    if rng.random() >= probability:
        return image
    shift_x, shift_y = rng.uniform(-max_shift_share, max_shift_share, 2) * image.size
    scale = rng.uniform(1 - max_scale_share, 1 + max_scale_share)
    angle_rad = math.radians(rng.uniform(-max_deg, max_deg))
    # Pillow needs the source of each pixel: shift back, then turn and scale back about the centre.
    cosine, sine = math.cos(angle_rad) / scale, math.sin(angle_rad) / scale
    centre_x, centre_y = image.width / 2, image.height / 2
    from_x, from_y = centre_x + shift_x, centre_y + shift_y
    matrix = (
        cosine,
        -sine,
        centre_x - cosine * from_x + sine * from_y,
        sine,
        cosine,
        centre_y - sine * from_x - cosine * from_y,
    )
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=GRAY
    )
