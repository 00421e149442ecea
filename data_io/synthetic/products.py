"""Draw invented products: a front view with a transparent background.

Classes are grouped in families of four or five neighbours. A family shares package, brand, logo and
layout. Its members differ in flavour text, accent colour, texture and picture. Everything depends
only on seed and class, so each process draws the same product.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from data_io.synthetic.colours import Colour, draw_palette
from data_io.synthetic.packages import PACKAGE_OF, Points, package_shape
from data_io.synthetic.prints import print_front

SUPERSAMPLE = 2
SYLLABLES = (
    "ba", "ko", "mi", "ra", "tu", "lo", "ne", "vi", "sa", "do", "pe", "ha", "zu", "li", "mo", "ka",
    "ri", "fe", "no", "ta", "gu", "shi", "ya", "be", "lu", "so", "che", "na", "wo", "ju",
)  # fmt: skip
FLAVOURS = (
    "LEMON", "MINT", "PLUM", "GINGER", "CHILI", "SESAME", "PEACH", "COCOA", "VANILLA", "GARLIC",
    "APPLE", "ONION", "PEPPER", "CHERRY", "MANGO", "ROSE", "CURRY", "MELON", "LIME", "BASIL",
    "PECAN", "BERRY", "SMOKED", "CLASSIC", "SPICY", "SWEET", "LIGHT", "DOUBLE", "OCEAN", "FOREST",
)  # fmt: skip
TEXTURES = ("stripes", "dots", "checks", "rings", "zigzag", "clouds", "gradient")


def family_of(class_index: int) -> tuple[int, int]:
    """Return (family, member) of a class; families have four and five members in turns."""
    pair, place = divmod(class_index, 9)
    return (2 * pair, place) if place < 4 else (2 * pair + 1, place - 4)


def draw_product(seed: int, class_index: int, size_px: int) -> np.ndarray:
    """Draw the product of one class, front view.

    Args:
        seed: of the data set.
        class_index: number of the class.
        size_px: side of the picture, at least 16.

    Returns:
        uint8 [size_px, size_px, 4], RGBA; alpha is the outline of the package.
    """
    family, member = family_of(class_index)
    # Views use the seeds [seed, class, view], which NumPy pads with zeros.
    shared = np.random.default_rng([seed, family, 0, 1])
    own = np.random.default_rng([seed, class_index, 0, 2])
    side = SUPERSAMPLE * size_px
    category = str(shared.choice(list(PACKAGE_OF)))
    package = PACKAGE_OF[category]
    outline, lid, panel = package_shape(package, shared)
    palette = draw_palette(shared, own, member)

    face = Image.new("RGB", (side, side), palette.body)
    _paint_texture(face, shared, own, palette.accent)
    words = [_brand(shared), category, _flavour(family, member, seed)]
    left, top, right, bottom = (edge * side for edge in panel)
    print_front(face, (left, top, right, bottom), words, palette, shared, own)
    silhouette = Image.new("L", face.size, 0)
    _fill(face, lid, palette.cap)
    _fill(silhouette, outline, 255)
    _fill(silhouette, lid, 255)
    face = _shade(face, package, outline, shared)
    face.putalpha(silhouette)
    return np.array(face.reduce(SUPERSAMPLE))


def _brand(rng: np.random.Generator) -> str:
    return "".join(rng.choice(SYLLABLES, size=rng.integers(2, 4))).upper()


def _flavour(family: int, member: int, seed: int) -> str:
    """Return a flavour that no other member of the family has, so the text identifies it."""
    return str(np.random.default_rng([seed, family, 0, 3]).permutation(FLAVOURS)[member])


def _fill(image: Image.Image, polygon: Points, colour: Colour | int) -> None:
    if polygon:
        corners = [(x * image.width, y * image.height) for x, y in polygon]
        ImageDraw.Draw(image).polygon(corners, fill=colour)


def _paint_texture(
    face: Image.Image, shared: np.random.Generator, own: np.random.Generator, accent: Colour
) -> None:
    kind = shared.choice(TEXTURES)
    has_own_kind = shared.random() < 0.5
    strength = shared.uniform(0.35, 0.9)
    if has_own_kind:
        kind = own.choice(TEXTURES)
    pattern = _pattern(kind, own, face.width // SUPERSAMPLE)
    # In some families only the lower part has a texture.
    if shared.random() < 0.4:
        edge = int(len(pattern) * shared.uniform(0.35, 0.65))
        pattern[:edge] = 0.0
    mask = Image.fromarray((255 * strength * pattern).astype(np.uint8)).resize(face.size)
    face.paste(accent, (0, 0), mask)


def _pattern(kind: str, rng: np.random.Generator, side: int) -> np.ndarray:
    """Return float32 [side, side], the share of the second colour in each pixel, 0..1."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle_rad = rng.choice([0.0, math.pi / 4, math.pi / 2, 2.2, rng.uniform(0, math.pi)])
    count = rng.uniform(5, 16)
    u = x * math.cos(angle_rad) + y * math.sin(angle_rad)
    v = y * math.cos(angle_rad) - x * math.sin(angle_rad)
    wave_u = np.sin(2 * math.pi * count * u)
    wave_v = np.sin(2 * math.pi * count * v)
    if kind == "stripes":
        pattern = wave_u > rng.uniform(-0.5, 0.7)
    elif kind == "dots":
        pattern = wave_u * wave_v > rng.uniform(0.2, 0.6)
    elif kind == "checks":
        pattern = (wave_u > 0) * 0.5 + (wave_v > 0) * 0.5
    elif kind == "rings":
        distance = np.hypot(x - rng.random(), y - rng.random())
        pattern = np.sin(2 * math.pi * count * distance) > 0.2
    elif kind == "zigzag":
        bent = u + 0.06 * np.abs((6 * v) % 2 - 1)
        pattern = np.sin(2 * math.pi * count * bent) > 0.1
    elif kind == "clouds":
        cells = Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8))
        pattern = np.asarray(cells.resize((side, side), Image.Resampling.BICUBIC)) > 128
    else:
        pattern = np.clip(u, 0.0, 1.0)
    return pattern.astype(np.float32)


def _shade(
    face: Image.Image, package: str, outline: Points, rng: np.random.Generator
) -> Image.Image:
    """Darken the sides of round packages, the creases of pouches and the edge of boxes."""
    left = min(x for x, _ in outline)
    right = max(x for x, _ in outline)
    u = np.clip((np.arange(64) / 63 - left) / (right - left), 0.0, 1.0)
    if package in ("can", "bottle", "jar"):
        profile = 0.55 + 0.45 * np.sin(math.pi * np.clip(u * 0.9 + 0.08, 0, 1)) ** 0.6
    elif package == "pouch":
        profile = 0.9 + 0.1 * np.sin(2 * math.pi * (u * rng.uniform(1.5, 4) + rng.random()))
    else:
        profile = np.where(u > 0.95, 0.7, 1.0)
    column = Image.fromarray((255 * profile[None]).astype(np.uint8))
    light = column.resize(face.size, Image.Resampling.BILINEAR)
    return ImageChops.multiply(face, Image.merge("RGB", (light,) * 3))
