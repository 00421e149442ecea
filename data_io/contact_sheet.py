"""Draw a batch of training images as one picture."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from data_io.files.artifacts import atomic_path

COLUMNS = 8
MAX_IMAGES = 64
THUMB_PX = 112
GAP_PX = 4
BAR_PX = 6
OWN, OTHER = (46, 160, 67), (219, 109, 40)
"""Colours of the shares of the two labels of a mixed image."""


def contact_sheet(images: np.ndarray, shares: np.ndarray | None = None) -> Image.Image:
    """Draw the first images of a batch in rows of eight.

    Args:
        images: uint8 [B, S, S, 3].
        shares: float [B], share of the first label in a mixed image, 0..1; it is drawn as a bar
            below the image. None: no image is mixed.

    Returns:
        The picture.
    """
    images = images[:MAX_IMAGES]
    step_px = THUMB_PX + BAR_PX + 2 * GAP_PX
    columns = min(COLUMNS, len(images))
    rows = math.ceil(len(images) / COLUMNS)
    sheet = Image.new("RGB", (columns * (THUMB_PX + GAP_PX) + GAP_PX, rows * step_px), "white")
    draw = ImageDraw.Draw(sheet)
    for place, pixels in enumerate(images):
        left = GAP_PX + place % COLUMNS * (THUMB_PX + GAP_PX)
        top = GAP_PX + place // COLUMNS * step_px
        thumb = Image.fromarray(pixels).resize((THUMB_PX, THUMB_PX), Image.Resampling.BILINEAR)
        sheet.paste(thumb, (left, top))
        if shares is not None and shares[place] < 1:
            middle = left + round(float(shares[place]) * THUMB_PX)
            top += THUMB_PX
            draw.rectangle((left, top, left + THUMB_PX - 1, top + BAR_PX - 1), fill=OTHER)
            if middle > left:
                draw.rectangle((left, top, middle - 1, top + BAR_PX - 1), fill=OWN)
    return sheet


def save_contact_sheet(path: Path, images: np.ndarray, shares: np.ndarray | None = None) -> None:
    """Write `contact_sheet` to a PNG file.

    Args:
        path: the file.
        images: uint8 [B, S, S, 3].
        shares: float [B] as for `contact_sheet`, or None.
    """
    with atomic_path(path) as temporary:
        contact_sheet(images, shares).save(temporary, "PNG")
