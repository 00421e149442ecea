"""Match the descriptors of a query with those of many gallery images.

A match is a query descriptor and the nearest descriptor of a gallery image, if it passes the tests
of `MatchConfig`. The distances are computed by matrix products, a block at a time.

The result is a function of the descriptors alone, although a BLAS adds floats in an order that
depends on threads and machine. Components are rounded to whole numbers of 1 / UNITS_PER_ONE. A
gallery descriptor g is stored as (g, |g|^2, 1), a query descriptor q as (-2q, 1, |q|^2). Their
product is the squared distance. All partial sums are whole numbers of at most (|q| + |g|)^2
(Cauchy-Schwarz), which is at most (2 MAX_UNITS)^2 = 15.9e6. This is below 2^24, so float32 holds
each of them exactly, in any order of summation. MAX_LENGTH is above 1, because descriptors that
were stored in 8 or 16 bits do not have exactly unit length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from delf_ext.compiled import compiled
from delf_ext.config import require

UNITS_PER_ONE = 1800
MAX_LENGTH = 1.1
MAX_DIMS = 1024
# Rounding moves a descriptor by at most sqrt(d) / 2.
MAX_UNITS = MAX_LENGTH * UNITS_PER_ONE + MAX_DIMS**0.5 / 2
# Query rows times gallery columns of one product: 2 MB, which stay in the cache.
BLOCK_ROWS = 256
BLOCK_COLUMNS = 2048
CHUNK = 64
# Bits of the distance of a query to a gallery image without descriptors. As a float they are NaN.
FAR = np.int32(2**31 - 1)


@dataclass(frozen=True)
class MatchConfig:
    """Tests that a nearest neighbour must pass to become a match.

    Attributes:
        max_ratio: the distance to the nearest descriptor divided by the distance to the second
            nearest in the same gallery image must be below it (Lowe 2004, section 7.1). 1 turns
            the test off. A gallery image with one descriptor has no second nearest: the test fails.
        max_distance: largest distance between unit descriptors; 0 for no limit.
        mutual: the query descriptor must also be the nearest one to the gallery descriptor.
    """

    max_ratio: float = 0.9
    max_distance: float = 0.0
    mutual: bool = True

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UsageError: if a value is out of range.
        """
        require(
            0.0 < self.max_ratio <= 1.0, f"max_ratio must be in (0, 1]. Received {self.max_ratio}."
        )
        require(
            0.0 <= self.max_distance <= 2.0,
            "max_distance must be in [0, 2], the distances between unit descriptors. "
            f"Received {self.max_distance}.",
        )


class _Nearest(NamedTuple):
    """Nearest descriptors in each gallery image (first axis) of each query row (second axis).

    Attributes:
        rows: int32, row of the nearest descriptor; of equal distances the lowest row.
        squares: squared distance to it, in units, as the bits of a float32.
        second_squares: the same for the second nearest descriptor.
        is_mutual: bool, whether that descriptor has this query row as its nearest; of equal
            distances the lowest row.
    """

    rows: np.ndarray
    squares: np.ndarray
    second_squares: np.ndarray
    is_mutual: np.ndarray


def match(
    query: np.ndarray, gallery: Sequence[np.ndarray], config: MatchConfig
) -> list[np.ndarray]:
    """Match the descriptors of a query with those of each gallery image.

    It needs a few MB of memory, and the prepared descriptors of a few gallery images.

    Args:
        query: float [M, d] descriptors, unit length.
        gallery: for each image float [M_j, d] descriptors, unit length.
        config: see `MatchConfig`.

    Returns:
        For each gallery image, matches int32 [K, 2] (query row, gallery row), best first: by
        distance ratio, or by distance if the ratio test is off; ties by query row.

    Raises:
        ValueError: if d differs, or a length is far from 1.
    """
    for descriptors in gallery:
        if len(query) and len(descriptors) and query.shape[1] != descriptors.shape[1]:
            raise ValueError(
                "query and gallery descriptors must have the same d. "
                f"Received {query.shape}, {descriptors.shape}."
            )
    if not len(query):
        return [np.zeros((0, 2), np.int32) for _ in gallery]
    prepared = prepare(query)
    query_side = np.concatenate(
        [-2 * prepared[:, :-2], prepared[:, -1:], prepared[:, -2:-1]], axis=1
    )
    matches: list[np.ndarray] = []
    # Used for all products: to allocate one takes as long as to compute it.
    buffer = np.empty(0, np.float32)
    for group in _groups(gallery):
        bounds = np.cumsum([0, *map(len, group)])
        none = np.zeros((0, query_side.shape[1]), np.float32)
        gallery_side = np.concatenate([none, *(prepare(image) for image in group if len(image))])
        if buffer.size < BLOCK_ROWS * len(gallery_side):
            buffer = np.empty(BLOCK_ROWS * len(gallery_side), np.float32)
        nearest = _find_nearest(query_side, gallery_side, bounds, buffer)
        matches += [_select(config, nearest, image) for image in range(len(group))]
    return matches


def prepare(descriptors: np.ndarray) -> np.ndarray:
    """Round descriptors to whole numbers, and append their squared lengths and ones.

    Args:
        descriptors: float [M, d], unit length.

    Returns:
        float32 [M, d + 2] (g, |g|^2, 1), in units.

    Raises:
        ValueError: if the shape is another, or a length is far from 1.
    """
    if descriptors.ndim != 2 or descriptors.shape[1] > MAX_DIMS:
        raise ValueError(
            f"descriptors must be [M, d], d at most {MAX_DIMS}. Received shape={descriptors.shape}."
        )
    prepared = np.ones((len(descriptors), descriptors.shape[1] + 2), np.float32)
    units = prepared[:, :-2]
    squares = prepared[:, -2]
    np.multiply(descriptors, np.float32(UNITS_PER_ONE), out=units)
    np.rint(units, out=units)
    np.einsum("md,md->m", units, units, out=squares)
    # Not `squares > ...`, so that NaN is bad too.
    is_bad = ~(squares <= MAX_UNITS**2)
    if is_bad.any():
        row = int(np.argmax(is_bad))
        length = squares[row] ** 0.5 / UNITS_PER_ONE
        raise ValueError(f"descriptors must be of unit length. Row {row} has length {length:.4g}.")
    return prepared


def _groups(gallery: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yield consecutive images with at most BLOCK_COLUMNS descriptors, or one image with more."""
    group: list[np.ndarray] = []
    for descriptors in gallery:
        if group and sum(map(len, group)) + len(descriptors) > BLOCK_COLUMNS:
            yield group
            group = []
        group.append(descriptors)
    if group:
        yield group


def _find_nearest(
    query: np.ndarray, gallery: np.ndarray, bounds: np.ndarray, buffer: np.ndarray
) -> _Nearest:
    """Find the nearest descriptors in several gallery images.

    Args:
        query: float32 [M, d + 2], query side of the product.
        gallery: float32 [G, d + 2], gallery side of the product.
        bounds: int [N + 1], image i has the rows bounds[i] to bounds[i + 1] of `gallery`.
        buffer: float32 [BLOCK_ROWS * G] or more, scratch memory.

    Returns:
        The nearest descriptors in N images of M query rows.
    """
    shape = (len(bounds) - 1, len(query))
    nearest = _Nearest(
        np.zeros(shape, np.int32), np.full(shape, FAR), np.full(shape, FAR), np.zeros(shape, bool)
    )
    column_squares = np.full(len(gallery), FAR)
    for start in range(0, len(query), BLOCK_ROWS):
        block = query[start : start + BLOCK_ROWS]
        out = buffer[: len(block) * len(gallery)].reshape(len(block), len(gallery))
        squares = np.matmul(block, gallery.T, out=out)
        # Floats that are not negative have the order of their bits. Integers are compared faster.
        _scan_block(squares.view(np.int32), start, bounds, nearest, column_squares)
    # Later rows may be nearer. An image without descriptors has the last, which has no effect.
    if len(gallery):
        columns = np.minimum(nearest.rows + bounds[:-1, None], len(gallery) - 1)
        nearest.is_mutual[:] &= nearest.squares == column_squares[columns]
    return nearest


@compiled
def _scan_block(
    squares: np.ndarray,
    first_row: int,
    bounds: np.ndarray,
    nearest: _Nearest,
    column_squares: np.ndarray,
) -> None:
    """Update `nearest` and the least of each column by squared distances [rows, columns]."""
    for image in range(len(bounds) - 1):
        low = bounds[image]
        high = bounds[image + 1]
        column = column_squares[low:high]
        for row in range(len(squares) if high > low else 0):
            line = squares[row, low:high]
            least = _least(line)
            place = _first_position(line, least)
            # No earlier row is as near to that descriptor.
            nearest.is_mutual[image, first_row + row] = least < column[place]
            column[place] = min(column[place], least)
            nearest.rows[image, first_row + row] = place
            nearest.squares[image, first_row + row] = least
            before = _lower_columns(column[:place], line[:place])
            after = _lower_columns(column[place + 1 :], line[place + 1 :])
            nearest.second_squares[image, first_row + row] = min(before, after)


@compiled
def _least(line: np.ndarray) -> np.int32:
    least = FAR
    for j in range(len(line)):
        least = line[j] if line[j] < least else least
    return least


@compiled
def _first_position(line: np.ndarray, least: np.int32) -> int:
    """Return the first position of the least value; chunks without it are skipped quickly."""
    place = 0
    while place + CHUNK < len(line) and _least(line[place : place + CHUNK]) != least:
        place += CHUNK
    while line[place] != least:
        place += 1
    return place


@compiled
def _lower_columns(column: np.ndarray, line: np.ndarray) -> np.int32:
    """Lower each entry of `column` to that of `line`; return the least of the line."""
    least = FAR
    for j in range(len(line)):
        value = line[j]
        column[j] = value if value < column[j] else column[j]
        least = value if value < least else least
    return least


def _select(config: MatchConfig, nearest: _Nearest, image: int) -> np.ndarray:
    """Return the matches of one gallery image that pass all tests, best first, int32 [K, 2]."""
    squares = nearest.squares[image].view(np.float32).astype(np.float64)
    if config.max_ratio < 1:
        with np.errstate(invalid="ignore"):
            quality = squares / nearest.second_squares[image].view(np.float32)
        passed = quality < config.max_ratio**2
    else:
        quality = squares
        # NaN are the bits of FAR: the gallery image has no descriptor.
        passed = ~np.isnan(squares)
    if config.max_distance:
        passed &= squares <= (config.max_distance * UNITS_PER_ONE) ** 2
    if config.mutual:
        passed &= nearest.is_mutual[image]
    rows = np.flatnonzero(passed)
    rows = rows[np.argsort(quality[rows], kind="stable")]
    return np.stack([rows.astype(np.int32), nearest.rows[image][rows]], axis=1)
