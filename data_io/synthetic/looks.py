"""Define how photographs are taken: angles, distance, clutter, light, lens and sensor."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Look:
    """How a photograph is taken; each photograph draws its own values up to these.

    Attributes:
        turn_rad: largest turn in the picture's plane.
        tilt_rad: largest tilt to the side, and up or down.
        fill: (low, high) share of the picture's side that the product takes.
        fragments: (low, high) number of other things behind the product; `high` is excluded.
        occluded: share of the photographs with a thing in front of the product.
        cast: strength of uneven light, of the colour cast, of low contrast and of glare.
        blur_px: largest radius of the blur.
        noise: largest standard deviation of the sensor's noise, of 255.
        plain: share of the photographs in front of a plain, bright background.
    """

    turn_rad: float
    tilt_rad: float
    fill: tuple[float, float]
    fragments: tuple[int, int]
    occluded: float
    cast: float
    blur_px: float
    noise: float
    plain: float = 0.0


REFERENCE_LOOK = Look(0.2, 0.35, (0.72, 0.97), (0, 4), 0.08, 0.08, 0.7, 4.0)
QUERY_LOOK = Look(0.6, 0.75, (0.58, 0.9), (2, 7), 0.4, 0.15, 1.2, 9.0)
STUDIO_LOOK = Look(0.1, 0.5, (0.75, 0.95), (0, 1), 0.0, 0.05, 0.5, 3.0, plain=1.0)
STREET_LOOK = Look(1.0, 0.85, (0.4, 0.85), (3, 9), 0.5, 0.25, 1.2, 9.0)


def between(near: Look, far: Look, share: float) -> Look:
    """Return the look on the way from one look to another.

    Args:
        near: the look at 0.
        far: the look at 1.
        share: from 0 to 1.

    Returns:
        The look whose values are between those of both; numbers of fragments are rounded.

    >>> between(STUDIO_LOOK, STREET_LOOK, 0.5).fragments
    (2, 5)
    """
    mixed: dict[str, Any] = {}
    for field in dataclasses.fields(Look):
        low, high = (np.array(getattr(look, field.name), float) for look in (near, far))
        value = low + share * (high - low)
        if field.name == "fragments":
            value = np.rint(value).astype(int)
        mixed[field.name] = tuple(value.tolist()) if value.ndim else float(value)
    return Look(**mixed)
