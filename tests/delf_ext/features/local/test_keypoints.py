"""Test the choice of keypoints against a slow twin; pyramid sizes; coordinates; texture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from delf_ext.features.local.keypoints import (
    MIN_SIDE_PX,
    MULTIPLE_PX,
    pyramid,
    select,
    texture,
    to_original_px,
)

Cells = tuple[np.ndarray, np.ndarray, np.ndarray]


def iou(centers_px: np.ndarray, sizes_px: np.ndarray, first: int, second: int) -> float:
    """Return the intersection over union of two squares, computed from their overlaps."""
    low = np.maximum(
        centers_px[first] - sizes_px[first] / 2, centers_px[second] - sizes_px[second] / 2
    )
    high = np.minimum(
        centers_px[first] + sizes_px[first] / 2, centers_px[second] + sizes_px[second] / 2
    )
    shared = float(np.prod(np.maximum(high - low, 0)))
    return shared / (float(sizes_px[first]) ** 2 + float(sizes_px[second]) ** 2 - shared)


def slow_select(cells: Cells, max_features: int, nms_iou: float) -> list[int]:
    centers_px, sizes_px, attention = cells
    kept: list[int] = []
    for row in sorted(range(len(attention)), key=lambda row: (-attention[row], row)):
        free = all(iou(centers_px, sizes_px, row, other) <= nms_iou for other in kept)
        if len(kept) < max_features and free:
            kept.append(row)
    return kept


@st.composite
def some_cells(draw: st.DrawFn, distinct: bool = False) -> Cells:
    """Draw cells whose values float32 holds exactly; equal attention and equal squares occur."""
    count = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    attention = rng.permutation(count) if distinct else rng.integers(0, 6, count)
    sizes = rng.choice([8, 16, 32], count)
    return (
        rng.integers(0, 48, (count, 2)).astype(np.float32),
        sizes.astype(np.float32),
        attention.astype(np.float32),
    )


IOUS = st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0])


@given(some_cells(), st.integers(0, 45), IOUS)
def test_select_keeps_the_rows_of_its_slow_twin(cells: Cells, max_features: int, nms_iou: float):
    rows = select(*cells, max_features, nms_iou)
    assert rows.dtype == np.int64
    assert rows.tolist() == slow_select(cells, max_features, nms_iou)


@given(some_cells(), st.integers(0, 45), IOUS)
def test_kept_cells_are_ordered_and_apart_and_dropped_cells_overlap_a_better_one(
    cells: Cells, max_features: int, nms_iou: float
):
    centers_px, sizes_px, attention = cells
    rows = select(*cells, max_features, nms_iou)
    assert len(set(rows)) == len(rows) <= max_features
    assert list(rows) == sorted(rows, key=lambda row: (-attention[row], row))
    overlaps = [
        iou(centers_px, sizes_px, a, b) for number, a in enumerate(rows) for b in rows[:number]
    ]
    assert all(overlap <= nms_iou for overlap in overlaps)
    if len(rows) < max_features:
        for row in set(range(len(attention))) - set(rows):
            better = [other for other in rows if attention[other] >= attention[row]]
            assert any(iou(centers_px, sizes_px, row, other) > nms_iou for other in better)


@given(some_cells(distinct=True), st.integers(0, 45), IOUS, st.randoms(use_true_random=False))
def test_selection_does_not_depend_on_the_order_of_rows(
    cells: Cells, max_features: int, nms_iou: float, random: Any
):
    order = np.array(random.sample(range(len(cells[2])), len(cells[2])), np.int64)
    shuffled = select(cells[0][order], cells[1][order], cells[2][order], max_features, nms_iou)
    np.testing.assert_array_equal(order[shuffled], select(*cells, max_features, nms_iou))


def test_fewer_features_are_the_first_of_more_features():
    rng = np.random.default_rng(0)
    cells = rng.uniform(0, 640, (3000, 2)), rng.choice([99.0, 198.0], 3000), rng.uniform(0, 1, 3000)
    cells = tuple(column.astype(np.float32) for column in cells)
    more = select(*cells, 200, 0.5)
    assert len(more) == 200
    np.testing.assert_array_equal(select(*cells, 50, 0.5), more[:50])


def test_nms_iou_of_1_keeps_even_equal_squares():
    # Source of 1.0: tensorflow/models, delf_config_example.pbtxt. Only a larger IoU drops a cell.
    rng = np.random.default_rng(1)
    centers_px = np.repeat(rng.uniform(0, 999, (50, 2)), 3, axis=0).astype(np.float32)
    sizes_px = np.repeat(rng.uniform(1, 999, 50), 3).astype(np.float32)
    sizes_px[1::3] = np.nextafter(sizes_px[1::3], np.float32(1e6))
    attention = np.full(150, 0.5, np.float32)
    assert select(centers_px, sizes_px, attention, 1000, nms_iou=1.0).tolist() == list(range(150))
    assert len(select(centers_px, sizes_px, attention, 1000, nms_iou=0.99)) <= 50


def test_overlap_of_a_third_by_hand():
    # Two squares of 10 pixels, 5 pixels apart: they share 50 of 150 square pixels.
    cells = np.float32([[5, 5], [10, 5], [15, 5]]), np.float32([10, 10, 10]), np.float32([1, 3, 2])
    assert select(*cells, 9, nms_iou=0.33).tolist() == [1]
    assert select(*cells, 9, nms_iou=0.34).tolist() == [1, 2, 0]
    assert select(*cells, 9, nms_iou=0.0).tolist() == [1]
    assert select(*cells, 2, nms_iou=1.0).tolist() == [1, 2]


def test_select_without_cells_returns_no_rows():
    rows = select(
        np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32), 1000, 1.0
    )
    assert rows.shape == (0,) and rows.dtype == np.int64


# --- pyramid


# Source: tensorflow/models, research/delf/delf/python/examples/delf_config_example.pbtxt,
# image_scales; powers of the square root of 2.
DELF_SCALES = (0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142, 2.0)


def test_pyramid_has_the_published_levels_of_delf():
    levels = [(160, 128), (224, 160), (320, 256), (448, 352), (640, 480), (896, 672), (1280, 960)]
    assert pyramid((3264, 2448), 640, DELF_SCALES) == levels
    assert pyramid((2448, 3264), 640, DELF_SCALES) == [level[::-1] for level in levels]


def test_images_of_similar_shape_share_their_levels():
    sizes = [(4000, 3000), (1024, 768), (1000, 755)]
    assert len({tuple(pyramid(size, 640, DELF_SCALES)) for size in sizes}) == 1


def test_small_image_is_enlarged_only_by_scales_above_1_and_equal_levels_are_merged():
    assert pyramid((320, 196), 640, (0.5, 1, 2)) == [(160, 96), (320, 192), (640, 384)]
    assert pyramid((20, 9), 640, (0.25, 0.5, 1, 2)) == [(64, 64)]
    assert pyramid((2000, 100), 640, (0.5, 1)) == [(320, 64), (640, 64)]


SIDES = st.integers(1, 6000)


@given(SIDES, SIDES, st.integers(1, 2000))
def test_levels_differ_from_their_scale_by_less_than_a_multiple(
    width: int, height: int, longer_side_px: int
):
    levels = pyramid((width, height), longer_side_px, DELF_SCALES)
    assert len(set(levels)) == len(levels) >= 1
    assert all(
        side % MULTIPLE_PX == 0 and side >= MIN_SIDE_PX for level in levels for side in level
    )
    shrink = min(1, longer_side_px / max(width, height))
    for scale in DELF_SCALES:
        wanted = np.maximum(np.array([width, height]) * shrink * scale, MIN_SIDE_PX)
        assert (np.abs(np.array(levels) - wanted).max(axis=1) < MULTIPLE_PX).any()


# --- coordinates


@given(SIDES, SIDES, st.integers(1, 2000), st.integers(1, 2000))
def test_to_original_px_maps_corners_to_corners_and_middle_to_middle(
    width: int, height: int, level_width: int, level_height: int
):
    level, original = np.array([level_width, level_height]), np.array([width, height])
    middle = to_original_px((level[None] - 1) / 2, (level_width, level_height), (width, height))
    np.testing.assert_allclose(middle, (original[None] - 1) / 2, rtol=1e-6, atol=1e-6)
    corners = to_original_px(
        np.stack([level * 0 - 0.5, level - 0.5]), (level_width, level_height), (width, height)
    )
    assert corners.dtype == np.float32
    np.testing.assert_array_equal(corners, [[0, 0], [width - 1, height - 1]])


def test_to_original_px_by_hand():
    found = to_original_px(np.float32([[0, 0], [1, 1], [-50, 3]]), (4, 4), (8, 16))
    np.testing.assert_array_equal(found, [[0.5, 1.5], [2.5, 5.5], [0, 13.5]])


def test_dot_in_a_resized_image_maps_to_its_original_place():
    # A blurred dot in an image of 600 x 400, resized by Pillow to another aspect ratio.
    place = np.array([417.0, 133.0])
    y, x = np.mgrid[0:400, 0:600]
    dot = np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 12.0**2)).astype(np.float32)
    level = np.asarray(Image.fromarray(dot).resize((256, 192), Image.Resampling.BILINEAR))
    rows, columns = np.mgrid[0:192, 0:256]
    centre = np.array([[(level * columns).sum(), (level * rows).sum()]]) / level.sum()
    np.testing.assert_allclose(to_original_px(centre, (256, 192), (600, 400))[0], place, atol=0.02)


@given(st.integers(0, 50), st.floats(1.0, 30.0))
def test_texture_equals_the_standard_deviation_of_the_pixels(seed: int, side_px: float) -> None:
    rng = np.random.default_rng(seed)
    gray = rng.integers(0, 256, (23, 31), np.uint8)
    centers = rng.uniform(-5, 35, (12, 2))
    found = texture(gray, centers, side_px)
    for (x, y), value in zip(centers, found, strict=True):
        left, right = (int(np.floor(x + sign * side_px / 2 + 0.5)) for sign in (-1, 1))
        top, bottom = (int(np.floor(y + sign * side_px / 2 + 0.5)) for sign in (-1, 1))
        left, top = min(max(left, 0), 30), min(max(top, 0), 22)
        right, bottom = min(max(right, left + 1), 31), min(max(bottom, top + 1), 23)
        assert value == pytest.approx(gray[top:bottom, left:right].std(), abs=1e-9)
    assert (texture(np.full((9, 9), 7, np.uint8), centers, side_px) == 0).all()
