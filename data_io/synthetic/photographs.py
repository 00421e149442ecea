"""Photograph a flat product with known geometry: view, clutter, light, lens and sensor.

`image_from_product` maps product pixels to image pixels; in both, (0, 0) is the centre of the top
left pixel. In a drawn data set the picture of a product has the same side as the images.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data_io.synthetic.looks import Look
from data_io.synthetic.products import draw_product

NUM_FRAGMENTS = 24


def render_photograph(
    product: np.ndarray, rng: np.random.Generator, image_size_px: int, look: Look
) -> tuple[np.ndarray, np.ndarray]:
    """Photograph a flat product.

    Args:
        product: uint8 [H, W, 4], RGBA.
        rng: the source of randomness.
        image_size_px: side of the photograph.
        look: how the photograph is taken.

    Returns:
        The photograph, uint8 [image_size_px, image_size_px, 3], and image_from_product, float64
        [3, 3] with last element 1, which maps (x, y, 1) from product pixels to image pixels; pixel
        centres are whole numbers.
    """
    package = Image.fromarray(product)
    bounds = package.getchannel("A").getbbox()
    assert bounds is not None, "the product is transparent everywhere"
    image_from_product = _view(bounds, rng, image_size_px, look)
    scene = _background(rng, image_size_px, look.plain)
    for _ in range(rng.integers(*look.fragments)):
        _add_fragment(scene, rng, rng.uniform(0, 1, 2) * image_size_px)
    warped = warp(package, image_from_product, image_size_px)
    _cast_shadow(scene, warped.getchannel("A"), rng)
    scene.paste(warped, (0, 0), warped)
    if rng.random() < look.occluded:
        # Near the edge of the picture, so that most of the product stays visible.
        angle_rad = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.cos(angle_rad), np.sin(angle_rad)])
        _add_fragment(scene, rng, image_size_px * (0.5 + 0.42 * direction))
    return _expose(scene, rng, look), image_from_product


def warp(package: Image.Image, image_from_product: np.ndarray, size_px: int) -> Image.Image:
    """Show the package through a homography between pixel centres.

    Args:
        package: the picture of the package.
        image_from_product: float64 [3, 3].
        size_px: side of the result.

    Returns:
        The warped picture, transparent outside the package.
    """
    # Pillow's coordinates start at the corner of the first pixel, not at its centre.
    to_corner = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    inverse = to_corner @ np.linalg.inv(image_from_product) @ np.linalg.inv(to_corner)
    coefficients = (inverse / inverse[2, 2]).ravel()[:8].tolist()
    return package.transform(
        (size_px, size_px), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )


def _view(
    bounds: tuple[int, int, int, int], rng: np.random.Generator, size_px: int, look: Look
) -> np.ndarray:
    """Return image_from_product of a pinhole camera that sees the whole tilted package."""
    # Bounds are between pixel centres.
    left, top, right, bottom = (edge - 0.5 for edge in bounds)
    camera = _camera(rng, look) @ _to_package_sizes(left, top, right, bottom)
    corners = np.array([[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]])
    projected = camera @ corners.T
    projected = projected[:2] / projected[2]
    low = projected.min(axis=1)
    high = projected.max(axis=1)
    zoom = rng.uniform(*look.fill) * size_px / (high - low).max()
    room_px = (size_px - zoom * (high - low)) * rng.uniform(0.0, 1.0, 2)
    shift = room_px - zoom * low - 0.5
    view = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]], [0, 0, 1]]) @ camera
    return view / view[2, 2]


def _to_package_sizes(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return the transform [3, 3] from pixels to package sizes around the package's centre."""
    unit = 1.0 / max(right - left, bottom - top)
    return np.array(
        [[unit, 0, -unit * (left + right) / 2], [0, unit, -unit * (top + bottom) / 2], [0, 0, 1]]
    )


def _camera(rng: np.random.Generator, look: Look) -> np.ndarray:
    """Return the projection [3, 3] of the tilted package's plane, three package sizes away."""
    turn = rng.uniform(-look.turn_rad, look.turn_rad)
    yaw, pitch = rng.uniform(-look.tilt_rad, look.tilt_rad, 2)
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    )
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_z = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    projection = about_z @ about_y @ about_x
    # In the plane z = 0 the third axis is not needed; its column gets the place of the centre.
    projection[:, 2] = (0, 0, 3)
    return projection


@functools.cache
def _fragments() -> tuple[Image.Image, ...]:
    """Return other packages, of a seed that no DrawConfig can have (seeds are below 2**32)."""
    return tuple(
        Image.fromarray(draw_product(2**32, 9 * index, 96)) for index in range(NUM_FRAGMENTS)
    )


def _background(rng: np.random.Generator, size_px: int, plain: float) -> Image.Image:
    """Draw a plain paper, or a table or shelf: soft blotches, sometimes with boards or tiles."""
    # A look without plain backgrounds draws no number here: its pictures stay as they were.
    if plain and rng.random() < plain:
        level = int(rng.integers(215, 246))
        return Image.new("RGB", (size_px, size_px), (level, level, level))
    cells = rng.integers(2, 7)
    # Furniture rarely has bright colours.
    base = rng.integers(50, 210) + rng.integers(-40, 41, 3)
    spread = rng.integers(5, 60)
    brightness = rng.integers(-spread, spread + 1, (cells, cells, 1))
    levels = brightness + rng.integers(-12, 13, (cells, cells, 3))
    blotches = np.clip(base + levels, 0, 255).astype(np.uint8)
    scene = Image.fromarray(blotches).resize((size_px, size_px), Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(scene)
    step = size_px / rng.uniform(3, 9)
    colour = tuple(np.clip(base + rng.integers(-50, 51, 3), 0, 255).tolist())
    has_boards = rng.random() < 0.45
    has_tiles = rng.random() < 0.4
    width = int(rng.integers(1, 4))
    for place in np.arange(rng.uniform(0, step), size_px, step):
        if has_boards:
            canvas.line((0, place, size_px, place), fill=colour, width=width)
        if has_boards and has_tiles:
            canvas.line((place, 0, place, size_px), fill=colour, width=width)
    return scene


def _add_fragment(scene: Image.Image, rng: np.random.Generator, centre_px: np.ndarray) -> None:
    """Put another package, a card or a ball on the scene, around `centre_px` (x, y)."""
    side = int(scene.width * rng.uniform(0.2, 0.4))
    kind = rng.random()
    turn_deg = rng.uniform(0, 360)
    if kind < 0.6:
        package = _fragments()[rng.integers(NUM_FRAGMENTS)]
        piece = package.resize((side, side), Image.Resampling.BILINEAR)
        piece = piece.rotate(turn_deg, Image.Resampling.BILINEAR, expand=True)
    else:
        piece = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        colour = rng.integers(20, 236, 3).tolist()
        canvas = ImageDraw.Draw(piece)
        height = side * rng.uniform(0.25, 0.9)
        draw_figure = canvas.ellipse if kind < 0.8 else canvas.rectangle
        draw_figure((0, 0, side - 1, height), fill=(*colour, 255))
        piece = piece.rotate(turn_deg, expand=True)
    left = round(centre_px[0] - piece.width / 2)
    top = round(centre_px[1] - piece.height / 2)
    scene.paste(piece, (left, top), piece)


def _cast_shadow(scene: Image.Image, outline: Image.Image, rng: np.random.Generator) -> None:
    coarse = outline.reduce(4).filter(ImageFilter.BoxBlur(scene.width / 100))
    soft = coarse.resize(scene.size, Image.Resampling.BILINEAR)
    shadow = soft.point([round(0.5 * level) for level in range(256)])
    dx, dy = rng.integers(-scene.width // 20, scene.width // 20 + 1, 2).tolist()
    scene.paste((0, 0, 0), (dx, dy), shadow)


def _expose(scene: Image.Image, rng: np.random.Generator, look: Look) -> np.ndarray:
    """Add uneven light, a colour cast, contrast, blur, sometimes glare, and sensor noise."""
    x = np.linspace(-0.5, 0.5, scene.width, dtype=np.float32)
    y = x[:, None]
    angle_rad = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0.0, 3 * look.cast)
    slope_x = np.float32(slope * np.cos(angle_rad))
    slope_y = np.float32(slope * np.sin(angle_rad))
    light = 1.0 + slope_x * x + slope_y * y
    brightness = rng.uniform(1 - 2 * look.cast, 1 + look.cast)
    gain = brightness * rng.uniform(1 - look.cast, 1 + look.cast, 3)
    contrast = rng.uniform(1 - 2 * look.cast, 1.1)
    blurred = scene.filter(ImageFilter.BoxBlur(rng.uniform(0.0, look.blur_px)))
    gain_per_pixel = light[..., None] * (gain * contrast).astype(np.float32)
    pixels: np.ndarray = np.asarray(blurred) * gain_per_pixel
    pixels += 118 * (1 - contrast) + 0.5
    if rng.random() < 2 * look.cast:
        spot_x = rng.uniform(-0.4, 0.4)
        spot_y = rng.uniform(-0.4, 0.4)
        radius = rng.uniform(0.05, 0.15)
        glare_x = np.exp(-(((x - spot_x) / radius) ** 2))
        glare_y = np.exp(-(((y - spot_y) / radius) ** 2))
        pixels += (170 * glare_x * glare_y)[..., None]
    # The sum of two uniform numbers is close enough to normal noise, and fast.
    noise = rng.integers(-128, 128, (2, *pixels.shape), dtype=np.int8)
    strength = np.float32(rng.uniform(1.0, look.noise) / 104.5)
    pixels += np.add(noise[0], noise[1], dtype=np.int16) * strength
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)
