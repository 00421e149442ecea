"""Turn the dense cells of feature maps into keypoints of an image.

Sizes of the pyramid's levels, coordinates, texture, and the choice of the best cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from delf_ext.compiled import compiled

# Sides of a pyramid's levels: multiples of this, and at least this.
MULTIPLE_PX = 32
MIN_SIDE_PX = 64


def pyramid(
    size_px: tuple[int, int], longer_side_px: int, scales: Sequence[float]
) -> list[tuple[int, int]]:
    """Compute the sizes of an image's pyramid levels.

    At scale 1 the longer side is `longer_side_px`, or the image's own if that is shorter, so only
    scales above 1 enlarge an image. Sides are rounded to multiples, so that images of similar shape
    share few sizes and can be batched. Rounding changes the aspect ratio slightly, but costs no
    precision: `to_original_px` converts each axis by itself.

    >>> pyramid((4000, 3000), 640, (0.25, 0.5, 1))
    [(160, 128), (320, 256), (640, 480)]

    Args:
        size_px: (width, height) of the image.
        longer_side_px: longer side at scale 1.
        scales: sizes of the levels relative to scale 1.

    Returns:
        (width, height) of each level in the order of `scales`, without repetitions.
    """
    shrink = min(1.0, longer_side_px / max(size_px))

    def rounded(side_px: float) -> int:
        return max(int(side_px / MULTIPLE_PX + 0.5) * MULTIPLE_PX, MIN_SIDE_PX)

    width, height = size_px
    levels = [
        (rounded(width * shrink * scale), rounded(height * shrink * scale)) for scale in scales
    ]
    return list(dict.fromkeys(levels))


def to_original_px(
    centers_px: np.ndarray, level_px: tuple[int, int], original_px: tuple[int, int]
) -> np.ndarray:
    """Convert points of a resized image to points of the original image.

    Coordinates are pixel centres: (x + 0.5) * W / w - 0.5, which maps corners to corners.

    Args:
        centers_px: [M, 2] (x, y) in the resized image.
        level_px: (width, height) of the resized image.
        original_px: (width, height) of the original image.

    Returns:
        float32 [M, 2] (x, y), clipped to 0..W - 1 and 0..H - 1.
    """
    original = np.asarray(original_px, np.float64)
    scale = original / np.asarray(level_px, np.float64)
    points = (np.asarray(centers_px, np.float64) + 0.5) * scale - 0.5
    return np.clip(points, 0, original - 1).astype(np.float32)


def texture(gray: np.ndarray, centers_px: np.ndarray, side_px: float) -> np.ndarray:
    """Compute the standard deviation of the pixels around each point.

    Args:
        gray: uint8 [H, W].
        centers_px: [T, 2] (x, y).
        side_px: side of the square around a point; the image's border cuts it.

    Returns:
        float64 [T], from 0 to 127.5.
    """
    # Sums over squares from integral images of the values and of their squares.
    values = np.pad(gray.astype(np.int64), ((1, 0), (1, 0)))
    sums = values.cumsum(0).cumsum(1)
    squares = (values * values).cumsum(0).cumsum(1)
    size = np.array(gray.shape[::-1])
    first = np.clip(np.floor(centers_px - side_px / 2 + 0.5).astype(np.int64), 0, size - 1)
    last = np.clip(np.floor(centers_px + side_px / 2 + 0.5).astype(np.int64), first + 1, size)
    left, top = first.T
    right, bottom = last.T

    def sum_over(table: np.ndarray) -> np.ndarray:
        return table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]

    count = (right - left) * (bottom - top)
    total = sum_over(sums)
    return np.sqrt(np.maximum(sum_over(squares) * count - total * total, 0)) / count


def select(
    centers_px: np.ndarray,
    sizes_px: np.ndarray,
    attention: np.ndarray,
    max_features: int,
    nms_iou: float,
) -> np.ndarray:
    """Choose the cells with the highest attention that do not overlap too much.

    Greedy: a cell is dropped if its square overlaps the square of a kept cell by more than
    `nms_iou` (intersection over union). DELF's published 1.0 drops nothing.
    Source: tensorflow/models, delf/feature_extractor.py.

    Args:
        centers_px: [T, 2] (x, y) in the original image.
        sizes_px: [T], sides of the squares.
        attention: [T].
        max_features: most rows to keep.
        nms_iou: largest overlap of two kept cells.

    Returns:
        int64 [<= max_features] rows, highest attention first, ties by row.
    """
    order = np.argsort(-attention, kind="stable")
    half = sizes_px[order, None].astype(np.float64) / 2
    boxes = np.hstack([centers_px[order] - half, centers_px[order] + half])
    return order[_suppress(boxes, max_features, float(nms_iou))]


@compiled
def _suppress(boxes: np.ndarray, max_features: int, nms_iou: float) -> np.ndarray:
    """Suppress overlapping boxes greedily.

    Args:
        boxes: float64 [T, 4] (left, top, right, bottom), best first.
        max_features: most boxes to keep.
        nms_iou: largest overlap of two kept boxes.

    Returns:
        int64 rows of the kept boxes, in order.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = np.empty(min(max_features, len(boxes)), np.int64)
    count = 0
    for row in range(len(boxes)):
        if count == len(kept):
            break
        free = True
        for other in kept[:count]:
            width = max(
                0.0, min(boxes[row, 2], boxes[other, 2]) - max(boxes[row, 0], boxes[other, 0])
            )
            height = max(
                0.0, min(boxes[row, 3], boxes[other, 3]) - max(boxes[row, 1], boxes[other, 1])
            )
            if width * height > nms_iou * (areas[row] + areas[other] - width * height):
                free = False
                break
        if free:
            kept[count] = row
            count += 1
    return kept[:count]
