"""Pool a feature map over regions: R-MAC. Source: Tolias et al., arXiv:1511.05879, section 3.2."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from delf_ext.models.pooling import Pool
from delf_ext.recipes import schema

OVERLAP = 0.4
"""Share of a region of level 1 that its neighbour should also cover."""


class Region(NamedTuple):
    """Square part of a feature map, in positions.

    Attributes:
        top: first row.
        left: first column.
        side: number of rows and of columns.
    """

    top: int
    left: int
    side: int


def regions(height: int, width: int, levels: int) -> list[Region]:
    """Return the regions of a map, level by level.

    Level l has l x (l + m - 1) evenly spaced squares with the side 2 min(height, width) / (l + 1).
    m is 1 for a square map. For any other it is the number of level-1 squares along the longer side
    whose neighbours overlap by a share as close as possible to `OVERLAP`.

    Args:
        height: rows of the map.
        width: columns of the map.
        levels: number of levels, at least 1.

    Returns:
        The regions. Each has at least one position; on a small map some are equal.
    """
    shorter = min(height, width)
    num_extra = _num_along(max(height, width), shorter) - 1
    found = []
    for level in range(1, levels + 1):
        side = max(2 * shorter // (level + 1), 1)
        tops = _starts(height, side, level + num_extra * (height > width))
        lefts = _starts(width, side, level + num_extra * (width > height))
        found += [Region(top, left, side) for top in tops for left in lefts]
    return found


def _num_along(longer: int, side: int) -> int:
    """Return m: how many squares of this side to place along the longer side of a map."""
    if longer == side:
        return 1
    # Three times as many as fit side by side overlap by more than OVERLAP.
    counts = range(2, 3 * longer // side + 2)
    return min(counts, key=lambda count: abs(1 - (longer - side) / (count - 1) / side - OVERLAP))


def _starts(length: int, side: int, count: int) -> list[int]:
    """Return the first position of each of `count` evenly spaced parts of a line."""
    return [step * (length - side) // max(count - 1, 1) for step in range(count)]


def regional_max_pool(features: tf.Tensor, levels: int = 3) -> tf.Tensor:
    """Compute the sum over regions of the unit vector of each region's maxima (R-MAC).

    The paper also whitens the vector of each region. Here a reduction of the embedding does this.

    Args:
        features: [B, h, w, C]; h and w are known when the graph is traced.
        levels: number of region sizes.

    Returns:
        [B, C].
    """
    height, width = features.shape[1:3]
    total = tf.zeros_like(features[:, 0, 0])
    for top, left, side in regions(height, width, levels):
        part = features[:, top : top + side, left : left + side]
        total += tf.math.l2_normalize(tf.reduce_max(part, axis=[1, 2]), axis=-1)
    return total


class RmacPool(Pool):
    """Sum over regions of the unit vector of each region's maxima; see `regional_max_pool`."""

    def __init__(self, config: schema.Rmac) -> None:
        super().__init__(name="rmac")
        self.levels = config.levels

    def _pool(self, features: tf.Tensor, attention: tf.Tensor | None) -> tf.Tensor:
        return regional_max_pool(tf.cast(features, tf.float32), self.levels)
