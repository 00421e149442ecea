"""Print texts, logo, picture and barcode on the front of a package."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_io.synthetic.colours import Colour, Palette, hsv, luminance
from data_io.synthetic.packages import Box

# Texts are drawn in one size and then scaled.
FONT_PX = 64
SMALL_PRINT = (
    "with", "real", "extract", "keep", "cool", "dry", "best", "before", "see", "side", "net",
    "made", "from", "finest", "no", "added", "sugar", "serve", "warm", "shake", "well",
)  # fmt: skip
# The cells of a front, row by row from the top. Barcode and small print are below the last row.
ROWS = (
    (("brand",), ("logo",), ("flavour",), ("picture",)),
    (("logo",), ("brand",), ("picture",), ("flavour",)),
    (("brand",), ("picture",), ("flavour",)),
    (("brand",), ("logo", "picture"), ("flavour",)),
    (("picture",), ("brand",), ("flavour", "logo")),
    (("logo", "brand"), ("flavour",), ("picture",)),
)
ROW_HEIGHT = {"brand": 0.2, "logo": 0.26, "flavour": 0.2, "picture": 0.34}


def print_front(
    face: Image.Image,
    panel: Box,
    words: Sequence[str],
    palette: Palette,
    shared: np.random.Generator,
    own: np.random.Generator,
) -> None:
    """Print brand, logo, flavour and picture, and barcode and small print below them.

    Args:
        face: the front, which is changed.
        panel: the area to print on, in pixels.
        words: the brand, then the lines of the flavour.
        palette: the colours of the product.
        shared: the source of randomness of the family.
        own: the source of randomness of the product.
    """
    body, accent, ink, _ = palette
    left, top, right, bottom = panel
    rows = ROWS[shared.integers(len(ROWS))]
    heights = np.array([max(ROW_HEIGHT[cell] for cell in row) for row in rows])
    foot = bottom - 0.15 * (bottom - top)
    shares = np.concatenate([[0.0], np.cumsum(heights) / heights.sum()])
    edges = (top + (foot - top) * shares).tolist()
    has_plate = {"brand": shared.random() < 0.6, "flavour": shared.random() < 0.8}
    logo_rng = np.random.default_rng(shared.integers(2**32))
    contrast = (250, 248, 240) if luminance(accent) < 130 else (25, 22, 30)
    for row, (upper, lower) in zip(rows, itertools.pairwise(edges), strict=True):
        lefts = np.linspace(left, right, len(row) + 1).tolist()
        for cell, (x0, x1) in zip(row, itertools.pairwise(lefts), strict=True):
            box = (x0, upper, x1, lower)
            if cell == "brand":
                _print_lines(face, words[:1], box, ink, body if has_plate[cell] else None, bold=2)
            elif cell == "flavour":
                colour, plate = (contrast, accent) if has_plate[cell] else (ink, None)
                _print_lines(face, words[1:], box, colour, plate, bold=1)
            elif cell == "logo":
                _draw_emblem(ImageDraw.Draw(face), logo_rng, box, (ink, body))
            else:
                _draw_emblem(ImageDraw.Draw(face), own, box, (accent, contrast))
    _print_foot(face, (left, foot, right, bottom), own)


def _print_lines(
    face: Image.Image,
    lines: Sequence[str],
    box: Box,
    colour: Colour,
    plate: Colour | None,
    bold: int,
) -> None:
    left, top, right, bottom = box
    if plate is not None:
        ImageDraw.Draw(face).rounded_rectangle(box, radius=(bottom - top) / 6, fill=plate)
    edges = np.linspace(top, bottom, len(lines) + 1).tolist()
    for line, (upper, lower) in zip(lines, itertools.pairwise(edges), strict=True):
        _fit_text(face, line, (left, upper, right, lower), colour, bold)


@functools.lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_PX)


def _fit_text(face: Image.Image, text: str, box: Box, colour: Colour, bold: int) -> None:
    """Scale a line into a box with a margin; long lines get narrower, at most to half."""
    left, top, right, bottom = box
    x0, y0, x1, y1 = (round(edge) for edge in _font().getbbox(text, stroke_width=bold))
    mask = Image.new("L", (x1 - x0, y1 - y0), 0)
    ImageDraw.Draw(mask).text((-x0, -y0), text, fill=255, font=_font(), stroke_width=bold)
    max_width = 0.92 * (right - left)
    height = min(0.72 * (bottom - top), 2.0 * max_width * mask.height / mask.width)
    width = min(max_width, height * mask.width / mask.height * 1.15)
    size = (max(1, round(width)), max(1, round(height)))
    corner = (round((left + right - size[0]) / 2), round((top + bottom - size[1]) / 2))
    face.paste(colour, corner, mask.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def _draw_emblem(
    canvas: ImageDraw.ImageDraw, rng: np.random.Generator, box: Box, colours: Sequence[Colour]
) -> None:
    """Draw a logo or a picture: a few concentric figures."""
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    radius = 0.47 * min(box[2] - box[0], box[3] - box[1])
    for layer in range(rng.integers(2, 5)):
        colour = colours[layer] if layer < 2 else hsv(rng.random(), 0.8, 0.85)
        _draw_figure(canvas, rng, centre, radius, colour)
        radius *= rng.uniform(0.5, 0.75)


def _draw_figure(
    canvas: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    centre: tuple[float, float],
    radius: float,
    colour: Colour,
) -> None:
    x, y = centre
    count = rng.integers(3, 9)
    turn_rad = rng.uniform(0, 2 * math.pi)
    kind = rng.choice(["disc", "polygon", "star", "petals", "crescent"])
    if kind == "disc":
        squashed = rng.uniform(0.55, 1.0) * radius
        canvas.ellipse((x - radius, y - squashed, x + radius, y + squashed), fill=colour)
    elif kind == "petals":
        petal = 0.4 * radius
        for angle_rad in turn_rad + 2 * math.pi * np.arange(count) / count:
            px = x + 0.6 * radius * math.cos(angle_rad)
            py = y + 0.6 * radius * math.sin(angle_rad)
            canvas.ellipse((px - petal, py - petal, px + petal, py + petal), fill=colour)
    elif kind == "crescent":
        circle = (x - radius, y - radius, x + radius, y + radius)
        start_deg = math.degrees(turn_rad)
        canvas.pieslice(circle, start_deg, start_deg + 230, fill=colour)
    else:
        inner = rng.uniform(0.35, 0.6) if kind == "star" else 1.0
        radii = np.where(np.arange(2 * count) % 2 == 0, radius, radius * inner)
        angles_rad = turn_rad + math.pi * np.arange(2 * count) / count
        corners = [
            (x + r * math.cos(a), y + r * math.sin(a))
            for r, a in zip(radii, angles_rad, strict=True)
        ]
        canvas.polygon(corners, fill=colour)


def _print_foot(face: Image.Image, box: Box, own: np.random.Generator) -> None:
    """Print barcode, net weight and small print on a white strip."""
    canvas = ImageDraw.Draw(face)
    left, top, right, bottom = box
    top += 0.1 * (bottom - top)
    canvas.rectangle((left, top, right, bottom), fill=(245, 245, 240))
    margin = 0.1 * (bottom - top)
    bars = own.integers(1, 4, 40)
    edges = left + 0.03 * (right - left) + 0.34 * (right - left) * np.cumsum(bars) / bars.sum()
    for start, end in zip(edges[0::2], edges[1::2], strict=True):
        canvas.rectangle((start, top + margin, end, bottom - margin), fill=(15, 15, 15))
    middle = (top + bottom) / 2
    column = left + 0.4 * (right - left)
    weight = f"{own.integers(1, 40) * 25} g"
    _fit_text(face, weight, (column, top, right, middle), (20, 20, 20), 1)
    small_print = " ".join(own.choice(SMALL_PRINT, 4))
    _fit_text(face, small_print, (column, middle, right, bottom), (60, 60, 60), 0)
