"""Draw some queries and their first results as one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from data_io.files.artifacts import atomic_path
from data_io.images import ImageError, decode_image, sufficient_px
from data_io.records import GroundTruth, ImageList, Ranking

TILE_PX = 96
FRAME_PX = 4
QUERY_GAP_PX = 16  # between the query and its results
RELEVANT = "#1f9d55"
NOT_RELEVANT = "#d64545"
QUERY = "#3b4252"
PAPER = "white"
JPEG_QUALITY = 70


def draw_result_sheet(
    path: str | Path,
    query: ImageList,
    gallery: ImageList,
    ranking: Ranking,
    truth: GroundTruth,
    query_rows: np.ndarray,
    top_k: int = 6,
) -> None:
    """Write a JPEG with one line for each chosen query: the query, then its first results.

    Results have a green frame if they are relevant, a red frame if not. Junk rows are left out.

    Args:
        path: file to write.
        query: the images of `ranking.query_ids`, in the same order.
        gallery: the images of `ranking.gallery_ids`, in the same order.
        ranking: of these images.
        truth: relevant and junk gallery rows of each query.
        query_rows: int [n], rows of the queries to draw.
        top_k: results for each query.
    """
    cell_px = TILE_PX + 2 * FRAME_PX
    width_px = cell_px * (top_k + 1) + QUERY_GAP_PX
    sheet = Image.new("RGB", (width_px, cell_px * len(query_rows)), PAPER)
    for line, query_row in enumerate(query_rows):
        top_px = line * cell_px
        sheet.paste(_tile(str(query.paths[query_row]), QUERY), (0, top_px))
        for place, gallery_row in enumerate(_first_rows(ranking, truth, query_row, top_k)):
            color = RELEVANT if gallery_row in truth.relevant[query_row] else NOT_RELEVANT
            left_px = cell_px * (place + 1) + QUERY_GAP_PX
            sheet.paste(_tile(str(gallery.paths[gallery_row]), color), (left_px, top_px))
    with atomic_path(path) as temporary:
        sheet.save(temporary, "JPEG", quality=JPEG_QUALITY)


def _first_rows(ranking: Ranking, truth: GroundTruth, query_row: int, top_k: int) -> np.ndarray:
    rows = ranking.rows[query_row]
    is_shown = (rows >= 0) & ~np.isin(rows, truth.junk[query_row])
    return rows[is_shown][:top_k]


def _tile(path: str, frame_color: str) -> Image.Image:
    """Return the framed square thumbnail of an image; a crossed tile if it cannot be read."""
    try:
        image = Image.fromarray(decode_image(path, sufficient_px(TILE_PX)))
        tile = ImageOps.pad(image, (TILE_PX, TILE_PX), color=PAPER)
    except ImageError:
        tile = Image.new("RGB", (TILE_PX, TILE_PX), PAPER)
        ImageDraw.Draw(tile).line([(0, 0), (TILE_PX, TILE_PX)], fill=frame_color)
    return ImageOps.expand(tile, FRAME_PX, frame_color)
