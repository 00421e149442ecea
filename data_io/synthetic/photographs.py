"""Photographs of a flat product whose geometry is known: view, clutter, light, lens and sensor.

`image_from_product` maps product-plane pixels to image pixels, both with (0, 0) at the *centre* of the top left pixel. A drawn
data set's product plane is a square of the image's own side.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data_io.synthetic.products import draw_product


@dataclass(frozen=True)
class _Look:
    """How a photograph is taken; ranges are (low, high)."""

    turn_rad: float
    tilt_rad: float
    fill: tuple[float, float]
    fragments: tuple[int, int]
    occluded: float
    cast: float
    blur_px: float
    noise: float


REFERENCE_LOOK = _Look(0.2, 0.35, (0.72, 0.97), (0, 4), 0.08, 0.08, 0.7, 4.0)
QUERY_LOOK = _Look(0.6, 0.75, (0.58, 0.9), (2, 7), 0.4, 0.15, 1.2, 9.0)


def render_photograph(
    product: np.ndarray, rng: np.random.Generator, image_size_px: int, hard: bool
) -> tuple[np.ndarray, np.ndarray]:
    """One photograph of a flat product: view, clutter, light, blur, noise; `hard` as a customer's snapshot is.

    product: [H, W, 4] uint8 RGBA.
    Returns: uint8 [image_size_px, image_size_px, 3]; image_from_product, float64 [3, 3] with last element 1, which maps (x, y, 1)
    in product pixels to image pixels, pixel centres at whole numbers.
    Raises: ValueError when product is not [H, W, 4] uint8 or is transparent everywhere.
    """
    package = (
        Image.fromarray(product)
        if product.dtype == np.uint8 and product.shape[2:] == (4,)
        else None
    )
    bounds = package.getchannel("A").getbbox() if package else None
    if package is None or bounds is None:
        raise ValueError(
            f"product must be [H, W, 4] uint8, not all transparent. Received {product.shape} {product.dtype}."
        )
    look = QUERY_LOOK if hard else REFERENCE_LOOK
    image_from_product = _view(bounds, rng, image_size_px, look)
    scene = _background(rng, image_size_px)
    for _ in range(int(rng.integers(*look.fragments))):
        _drop_fragment(scene, rng, rng.uniform(0, 1, 2) * image_size_px)
    warped = warp(package, image_from_product, image_size_px)
    _cast_shadow(scene, warped.getchannel("A"), rng)
    scene.paste(warped, (0, 0), warped)
    if rng.random() < look.occluded:
        angle = rng.uniform(0, 2 * np.pi)  # near the rim: most of the product stays in sight
        _drop_fragment(
            scene, rng, image_size_px * (0.5 + 0.42 * np.array([np.cos(angle), np.sin(angle)]))
        )
    return _expose(scene, rng, look), image_from_product


def warp(package: Image.Image, image_from_product: np.ndarray, size_px: int) -> Image.Image:
    """The package seen through a homography between pixel centres; Pillow's own coordinates are half a pixel off."""
    to_corner = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    inverse = to_corner @ np.linalg.inv(image_from_product) @ np.linalg.inv(to_corner)
    coefficients = (inverse / inverse[2, 2]).ravel()[:8].tolist()
    return package.transform(
        (size_px, size_px), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )


def _view(
    bounds: tuple[int, int, int, int], rng: np.random.Generator, size_px: int, look: _Look
) -> np.ndarray:
    """A pinhole camera three package sizes away looks at the tilted package; then zoom and shift into the picture."""
    left, top, right, bottom = (edge - 0.5 for edge in bounds)  # between pixel centres
    turn, (yaw, pitch) = (
        rng.uniform(-look.turn_rad, look.turn_rad),
        rng.uniform(-look.tilt_rad, look.tilt_rad, 2),
    )
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    )
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_z = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    plane = about_z @ about_y @ about_x
    plane[:, 2] = (
        0,
        0,
        3,
    )  # a point of the plane z = 0 needs the first two axes and the centre's place, in package sizes
    unit = 1.0 / max(right - left, bottom - top)
    centred = np.array(
        [[unit, 0, -unit * (left + right) / 2], [0, unit, -unit * (top + bottom) / 2], [0, 0, 1]]
    )
    camera = plane @ centred
    corners = (
        camera
        @ np.array([[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]]).T
    )
    corners = corners[:2] / corners[2]
    low, high = corners.min(axis=1), corners.max(axis=1)
    zoom = rng.uniform(*look.fill) * size_px / (high - low).max()
    room = (size_px - zoom * (high - low)) * rng.uniform(0.0, 1.0, 2)
    shift = room - zoom * low - 0.5
    seen = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]], [0, 0, 1]]) @ camera
    return seen / seen[2, 2]


@functools.cache
def _fragments() -> tuple[Image.Image, ...]:
    """Packages to lie about, of a population that no DrawConfig can reach (its seeds end below 2**32)."""
    return tuple(Image.fromarray(draw_product(2**32, 9 * index, 96)) for index in range(24))


def _background(rng: np.random.Generator, size_px: int) -> Image.Image:
    """A table or shelf: soft blotches, and now and then boards or tiles."""
    cells = int(rng.integers(2, 7))
    base = rng.integers(50, 210) + rng.integers(-40, 41, 3)  # furniture is seldom brightly coloured
    spread = int(rng.integers(5, 60))
    levels = rng.integers(-spread, spread + 1, (cells, cells, 1)) + rng.integers(
        -12, 13, (cells, cells, 3)
    )
    blotches = np.clip(base + levels, 0, 255).astype(np.uint8)
    scene = Image.fromarray(blotches).resize((size_px, size_px), Image.Resampling.BICUBIC)
    canvas, step = ImageDraw.Draw(scene), size_px / float(rng.uniform(3, 9))
    colour = tuple(int(channel) for channel in np.clip(base + rng.integers(-50, 51, 3), 0, 255))
    boards, tiles, width = rng.random() < 0.45, rng.random() < 0.4, int(rng.integers(1, 4))
    for place in np.arange(rng.uniform(0, step), size_px, step):
        if boards:
            canvas.line((0, place, size_px, place), fill=colour, width=width)
        if boards and tiles:
            canvas.line((place, 0, place, size_px), fill=colour, width=width)
    return scene


def _drop_fragment(scene: Image.Image, rng: np.random.Generator, centre: np.ndarray) -> None:
    """Lays another package, a card or a ball on the scene, around `centre` (x, y) in pixels."""
    side = int(scene.width * rng.uniform(0.2, 0.4))
    kind, turn = rng.random(), float(rng.uniform(0, 360))
    if kind < 0.6:
        packages = _fragments()
        piece = packages[int(rng.integers(len(packages)))].resize(
            (side, side), Image.Resampling.BILINEAR
        )
        piece = piece.rotate(turn, Image.Resampling.BILINEAR, expand=True)
    else:
        piece = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        colour = tuple(int(channel) for channel in rng.integers(20, 236, 3))
        canvas, height = ImageDraw.Draw(piece), side * float(rng.uniform(0.25, 0.9))
        draw_figure = canvas.ellipse if kind < 0.8 else canvas.rectangle
        draw_figure((0, 0, side - 1, height), fill=(*colour, 255))
        piece = piece.rotate(turn, expand=True)
    scene.paste(
        piece, (round(centre[0] - piece.width / 2), round(centre[1] - piece.height / 2)), piece
    )


def _cast_shadow(scene: Image.Image, outline: Image.Image, rng: np.random.Generator) -> None:
    coarse = outline.reduce(4).filter(ImageFilter.BoxBlur(scene.width / 100))
    soft = coarse.resize(scene.size, Image.Resampling.BILINEAR).point(
        [round(0.5 * level) for level in range(256)]
    )
    dx, dy = (int(step) for step in rng.integers(-scene.width // 20, scene.width // 20 + 1, 2))
    scene.paste((0, 0, 0), (dx, dy), soft)


def _expose(scene: Image.Image, rng: np.random.Generator, look: _Look) -> np.ndarray:
    """Light that falls off over the picture, colour cast, contrast, sometimes glare; then blur and sensor noise."""
    x = np.linspace(-0.5, 0.5, scene.width, dtype=np.float32)
    y = x[:, None]
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 3 * look.cast)
    light = 1.0 + np.float32(slope * np.cos(angle)) * x + np.float32(slope * np.sin(angle)) * y
    gain = rng.uniform(1 - 2 * look.cast, 1 + look.cast) * rng.uniform(
        1 - look.cast, 1 + look.cast, 3
    )
    contrast = rng.uniform(1 - 2 * look.cast, 1.1)
    blurred = scene.filter(ImageFilter.BoxBlur(rng.uniform(0.0, look.blur_px)))
    pixels: np.ndarray = np.asarray(blurred) * (
        light[..., None] * (gain * contrast).astype(np.float32)
    )
    pixels += 118 * (1 - contrast) + 0.5
    if rng.random() < 2 * look.cast:
        spot_x, spot_y, radius = (
            rng.uniform(-0.4, 0.4),
            rng.uniform(-0.4, 0.4),
            rng.uniform(0.05, 0.15),
        )
        glare_x, glare_y = (
            np.exp(-(((x - spot_x) / radius) ** 2)),
            np.exp(-(((y - spot_y) / radius) ** 2)),
        )
        pixels += (170 * glare_x * glare_y)[..., None]
    noise = rng.integers(
        -128, 128, (2, *pixels.shape), dtype=np.int8
    )  # the sum of two is near enough to normal, and fast
    pixels += np.add(noise[0], noise[1], dtype=np.int16) * np.float32(
        rng.uniform(1.0, look.noise) / 104.5
    )
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)
