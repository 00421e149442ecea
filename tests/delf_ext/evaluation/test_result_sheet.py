"""The picture of queries and their first results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from data_io.records import GroundTruth, ImageList, Ranking
from delf_ext.evaluation.result_sheet import (
    FRAME_PX,
    NOT_RELEVANT,
    QUERY,
    QUERY_GAP_PX,
    RELEVANT,
    TILE_PX,
    draw_result_sheet,
)

CELL_PX = TILE_PX + 2 * FRAME_PX
COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "gray": (128,) * 3}


def images(folder: Path, names: list[str]) -> ImageList:
    for name in names:
        Image.new("RGB", (40, 40), COLORS[name]).save(folder / f"{name}.png")
    return ImageList(np.array(names), np.array([str(folder / f"{name}.png") for name in names]))


def is_near(pixel: np.ndarray, color: tuple[int, ...]) -> bool:
    return bool(np.abs(pixel.astype(int) - color).max() < 25)  # JPEG


def test_sheet_shows_each_query_and_its_results_in_frames_by_relevance(tmp_path: Path) -> None:
    query = images(tmp_path, ["red", "gray"])
    gallery = images(tmp_path, ["red", "green", "blue"])
    rows = np.array([[0, 2, 1], [1, 0, -1]], np.int32)
    scores = np.array([[3, 2, 1], [2, 1, 0]], np.float32)
    ranking = Ranking(query.ids, gallery.ids, rows, scores)
    junk = (np.array([0]), np.zeros(0, int))
    truth = GroundTruth(query.ids, 3, (np.array([1]), np.array([1])), junk)
    path = tmp_path / "sheet.jpg"

    draw_result_sheet(path, query, gallery, ranking, truth, np.array([0, 1]), top_k=2)

    pixels = np.asarray(Image.open(path))
    assert pixels.shape == (2 * CELL_PX, 3 * CELL_PX + QUERY_GAP_PX, 3)
    expected = [  # line, place, image, frame; the red gallery image is junk of the first query
        (0, 0, "red", QUERY),
        (0, 1, "blue", NOT_RELEVANT),
        (0, 2, "green", RELEVANT),
        (1, 0, "gray", QUERY),
        (1, 1, "green", RELEVANT),
        (1, 2, "red", NOT_RELEVANT),
    ]
    for line, place, name, frame in expected:
        left = place * CELL_PX + (QUERY_GAP_PX if place else 0)
        center = pixels[line * CELL_PX + CELL_PX // 2, left + CELL_PX // 2]
        edge = pixels[line * CELL_PX + CELL_PX // 2, left + 1]
        assert is_near(center, COLORS[name]), (line, place)
        assert is_near(edge, ImageColor.getrgb(frame)), (line, place)


def test_sheet_draws_a_tile_for_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    query = images(tmp_path, ["red"])
    gallery = images(tmp_path, ["green"])
    Path(str(gallery.paths[0])).write_bytes(b"no image")
    ranking = Ranking(query.ids, gallery.ids, np.zeros((1, 1)), np.zeros((1, 1)))
    truth = GroundTruth(query.ids, 1, (np.array([0]),), (np.zeros(0, int),))
    draw_result_sheet(tmp_path / "s.jpg", query, gallery, ranking, truth, np.array([0]), top_k=1)
    assert Image.open(tmp_path / "s.jpg").size == (2 * CELL_PX + QUERY_GAP_PX, CELL_PX)
