"""A verified pair as a picture: both photographs, their keypoints, inliers as lines, and each one's border seen in the other."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_io.artifacts import atomic_path
from data_io.records import ImageKeypoints
from delf_ext.geometry.verification import Verification

MAX_LINES = 80  # more of them hide the photographs
MAX_ASPECT = 2.0  # a wider panorama is shown less high
MIN_WIDTH_PX, GAP_PX, STRIP_PX = 420, 8, 58
SMOOTH = 3  # drawn this many times larger, then reduced: Pillow's own lines have jagged edges
FAR = 20.0  # a border that lies further out than this many photographs is not drawn
BACKGROUND, INK, SOFT, GOOD, BAD = "#181b21", "#f0f2f5", "#a0a8b4", "#4aca78", "#ff786c"
CASING, PALE, BORDER = "#000000a0", "#ffffffb0", "#ffffffff"


@dataclass(frozen=True)
class _Pane:
    """A photograph in the picture: its left upper corner there, and picture pixels per pixel of the photograph."""

    picture: Image.Image
    corner: tuple[int, int]
    factor: float

    def at(self, points_px: np.ndarray) -> np.ndarray:
        """Pixel centres of the photograph [M, 2] on the enlarged picture."""
        return ((points_px + 0.5) * self.factor + np.array(self.corner)) * SMOOTH - 0.5

    @property
    def box(self) -> tuple[int, int, int, int]:
        return (
            *self.corner,
            self.corner[0] + self.picture.width,
            self.corner[1] + self.picture.height,
        )


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
    """Query left, gallery right, `height_px` high, over a caption: title, inliers, score and, if given, whether accepted.

    query_image, gallery_image: uint8 [H, W, 3], of the size that their keypoints name. title: in Latin letters. Lines join
    inliers, an even selection where they are more than 80; pale points are other keypoints. The white frame on the right is the
    query's border under `gallery_from_query`, that on the left the gallery image's border under its inverse.
    Raises: ValueError where a photograph is not the one of its keypoints.
    """
    _require_same_size("query", query_image, query)
    _require_same_size("gallery", gallery_image, gallery)
    left = _pane(query_image, height_px, 0)
    right = _pane(gallery_image, height_px, left.picture.width + GAP_PX)
    canvas = Image.new("RGB", (max(right.box[2], MIN_WIDTH_PX), height_px + STRIP_PX), BACKGROUND)
    for pane in (left, right):
        canvas.paste(pane.picture, pane.corner)
    if verification.gallery_from_query is not None:
        _draw_border(
            canvas,
            left,
            _projected_border(gallery.size_px, np.linalg.inv(verification.gallery_from_query)),
        )
        _draw_border(
            canvas, right, _projected_border(query.size_px, verification.gallery_from_query)
        )
    _draw_keypoints(
        canvas, left.at(query.keypoints_px), right.at(gallery.keypoints_px), verification
    )
    _write_caption(canvas, title, verification, accepted)
    return canvas


def stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one pair under each other, such as one per extractor."""
    canvas = Image.new(
        "RGB", (max(one.width for one in pictures), sum(one.height for one in pictures)), BACKGROUND
    )
    top = 0
    for one in pictures:
        canvas.paste(one, (0, top))
        top += one.height
    return canvas


def save_picture(path: str | Path, picture: Image.Image) -> None:
    """Writes a PNG, whole or not at all. Raises: ValueError where `path` is a folder."""
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: give the picture a name, such as match.png.")
    with atomic_path(path) as temporary:
        picture.save(temporary, "PNG")


def _require_same_size(what: str, image: np.ndarray, keypoints: ImageKeypoints) -> None:
    width, height = keypoints.size_px
    if image.dtype != np.uint8 or image.shape != (height, width, 3):
        raise ValueError(
            f"{what} image must be uint8 {(height, width, 3)} as its keypoints. Received {image.dtype} {image.shape}."
        )


def _pane(image: np.ndarray, height_px: int, left_px: int) -> _Pane:
    height, width = image.shape[:2]
    factor = min(height_px / height, MAX_ASPECT * height_px / width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    return _Pane(picture, (left_px, (height_px - size[1]) // 2), factor)


def _projected_border(size_px: tuple[int, int], to_other: np.ndarray) -> np.ndarray | None:
    """The corners of an image of `size_px` in the other one's pixels, [4, 2]; None where one lies at or beyond the horizon."""
    width, height = size_px
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]]) - [
        0.5,
        0.5,
        0,
    ]
    x, y, depth = to_other @ corners.T
    same_side = depth * np.sign(depth[0])
    if same_side.min() <= same_side.max() / FAR:
        return None
    return np.stack([x, y], axis=1) / depth[:, None]


def _draw_border(canvas: Image.Image, pane: _Pane, corners_px: np.ndarray | None) -> None:
    """Only what falls on the photograph itself."""
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
    """Pale points, then the casings of all lines, then the lines themselves: neighbours differ in hue, top to bottom."""
    layer, pen = _layer(canvas)
    inliers = verification.matches[verification.inliers]
    for points, matched in ((query, inliers[:, 0]), (gallery, inliers[:, 1])):
        for point in np.delete(points, matched, axis=0):
            _dot(pen, point, 2.0, CASING)
            _dot(pen, point, 1.3, PALE)
    inliers = inliers[np.argsort(query[inliers[:, 0], 1], kind="stable")]
    chosen = (
        inliers[np.unique(np.linspace(0, len(inliers) - 1, MAX_LINES).round().astype(int))]
        if len(inliers)
        else inliers
    )
    for line in chosen:
        pen.line([tuple(query[line[0]]), tuple(gallery[line[1]])], CASING, 3 * SMOOTH)
    for number, match in enumerate(chosen):
        pen.line(
            [tuple(query[match[0]]), tuple(gallery[match[1]])],
            _hue(number / len(chosen)),
            SMOOTH + 1,
        )
    for number, match in enumerate(inliers):
        for point in (query[match[0]], gallery[match[1]]):
            _dot(pen, point, 3.4, CASING)
            _dot(pen, point, 2.4, _hue(number / len(inliers)))
    small = layer.reduce(SMOOTH)
    canvas.paste(small, (0, 0), small)


def _layer(canvas: Image.Image) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    layer = Image.new("RGBA", (canvas.width * SMOOTH, canvas.height * SMOOTH))
    return layer, ImageDraw.Draw(layer)


def _dot(pen: ImageDraw.ImageDraw, point: np.ndarray, radius_px: float, color: str) -> None:
    (x, y), radius = point, radius_px * SMOOTH
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), color)


def _hue(share: float) -> str:
    """From red over yellow, green and blue to magenta; opaque enough on any ground."""
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(0.85 * share, 0.75, 1.0))
    return f"#{red:02x}{green:02x}{blue:02x}e6"


def _write_caption(
    canvas: Image.Image, title: str, verification: Verification, accepted: bool | None
) -> None:
    pen, top, room = ImageDraw.Draw(canvas), canvas.height - STRIP_PX, canvas.width - 24
    large, small = ImageFont.load_default(17), ImageFont.load_default(14)
    pen.text((12, top + 8), _fitting(title, large, room), INK, large)
    facts = f"{verification.num_inliers} inliers of {len(verification.matches)} matches  ·  score {verification.significance:.1f}"
    facts += f"  ·  {MAX_LINES} lines drawn" if verification.num_inliers > MAX_LINES else ""
    pen.text((12, top + 33), facts, SOFT, small)
    if accepted is not None:
        verdict, color = ("accepted", GOOD) if accepted else ("not accepted", BAD)
        pen.text((12 + small.getlength(f"{facts}    "), top + 33), verdict, color, small)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room_px: int) -> str:
    """The text, or its two ends around an ellipsis: both ends of an id tell it from its neighbours."""
    for kept in range(len(text), 1, -1):
        shown = (
            text
            if kept == len(text)
            else f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
        )
        if font.getlength(shown) <= room_px:
            return shown
    return "…"
