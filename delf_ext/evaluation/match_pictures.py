"""Draw verified pairs: keypoints, inliers as lines, each border seen in the other image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_io.files.artifacts import atomic_path
from data_io.files.marks import png_mark
from data_io.files.names import shown
from data_io.records import ImageKeypoints
from delf_ext.geometry.verification import Verification

# More lines hide the images.
MAX_LINES = 80
# A wider image is shown less high.
MAX_ASPECT = 2.0
MIN_WIDTH_PX = 420
GAP_PX = 8
CAPTION_PX = 58
# Lines are drawn this many times larger and then reduced: Pillow does not smooth edges.
SMOOTH = 3
# A border that is further away than this many images is not drawn.
FAR = 20.0
BACKGROUND = "#181b21"
INK = "#f0f2f5"
SOFT_INK = "#a0a8b4"
ACCEPTED_COLOR = "#4aca78"
REJECTED_COLOR = "#ff786c"
CASING = "#000000a0"
PALE = "#ffffffb0"
BORDER = "#ffffffff"


@dataclass(frozen=True)
class _Pane:
    """Image within the picture.

    corner: its left upper corner; factor: picture pixels per image pixel.
    """

    picture: Image.Image
    corner: tuple[int, int]
    factor: float

    def at(self, points_px: np.ndarray) -> np.ndarray:
        """Convert pixel centres of the image [M, 2] to the picture that is SMOOTH times larger."""
        return ((points_px + 0.5) * self.factor + np.array(self.corner)) * SMOOTH - 0.5

    @property
    def box(self) -> tuple[int, int, int, int]:
        left, top = self.corner
        return left, top, left + self.picture.width, top + self.picture.height


def draw_match(
    query_image: np.ndarray,
    gallery_image: np.ndarray,
    query: ImageKeypoints,
    gallery: ImageKeypoints,
    verification: Verification,
    title: str,
    accepted: bool | None = None,
    height_px: int = 480,
) -> Image.Image:
    """Draw a verified pair: query left, gallery image right, a caption below.

    Lines join inliers, an even selection of MAX_LINES at most; pale points are other keypoints. The
    white frame on the right is the border of the query under `gallery_from_query`, that on the left
    the border of the gallery image under the inverse.

    Args:
        query_image: uint8 [H, W, 3], of the size that its keypoints name.
        gallery_image: uint8 [H, W, 3], of the size that its keypoints name.
        query: keypoints of the query.
        gallery: keypoints of the gallery image.
        verification: of the pair.
        title: first line of the caption, in Latin letters.
        accepted: whether the pair is accepted; None: not shown.
        height_px: of the images in the picture.

    Returns:
        An RGB picture.

    Raises:
        ValueError: an image does not have the size or type that its keypoints name.
    """
    _require_same_size("query", query_image, query)
    _require_same_size("gallery", gallery_image, gallery)
    left = _pane(query_image, height_px, 0)
    right = _pane(gallery_image, height_px, left.picture.width + GAP_PX)
    canvas = Image.new("RGB", (max(right.box[2], MIN_WIDTH_PX), height_px + CAPTION_PX), BACKGROUND)
    for pane in (left, right):
        canvas.paste(pane.picture, pane.corner)
    if verification.gallery_from_query is not None:
        gallery_from_query = verification.gallery_from_query
        query_from_gallery = np.linalg.inv(gallery_from_query)
        _draw_border(canvas, left, _projected_border(gallery.size_px, query_from_gallery))
        _draw_border(canvas, right, _projected_border(query.size_px, gallery_from_query))
    _draw_keypoints(
        canvas, left.at(query.keypoints_px), right.at(gallery.keypoints_px), verification
    )
    _write_caption(canvas, title, verification, accepted)
    return canvas


def stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Join pictures of one pair from top to bottom, such as one per extractor."""
    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures)
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    top = 0
    for picture in pictures:
        canvas.paste(picture, (0, top))
        top += picture.height
    return canvas


def save_picture(path: str | Path, picture: Image.Image) -> None:
    """Write a PNG file atomically.

    Raises:
        ValueError: `path` is a folder.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: give the picture a name, such as match.png.")
    with atomic_path(path) as temporary:
        picture.save(temporary, "PNG", pnginfo=png_mark())


def _require_same_size(what: str, image: np.ndarray, keypoints: ImageKeypoints) -> None:
    width, height = keypoints.size_px
    if image.dtype != np.uint8 or image.shape != (height, width, 3):
        raise ValueError(
            f"{what} image must be uint8 {(height, width, 3)} as its keypoints. "
            f"Received {image.dtype} {image.shape}."
        )


def _pane(image: np.ndarray, height_px: int, left_px: int) -> _Pane:
    height, width = image.shape[:2]
    factor = min(height_px / height, MAX_ASPECT * height_px / width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    return _Pane(picture, (left_px, (height_px - size[1]) // 2), factor)


def _projected_border(size_px: tuple[int, int], to_other: np.ndarray) -> np.ndarray | None:
    """Return the corners of an image in the other image's pixels, [4, 2].

    None if a corner is at or beyond the horizon.
    """
    width, height = size_px
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]])
    corners = corners - [0.5, 0.5, 0]
    x, y, depth = to_other @ corners.T
    same_side = depth * np.sign(depth[0])
    if same_side.min() <= same_side.max() / FAR:
        return None
    return np.stack([x, y], axis=1) / depth[:, None]


def _draw_border(canvas: Image.Image, pane: _Pane, corners_px: np.ndarray | None) -> None:
    """Draw the part of a border that falls on the image itself."""
    if corners_px is None:
        return
    points = pane.at(corners_px)
    if np.abs(points).max() > FAR * SMOOTH * max(canvas.size):
        return
    layer, pen = _layer(canvas)
    closed = [tuple(point) for point in (*points, points[0], points[1])]
    pen.line(closed, CASING, 5 * SMOOTH, joint="curve")
    pen.line(closed, BORDER, 2 * SMOOTH, joint="curve")
    small = layer.reduce(SMOOTH).crop(pane.box)
    canvas.paste(small, pane.corner, small)


def _draw_keypoints(
    canvas: Image.Image, query: np.ndarray, gallery: np.ndarray, verification: Verification
) -> None:
    """Draw pale points, then lines, then dots of inliers; hues change from top to bottom."""
    layer, pen = _layer(canvas)
    inliers = verification.matches[verification.inliers]
    for points, matched in ((query, inliers[:, 0]), (gallery, inliers[:, 1])):
        for point in np.delete(points, matched, axis=0):
            _dot(pen, point, 2.0, CASING)
            _dot(pen, point, 1.3, PALE)
    inliers = inliers[np.argsort(query[inliers[:, 0], 1], kind="stable")]
    chosen = inliers
    if len(inliers):
        steps = np.linspace(0, len(inliers) - 1, MAX_LINES).round().astype(int)
        chosen = inliers[np.unique(steps)]
    lines = [[tuple(query[row]), tuple(gallery[column])] for row, column in chosen]
    for line in lines:
        pen.line(line, CASING, 3 * SMOOTH)
    for number, line in enumerate(lines):
        pen.line(line, _hue(number / len(lines)), SMOOTH + 1)
    for number, (row, column) in enumerate(inliers):
        for point in (query[row], gallery[column]):
            _dot(pen, point, 3.4, CASING)
            _dot(pen, point, 2.4, _hue(number / len(inliers)))
    small = layer.reduce(SMOOTH)
    canvas.paste(small, (0, 0), small)


def _layer(canvas: Image.Image) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    layer = Image.new("RGBA", (canvas.width * SMOOTH, canvas.height * SMOOTH))
    return layer, ImageDraw.Draw(layer)


def _dot(pen: ImageDraw.ImageDraw, point: np.ndarray, radius_px: float, color: str) -> None:
    x, y = point
    radius = radius_px * SMOOTH
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), color)


def _hue(share: float) -> str:
    """Return a colour from red over yellow, green and blue to magenta."""
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(0.85 * share, 0.75, 1.0))
    return f"#{red:02x}{green:02x}{blue:02x}e6"


def _write_caption(
    canvas: Image.Image, title: str, verification: Verification, accepted: bool | None
) -> None:
    pen = ImageDraw.Draw(canvas)
    top = canvas.height - CAPTION_PX
    large = ImageFont.load_default(17)
    small = ImageFont.load_default(14)
    pen.text((12, top + 8), _fitting(shown(title), large, canvas.width - 24), INK, large)
    facts = (
        f"{verification.num_inliers} inliers of {len(verification.matches)} matches"
        f"  ·  score {verification.significance:.1f}"
    )
    if verification.num_inliers > MAX_LINES:
        facts += f"  ·  {MAX_LINES} lines drawn"
    pen.text((12, top + 33), facts, SOFT_INK, small)
    if accepted is not None:
        verdict = "accepted" if accepted else "not accepted"
        color = ACCEPTED_COLOR if accepted else REJECTED_COLOR
        pen.text((12 + small.getlength(f"{facts}    "), top + 33), verdict, color, small)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room_px: int) -> str:
    """Return the text, or its two ends around an ellipsis: both ends distinguish similar ids."""
    if font.getlength(text) <= room_px:
        return text
    for num_letters in range(len(text) - 1, 1, -1):
        num_last = num_letters // 2
        shortened = f"{text[: num_letters - num_last]}…{text[len(text) - num_last :]}"
        if font.getlength(shortened) <= room_px:
            return shortened
    return "…"
