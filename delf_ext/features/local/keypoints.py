"""From dense cells of a feature map to the keypoints of an image: pyramid sizes, coordinates, and which cells are kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from delf_ext.compiled import compiled

# Source: Noh et al. 2017, section 4.1, and tensorflow/models, research/delf/delf/python/examples/delf_config_example.pbtxt.
DELF_SCALES = (0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142, 2.0)


def pyramid(
    size_px: tuple[int, int],
    longer_side_px: int,
    scales: Sequence[float] = DELF_SCALES,
    multiple_px: int = 32,
    min_side_px: int = 64,
) -> list[tuple[int, int]]:
    """(width, height) of an image's levels, in the order of `scales`, each once; at least one level, however small the image.

    At scale 1 the longer side is longer_side_px, or the image's own where that is shorter: only scales above 1 enlarge.
    Sides are rounded to multiples of multiple_px, of which the smallest allowed is the first not below min_side_px. So images
    of similar shape share few sizes and can be batched; `to_original_px` maps back per axis, so the aspect that rounding
    changes costs no precision.

    >>> pyramid((4000, 3000), 640, (0.25, 0.5, 1))
    [(160, 128), (320, 256), (640, 480)]

    Raises: ValueError for sides, multiples or scales that are not above zero, and for no scale at all.
    """
    if (
        min(*size_px, longer_side_px, multiple_px, min_side_px) < 1
        or not scales
        or min(scales) <= 0
    ):
        raise ValueError(
            f"a pyramid needs sides of at least one pixel and scales above 0. Received an image of {size_px}, "
            f"longer side {longer_side_px}, multiples of {multiple_px}, at least {min_side_px}, scales {tuple(scales)}."
        )
    shrink = min(1.0, longer_side_px / max(size_px))
    smallest = -(-min_side_px // multiple_px)

    def rounded(side_px: float) -> int:
        return max(int(side_px / multiple_px + 0.5), smallest) * multiple_px

    width, height = size_px
    return list(
        dict.fromkeys(
            (rounded(width * shrink * scale), rounded(height * shrink * scale)) for scale in scales
        )
    )


def to_original_px(
    centers_px: np.ndarray, level_px: tuple[int, int], original_px: tuple[int, int]
) -> np.ndarray:
    """Points [M, 2] (x, y) of a level of size level_px to the original image of size original_px, both (width, height).

    Pixel centres: (x + 0.5) * W / w - 0.5, so that corners of images fall on each other. Clipped to 0..W - 1, 0..H - 1. float32.
    """
    original = np.asarray(original_px, np.float64)
    points = (np.asarray(centers_px, np.float64) + 0.5) * (
        original / np.asarray(level_px, np.float64)
    ) - 0.5
    return np.clip(points, 0, original - 1).astype(np.float32)


def texture(gray: np.ndarray, centers_px: np.ndarray, side_px: float) -> np.ndarray:
    """[T] standard deviation of uint8 [H, W] in a square of side_px around each centre [T, 2] (x, y), cut at the border."""
    values = np.pad(gray.astype(np.int64), ((1, 0), (1, 0)))
    sums, squares = values.cumsum(0).cumsum(1), (values * values).cumsum(0).cumsum(1)
    size = np.array(gray.shape[::-1])
    first = np.clip(np.floor(centers_px - side_px / 2 + 0.5).astype(np.int64), 0, size - 1)
    last = np.clip(np.floor(centers_px + side_px / 2 + 0.5).astype(np.int64), first + 1, size)
    (left, top), (right, bottom) = first.T, last.T
    count = (right - left) * (bottom - top)
    total, square = (
        table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
        for table in (sums, squares)
    )
    return np.sqrt(np.maximum(square * count - total * total, 0)) / count


def select(
    centers_px: np.ndarray,
    sizes_px: np.ndarray,
    attention: np.ndarray,
    max_features: int,
    nms_iou: float = 1.0,
    min_attention: float = 0.0,
) -> np.ndarray:
    """The rows to keep, int64 [<= max_features], highest attention first, equal ones by row.

    centers_px [T, 2] (x, y) and sizes_px [T]: squares in pixels of the original image. attention [T]: at least min_attention
    or left out. Greedy: a row is suppressed when its square overlaps a kept one by more than nms_iou (intersection over
    union). DELF's published 1.0 suppresses nothing. Source: tensorflow/models, delf/feature_extractor.py.

    Raises: ValueError for shapes that do not fit, values that are not finite, and max_features below 0.
    """
    count = len(attention)
    if (
        centers_px.shape != (count, 2)
        or sizes_px.shape != (count,)
        or attention.shape != (count,)
        or max_features < 0
    ):
        raise ValueError(
            f"keypoints need centers [T, 2], sizes [T], attention [T] and max_features >= 0. Received shapes "
            f"{centers_px.shape}, {sizes_px.shape}, {attention.shape} and {max_features}."
        )
    if not (
        np.isfinite(centers_px).all()
        and np.isfinite(sizes_px).all()
        and np.isfinite(attention).all()
    ):
        raise ValueError("centers, sizes and attention of keypoints must be finite.")
    order = np.argsort(-attention, kind="stable")
    order = order[attention[order] >= min_attention]
    half = sizes_px[order, None].astype(np.float64) / 2
    boxes = np.hstack([centers_px[order] - half, centers_px[order] + half])
    return order[_suppress(boxes, max_features, float(nms_iou))]


@compiled
def _suppress(boxes: np.ndarray, max_features: int, nms_iou: float) -> np.ndarray:
    """Greedy non-max suppression of boxes [T, 4] (left, top, right, bottom), best first -> rows kept, int64."""
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
