"""Choose the colours of a product."""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np

Colour = tuple[int, int, int]
"""Red, green and blue, 0..255."""


class Palette(NamedTuple):
    """Colours of a product: background, second colour, text, and lid or cap."""

    body: Colour
    accent: Colour
    ink: Colour
    cap: Colour


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Convert a colour from HSV.

    Args:
        hue: any number; only the part after the point counts.
        saturation: 0..1.
        value: 0..1.

    Returns:
        The colour.
    """
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def luminance(colour: Colour) -> float:
    """Return the brightness of a colour, 0..255."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def draw_palette(shared: np.random.Generator, own: np.random.Generator, member: int) -> Palette:
    """Choose the colours of a product.

    In half of the families the members differ in the accent only, in the other half in the body.

    Args:
        shared: the source of randomness of the family.
        own: the source of randomness of the product.
        member: number of the product in its family.

    Returns:
        The colours.
    """
    hue = shared.random()
    value = shared.uniform(0.35, 1.0)
    body_saturation = float(shared.choice([0.08, 0.45, 0.8]))
    accent_hue = hue + 0.35 + 0.17 * member + own.uniform(-0.04, 0.04)
    body_hue = hue if shared.random() < 0.5 else accent_hue
    body = hsv(body_hue, body_saturation, value)
    accent = hsv(accent_hue, own.uniform(0.6, 0.95), 0.9 if value < 0.65 else 0.5)
    ink = (250, 248, 240) if luminance(body) < 120 else hsv(hue + 0.5, 0.9, 0.25)
    return Palette(body, accent, ink, hsv(shared.random(), 0.7, 0.6))
