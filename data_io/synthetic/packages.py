"""Define the shapes of packages, as shares of the picture's side."""

from __future__ import annotations

import math

import numpy as np

Box = tuple[float, float, float, float]
"""(left, top, right, bottom)."""
Points = list[tuple[float, float]]
"""(x, y) of each corner of a polygon."""

PACKAGE_OF = {
    "NOODLES": "pouch", "CRISPS": "pouch", "COFFEE": "pouch", "RICE": "pouch", "DUMPLINGS": "pouch",
    "TEA": "box", "SOAP": "box", "BISCUITS": "box", "CEREAL": "box", "CANDY": "box",
    "JUICE": "bottle", "SHAMPOO": "bottle", "SAUCE": "bottle", "OIL": "bottle", "SODA": "can",
    "SOUP": "can", "TUNA": "can", "BEANS": "can", "JAM": "jar", "HONEY": "jar", "CREAM": "jar",
    "PICKLES": "jar",
}  # fmt: skip


def package_shape(package: str, rng: np.random.Generator) -> tuple[Points, Points, Box]:
    """Return the shape of a package.

    Args:
        package: one of the values of PACKAGE_OF.
        rng: the source of randomness.

    Returns:
        (outline, lid, panel): the lid may be empty; the panel is printed on.
    """
    half = rng.uniform(0.26, 0.4)
    height = rng.uniform(0.72, 0.94)
    if package == "bottle":
        half *= 0.72
    if package == "box" and rng.random() >= 0.6:
        half = rng.uniform(0.42, 0.47)
        height = rng.uniform(0.55, 0.7)
    box = (0.5 - half, 0.5 - height / 2, 0.5 + half, 0.5 + height / 2)
    if package == "pouch":
        return _pouch(box)
    if package == "can":
        return _can(box, half)
    if package == "bottle":
        return _bottle(box, 0.35 * half, shoulder=0.24)
    if package == "jar":
        return _bottle(box, 0.8 * half, shoulder=0.12)
    left, top, right, bottom = box
    outline = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return outline, [], (left + 0.03, top + 0.03, right - 0.05, bottom - 0.03)


def _pouch(box: Box) -> tuple[Points, Points, Box]:
    left, top, right, bottom = box
    teeth = np.linspace(left, right, 25).tolist()
    ridge = [(x, top + 0.015 * (i % 2)) for i, x in enumerate(teeth)]
    floor = [(x, bottom - 0.015 * (i % 2)) for i, x in enumerate(teeth)][::-1]
    bulge = [
        (0.03 * math.sin(math.pi * t) ** 0.5, top + t * (bottom - top))
        for t in np.linspace(0.06, 0.94, 12)
    ]
    right_side = [(right + dx, y) for dx, y in bulge]
    left_side = [(left - dx, y) for dx, y in bulge[::-1]]
    panel = (left + 0.03, top + 0.07, right - 0.03, bottom - 0.06)
    return ridge + right_side + floor + left_side, [], panel


def _can(box: Box, half: float) -> tuple[Points, Points, Box]:
    left, top, right, bottom = box
    curve = [(math.cos(t), math.sin(t)) for t in np.linspace(0, math.pi, 12)]
    outline = [(0.5 + half * c, bottom - 0.05 + 0.05 * s) for c, s in curve]
    outline += [(0.5 - half * c, top + 0.05 - 0.05 * s) for c, s in curve]
    lid = [
        (0.5 + half * math.cos(t), top + 0.05 + 0.04 * math.sin(t))
        for t in np.linspace(0, 2 * math.pi, 24)
    ]
    return outline, lid, (left + 0.03, top + 0.11, right - 0.03, bottom - 0.05)


def _bottle(box: Box, neck_half: float, shoulder: float) -> tuple[Points, Points, Box]:
    left, top, right, bottom = box
    cap = top + 0.35 * shoulder
    neck_bottom = top + 0.6 * shoulder
    shoulder_bottom = top + shoulder
    outline = [
        (0.5 - neck_half, cap),
        (0.5 + neck_half, cap),
        (0.5 + neck_half, neck_bottom),
        (right, shoulder_bottom),
        (right, bottom - 0.03),
        (right - 0.03, bottom),
        (left + 0.03, bottom),
        (left, bottom - 0.03),
        (left, shoulder_bottom),
        (0.5 - neck_half, neck_bottom),
    ]
    lid = [(0.5 + x * neck_half * 1.08, y) for x, y in ((-1, top), (1, top), (1, cap), (-1, cap))]
    return outline, lid, (left + 0.02, shoulder_bottom + 0.03, right - 0.02, bottom - 0.04)
