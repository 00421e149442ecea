"""What an invented product looks like: a flat front view with a transparent surround.

Classes come in families of four or five neighbours. A family shares package, brand, logo and layout; its members differ
in flavour text, accent colour, texture and picture. Everything follows from (seed, class), so any process draws the same product.
"""

from __future__ import annotations

import colorsys
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Points = list[tuple[float, float]]

SUPERSAMPLE = 2
FONT_PX = 64  # one size is rasterised, then scaled into its box
SYLLABLES = (
    "ba", "ko", "mi", "ra", "tu", "lo", "ne", "vi", "sa", "do", "pe", "ha", "zu", "li", "mo", "ka", "ri", "fe", "no", "ta", "gu",
    "shi", "ya", "be", "lu", "so", "che", "na", "wo", "ju",
)  # fmt: skip
PACKAGE_OF = {
    "NOODLES": "pouch", "CRISPS": "pouch", "COFFEE": "pouch", "RICE": "pouch", "DUMPLINGS": "pouch", "TEA": "box", "SOAP": "box",
    "BISCUITS": "box", "CEREAL": "box", "CANDY": "box", "JUICE": "bottle", "SHAMPOO": "bottle", "SAUCE": "bottle",
    "OIL": "bottle", "SODA": "can", "SOUP": "can", "TUNA": "can", "BEANS": "can", "JAM": "jar", "HONEY": "jar", "CREAM": "jar",
    "PICKLES": "jar",
}  # fmt: skip
FLAVOURS = (
    "LEMON", "MINT", "PLUM", "GINGER", "CHILI", "SESAME", "PEACH", "COCOA", "VANILLA", "GARLIC", "APPLE", "ONION", "PEPPER",
    "CHERRY", "MANGO", "ROSE", "CURRY", "MELON", "LIME", "BASIL", "PECAN", "BERRY", "SMOKED", "CLASSIC", "SPICY", "SWEET",
    "LIGHT", "DOUBLE", "OCEAN", "FOREST",
)  # fmt: skip
SMALL_PRINT = (
    "with", "real", "extract", "keep", "cool", "dry", "best", "before", "see", "side", "net", "made", "from", "finest", "no",
    "added", "sugar", "serve", "warm", "shake", "well",
)  # fmt: skip
ROWS = (  # the front of a package from top to bottom; the foot (barcode and small print) comes below
    (("brand",), ("logo",), ("flavour",), ("picture",)),
    (("logo",), ("brand",), ("picture",), ("flavour",)),
    (("brand",), ("picture",), ("flavour",)),
    (("brand",), ("logo", "picture"), ("flavour",)),
    (("picture",), ("brand",), ("flavour", "logo")),
    (("logo", "brand"), ("flavour",), ("picture",)),
)
ROW_HEIGHT = {"brand": 0.2, "logo": 0.26, "flavour": 0.2, "picture": 0.34}


def family_of(class_index: int) -> tuple[int, int]:
    """(family, member): neighbouring classes in runs of four and five, by turns."""
    pair, place = divmod(class_index, 9)
    return (2 * pair, place) if place < 4 else (2 * pair + 1, place - 4)


def draw_product(seed: int, class_index: int, size_px: int) -> np.ndarray:
    """The product of one class, front view.

    Returns: [size_px, size_px, 4] uint8 RGBA; alpha is the package's outline.
    Raises: ValueError when size_px is below 16 or seed or class_index is negative.
    """
    if size_px < 16 or seed < 0 or class_index < 0:
        raise ValueError(
            f"size_px must be >= 16, seed and class_index >= 0. Received {size_px}, {seed}, {class_index}."
        )
    family, member = family_of(class_index)
    shared = np.random.default_rng(
        [seed, family, 0, 1]
    )  # views use [seed, class, view], which NumPy pads with zeros
    own = np.random.default_rng([seed, class_index, 0, 2])
    side = SUPERSAMPLE * size_px
    category = str(shared.choice(list(PACKAGE_OF)))
    package = PACKAGE_OF[category]
    outline, lid, panel = _package(package, shared)
    body, accent, ink, cap = _palette(shared, own, member)

    face = Image.new("RGB", (side, side), body)
    _lay_texture(face, shared, own, body, accent)
    words = [_brand(shared), category, _flavour(family, member, seed)]
    _lay_front(face, _scaled(panel, side), words, (body, accent, ink), shared, own)
    silhouette = Image.new("L", face.size, 0)
    for part, target, fill in (
        (lid, face, cap),
        (outline, silhouette, 255),
        (lid, silhouette, 255),
    ):
        if part:
            ImageDraw.Draw(target).polygon([(x * side, y * side) for x, y in part], fill=fill)
    face = _shade(face, package, outline, shared)
    face.putalpha(silhouette)
    return np.array(face.reduce(SUPERSAMPLE))


def _brand(rng: np.random.Generator) -> str:
    return "".join(rng.choice(SYLLABLES, size=int(rng.integers(2, 4)))).upper()


def _flavour(family: int, member: int, seed: int) -> str:
    """Members of a family never share a flavour, so the text alone tells them apart."""
    return str(np.random.default_rng([seed, family, 0, 3]).permutation(FLAVOURS)[member])


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _palette(
    shared: np.random.Generator, own: np.random.Generator, member: int
) -> tuple[Colour, Colour, Colour, Colour]:
    """body, accent, ink, cap. In half of the families only the accent tells the flavour, in the other half the body does."""
    hue, value = shared.random(), shared.uniform(0.35, 1.0)
    body_saturation = shared.choice([0.08, 0.45, 0.8])
    accent_hue = hue + 0.35 + 0.17 * member + own.uniform(-0.04, 0.04)
    brand_body = shared.random() < 0.5
    body = _hsv(hue if brand_body else accent_hue, float(body_saturation), value)
    accent = _hsv(accent_hue, own.uniform(0.6, 0.95), 0.9 if value < 0.65 else 0.5)
    ink = (250, 248, 240) if _luminance(body) < 120 else _hsv(hue + 0.5, 0.9, 0.25)
    return body, accent, ink, _hsv(shared.random(), 0.7, 0.6)


def _luminance(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _package(package: str, rng: np.random.Generator) -> tuple[Points, Points, Box]:
    """Outline, lid (may be empty) and the panel that carries the print, as shares of the side."""
    half, tall = rng.uniform(0.26, 0.4), rng.uniform(0.72, 0.94)
    if package == "bottle":
        half *= 0.72
    if package == "box":
        half, tall = (
            (half, tall)
            if rng.random() < 0.6
            else (rng.uniform(0.42, 0.47), rng.uniform(0.55, 0.7))
        )
    left, right, top, bottom = 0.5 - half, 0.5 + half, 0.5 - tall / 2, 0.5 + tall / 2
    if package == "pouch":
        return (
            _pouch(left, top, right, bottom),
            [],
            (left + 0.03, top + 0.07, right - 0.03, bottom - 0.06),
        )
    if package == "can":
        curve = [(math.cos(t), math.sin(t)) for t in np.linspace(0, math.pi, 12)]
        outline = [(0.5 + half * c, bottom - 0.05 + 0.05 * s) for c, s in curve]
        outline += [(0.5 - half * c, top + 0.05 - 0.05 * s) for c, s in curve]
        lid = [
            (0.5 + half * math.cos(t), top + 0.05 + 0.04 * math.sin(t))
            for t in np.linspace(0, 2 * math.pi, 24)
        ]
        return outline, lid, (left + 0.03, top + 0.11, right - 0.03, bottom - 0.05)
    if package in ("bottle", "jar"):
        neck, shoulder = (0.35, 0.24) if package == "bottle" else (0.8, 0.12)
        neck_half, cap = neck * half, top + 0.35 * shoulder
        outline = [
            (0.5 - neck_half, cap),
            (0.5 + neck_half, cap),
            (0.5 + neck_half, top + 0.6 * shoulder),
            (right, top + shoulder),
        ]
        outline += [
            (right, bottom - 0.03),
            (right - 0.03, bottom),
            (left + 0.03, bottom),
            (left, bottom - 0.03),
        ]
        outline += [(left, top + shoulder), (0.5 - neck_half, top + 0.6 * shoulder)]
        lid = [
            (0.5 + x * neck_half * 1.08, y) for x, y in ((-1, top), (1, top), (1, cap), (-1, cap))
        ]
        return outline, lid, (left + 0.02, top + shoulder + 0.03, right - 0.02, bottom - 0.04)
    return (
        [(left, top), (right, top), (right, bottom), (left, bottom)],
        [],
        (left + 0.03, top + 0.03, right - 0.05, bottom - 0.03),
    )


def _pouch(left: float, top: float, right: float, bottom: float) -> Points:
    teeth = np.linspace(left, right, 25)
    ridge = [(float(x), top + 0.015 * (i % 2)) for i, x in enumerate(teeth)]
    floor = [(float(x), bottom - 0.015 * (i % 2)) for i, x in enumerate(teeth)][::-1]
    bulge = [
        (0.03 * math.sin(math.pi * t) ** 0.5, top + t * (bottom - top))
        for t in np.linspace(0.06, 0.94, 12)
    ]
    return (
        ridge
        + [(right + dx, y) for dx, y in bulge]
        + floor
        + [(left - dx, y) for dx, y in bulge[::-1]]
    )


def _pattern(kind: str, rng: np.random.Generator, side: int) -> np.ndarray:
    """[side, side] float32 in 0..1, the share of the second colour."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle, count = (
        rng.choice([0.0, math.pi / 4, math.pi / 2, 2.2, rng.uniform(0, math.pi)]),
        rng.uniform(5, 16),
    )
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    wave_u, wave_v = (np.sin(2 * math.pi * count * axis) for axis in (u, v))
    if kind == "stripes":
        return (wave_u > rng.uniform(-0.5, 0.7)).astype(np.float32)
    if kind == "dots":
        return (wave_u * wave_v > rng.uniform(0.2, 0.6)).astype(np.float32)
    if kind == "checks":
        return ((wave_u > 0) * 0.5 + (wave_v > 0) * 0.5).astype(np.float32)
    if kind == "rings":
        return (
            np.sin(2 * math.pi * count * np.hypot(x - rng.random(), y - rng.random())) > 0.2
        ).astype(np.float32)
    if kind == "zigzag":
        return (np.sin(2 * math.pi * count * (u + 0.06 * np.abs((6 * v) % 2 - 1))) > 0.1).astype(
            np.float32
        )
    if kind == "clouds":
        cells = Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        return (np.asarray(cells) > 128).astype(np.float32)
    return np.clip(u, 0.0, 1.0)


KINDS = ("stripes", "dots", "checks", "rings", "zigzag", "clouds", "gradient")


def _lay_texture(
    face: Image.Image,
    shared: np.random.Generator,
    own: np.random.Generator,
    body: Colour,
    accent: Colour,
) -> None:
    family_kind, free, strength = (
        str(shared.choice(KINDS)),
        shared.random() < 0.5,
        shared.uniform(0.35, 0.9),
    )
    pattern = _pattern(
        str(own.choice(KINDS)) if free else family_kind, own, face.width // SUPERSAMPLE
    )
    if shared.random() < 0.4:  # only the upper or the lower part is printed
        edge = int(len(pattern) * shared.uniform(0.35, 0.65))
        pattern[:edge] *= 0.0
    mask = Image.fromarray((255 * strength * pattern).astype(np.uint8)).resize(face.size)
    face.paste(accent, (0, 0), mask)


def _scaled(box: Box, side: float) -> Box:
    return box[0] * side, box[1] * side, box[2] * side, box[3] * side


def _lay_front(
    face: Image.Image,
    panel: Box,
    words: Sequence[str],
    colours: Sequence[Colour],
    shared: np.random.Generator,
    own: np.random.Generator,
) -> None:
    """Rows of brand, logo, flavour and picture inside `panel` (pixels), and the foot below them."""
    body, accent, ink = colours
    left, top, right, bottom = panel
    rows = ROWS[int(shared.integers(len(ROWS)))]
    heights = np.array([max(ROW_HEIGHT[cell] for cell in row) for row in rows])
    foot = bottom - 0.15 * (bottom - top)
    edges = top + (foot - top) * np.concatenate([[0.0], np.cumsum(heights) / heights.sum()])
    plate_of = {"brand": shared.random() < 0.6, "flavour": shared.random() < 0.8}
    logo_rng = np.random.default_rng(shared.integers(2**32))
    contrast = (250, 248, 240) if _luminance(accent) < 130 else (25, 22, 30)
    for row, (upper, lower) in zip(rows, itertools.pairwise(edges), strict=True):
        lefts = np.linspace(left, right, len(row) + 1)
        for cell, (x0, x1) in zip(row, itertools.pairwise(lefts), strict=True):
            box = (float(x0), float(upper), float(x1), float(lower))
            if cell == "brand":
                _print(face, words[:1], box, ink, body if plate_of[cell] else None, bold=2)
            elif cell == "flavour":
                colour, plate = (contrast, accent) if plate_of[cell] else (ink, None)
                _print(face, words[1:], box, colour, plate, bold=1)
            else:
                rng, hues = (logo_rng, (ink, body)) if cell == "logo" else (own, (accent, contrast))
                _emblem(ImageDraw.Draw(face), rng, box, hues)
    _lay_foot(face, (left, foot, right, bottom), own)


def _print(
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
    edges = np.linspace(top, bottom, len(lines) + 1)
    for line, (upper, lower) in zip(lines, itertools.pairwise(edges), strict=True):
        _fit_text(face, line, (left, float(upper), right, float(lower)), colour, bold)


@functools.lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_PX)


def _fit_text(face: Image.Image, text: str, box: Box, colour: Colour, bold: int) -> None:
    """Scales the line into the box with a margin; wide lines are condensed down to half of their natural width."""
    left, top, right, bottom = box
    x0, y0, x1, y1 = (round(edge) for edge in _font().getbbox(text, stroke_width=bold))
    mask = Image.new("L", (x1 - x0, y1 - y0), 0)
    ImageDraw.Draw(mask).text((-x0, -y0), text, fill=255, font=_font(), stroke_width=bold)
    width = 0.92 * (right - left)
    height = min(0.72 * (bottom - top), 2.0 * width * mask.height / mask.width)
    size = (
        max(1, round(min(width, height * mask.width / mask.height * 1.15))),
        max(1, round(height)),
    )
    corner = round((left + right - size[0]) / 2), round((top + bottom - size[1]) / 2)
    face.paste(colour, corner, mask.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def _emblem(
    canvas: ImageDraw.ImageDraw, rng: np.random.Generator, box: Box, colours: Sequence[Colour]
) -> None:
    """A few concentric figures, alternately coloured: logo and picture alike."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    radius = 0.47 * min(box[2] - box[0], box[3] - box[1])
    for layer in range(int(rng.integers(2, 5))):
        colour = colours[layer % 2] if layer < 2 else _hsv(rng.random(), 0.8, 0.85)
        count, turn = int(rng.integers(3, 9)), rng.uniform(0, 2 * math.pi)
        kind = str(rng.choice(["disc", "polygon", "star", "petals", "crescent"]))
        if kind == "disc":
            squash = rng.uniform(0.55, 1.0)
            canvas.ellipse(
                (x - radius, y - squash * radius, x + radius, y + squash * radius), fill=colour
            )
        elif kind == "petals":
            for angle in turn + 2 * math.pi * np.arange(count) / count:
                px, py, pr = (
                    x + 0.6 * radius * math.cos(angle),
                    y + 0.6 * radius * math.sin(angle),
                    0.4 * radius,
                )
                canvas.ellipse((px - pr, py - pr, px + pr, py + pr), fill=colour)
        elif kind == "crescent":
            canvas.pieslice(
                (x - radius, y - radius, x + radius, y + radius),
                math.degrees(turn),
                math.degrees(turn) + 230,
                fill=colour,
            )
        else:
            inner = rng.uniform(0.35, 0.6) if kind == "star" else 1.0
            reach = np.where(np.arange(2 * count) % 2 == 0, radius, radius * inner)
            angles = turn + math.pi * np.arange(2 * count) / count
            canvas.polygon(
                [
                    (x + r * math.cos(a), y + r * math.sin(a))
                    for r, a in zip(reach, angles, strict=True)
                ],
                fill=colour,
            )
        radius *= rng.uniform(0.5, 0.75)


def _lay_foot(face: Image.Image, box: Box, own: np.random.Generator) -> None:
    """Barcode, net weight and two lines of small print on a white strip."""
    canvas = ImageDraw.Draw(face)
    left, top, right, bottom = box
    top += 0.1 * (bottom - top)
    canvas.rectangle((left, top, right, bottom), fill=(245, 245, 240))
    bars = own.integers(1, 4, 40)
    edges = left + 0.03 * (right - left) + 0.34 * (right - left) * np.cumsum(bars) / bars.sum()
    for start, end in zip(edges[0::2], edges[1::2], strict=True):
        canvas.rectangle(
            (start, top + 0.1 * (bottom - top), end, bottom - 0.1 * (bottom - top)),
            fill=(15, 15, 15),
        )
    middle, column = (top + bottom) / 2, left + 0.4 * (right - left)
    weight = f"{int(own.integers(1, 40)) * 25} g"
    _fit_text(face, weight, (column, top, right, middle), (20, 20, 20), 1)
    _fit_text(
        face, " ".join(own.choice(SMALL_PRINT, 4)), (column, middle, right, bottom), (60, 60, 60), 0
    )


def _shade(
    face: Image.Image, package: str, outline: Points, rng: np.random.Generator
) -> Image.Image:
    """Darkens round packages towards their sides, gives pouches creases and boxes an edge."""
    left, right = min(x for x, _ in outline), max(x for x, _ in outline)
    u = np.clip((np.arange(64) / 63 - left) / (right - left), 0.0, 1.0)
    if package in ("can", "bottle", "jar"):
        profile = 0.55 + 0.45 * np.sin(math.pi * np.clip(u * 0.9 + 0.08, 0, 1)) ** 0.6
    elif package == "pouch":
        profile = 0.9 + 0.1 * np.sin(2 * math.pi * (u * rng.uniform(1.5, 4) + rng.random()))
    else:
        profile = np.where(u > 0.95, 0.7, 1.0)
    light = Image.fromarray((255 * profile[None]).astype(np.uint8)).resize(
        face.size, Image.Resampling.BILINEAR
    )
    return ImageChops.multiply(face, Image.merge("RGB", (light,) * 3))
