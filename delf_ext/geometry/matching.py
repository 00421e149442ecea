"""Descriptors that are each other's nearest, between one query and many gallery images at once.

Exactness. A BLAS sums a product in an order that depends on its tiles, threads and machine, so float32 distances of equal
descriptors can differ in the last bit. Here components are whole numbers of 1/UNITS_PER_ONE. A gallery descriptor g is
stored as (g, |g|^2, 1), a query descriptor q as (-2q, 1, |q|^2): their product is the squared distance, and any partial sum
of it is a whole number of at most (|q| + |g|)^2 by Cauchy-Schwarz. With lengths up to MAX_LENGTH (descriptors kept in 8 or
16 bits are not quite of unit length) and rounding, up to sqrt(d) / 2, that is at most (2 * (1.1 * 1800 + 16))^2 = 15.9e6,
below 2^24: float32 holds each exactly. So the result is a function of the descriptors alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from delf_ext.compiled import compiled
from delf_ext.config import UsageError

UNITS_PER_ONE = 1800
MAX_LENGTH = 1.1
MAX_DIMS = 1024
MAX_UNITS = MAX_LENGTH * UNITS_PER_ONE + MAX_DIMS**0.5 / 2
BLOCK_ROWS = 256  # query rows times gallery columns of one product: 2 MB, so that what it writes is read from a cache
BLOCK_COLUMNS = 2048
CHUNK = 64
FAR = np.int32(2**31 - 1)


@dataclass(frozen=True)
class MatchConfig:
    """Which nearest neighbours become matches.

    max_ratio: distance to the nearest over distance to the second nearest descriptor of the gallery image must be below it
    (Lowe 2004, section 7.1); 1 turns the test off. In a gallery image with one descriptor nothing is second nearest, and the
    test fails. max_distance: between unit descriptors, 0 for no limit. mutual: the query descriptor must also be the one
    nearest to the gallery descriptor. Raises: UsageError where a value is out of range.
    """

    max_ratio: float = 0.9
    max_distance: float = 0.0
    mutual: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.max_ratio <= 1.0:
            raise UsageError(f"max_ratio must lie in (0, 1]. Received {self.max_ratio}.")
        if not 0.0 <= self.max_distance <= 2.0:
            raise UsageError(
                f"max_distance must lie in [0, 2]: it is between unit descriptors. Received {self.max_distance}."
            )


def match(
    query: np.ndarray, gallery: Sequence[np.ndarray], config: MatchConfig
) -> list[np.ndarray]:
    """The matches between a query's descriptors [M, d] and those of each gallery image [M_j, d].

    Returns: per gallery image [K, 2] int32 (query row, gallery row), best first: by distance ratio, or by distance where that
    test is off; ties by query row. Of descriptors equally near the lowest row counts as the nearest.
    Memory: a few MB, and the prepared descriptors of a few gallery images.
    Raises: ValueError where d differs, or lengths are far from 1.
    """
    for descriptors in gallery:
        if len(query) and len(descriptors) and query.shape[1] != descriptors.shape[1]:
            raise ValueError(
                f"query and gallery descriptors must have the same d. Received {query.shape}, {descriptors.shape}."
            )
    units = prepare(query)
    doubled = np.concatenate([-2 * units[:, :-2], units[:, -1:], units[:, -2:-1]], axis=1)
    matches, buffer = (
        [],
        np.empty(0, np.float32),
    )  # kept: fresh memory for each product costs as much as the product
    for group in _groups(gallery if len(query) else [query] * len(gallery)):
        bounds = np.cumsum([0, *map(len, group)])
        stacked = np.concatenate(
            [
                np.zeros((0, doubled.shape[1]), np.float32),
                *(prepare(image) for image in group if len(image)),
            ]
        )
        if buffer.size < BLOCK_ROWS * len(stacked):
            buffer = np.empty(BLOCK_ROWS * len(stacked), np.float32)
        columns = _neighbours(doubled, stacked, bounds, buffer)
        matches += [
            _chosen(config, *(column[image] for column in columns)) for image in range(len(group))
        ]
    return matches


def prepare(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors [M, d] of unit length as whole numbers (g, |g|^2, 1): [M, d + 2] float32. Raises: ValueError on others."""
    if descriptors.ndim != 2 or descriptors.shape[1] > MAX_DIMS:
        raise ValueError(
            f"descriptors must be [M, d], d at most {MAX_DIMS}. Received shape={descriptors.shape}."
        )
    result = np.ones((len(descriptors), descriptors.shape[1] + 2), np.float32)
    units, squares = result[:, :-2], result[:, -2]
    np.rint(np.multiply(descriptors, np.float32(UNITS_PER_ONE), out=units), out=units)
    np.einsum("md,md->m", units, units, out=squares)
    bad = ~(squares <= MAX_UNITS**2)  # written so that NaN counts as bad
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"descriptors must be of unit length. Row {row} has length {squares[row] ** 0.5 / UNITS_PER_ONE:.4g}."
        )
    return result


def _groups(gallery: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Neighbouring images with at most BLOCK_COLUMNS descriptors together, or one image with more."""
    group: list[np.ndarray] = []
    for descriptors in gallery:
        if group and sum(map(len, group)) + len(descriptors) > BLOCK_COLUMNS:
            yield group
            group = []
        group.append(descriptors)
    if group:
        yield group


def _neighbours(
    query: np.ndarray, gallery: np.ndarray, bounds: np.ndarray, buffer: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Per gallery image and query row: nearest row, its squared distance, that of the second nearest, whether it is mutual."""
    shape = (len(bounds) - 1, len(query))
    nearest, best, second = np.zeros(shape, np.int32), np.full(shape, FAR), np.full(shape, FAR)
    leads, column_best = np.zeros(shape, bool), np.full(len(gallery), FAR)
    for start in range(0, len(query), BLOCK_ROWS):
        block = query[start : start + BLOCK_ROWS]
        squares = np.matmul(
            block,
            gallery.T,
            out=buffer[: len(block) * len(gallery)].reshape(len(block), len(gallery)),
        )
        # Floats that are not negative are ordered as their bits are; the least of whole numbers is found many at a time.
        _scan(squares.view(np.int32), start, bounds, nearest, best, second, leads, column_best)
    columns = np.minimum(nearest + bounds[:-1, None], max(len(gallery) - 1, 0))
    mutual = leads & (best == column_best[columns]) if len(gallery) else leads
    return nearest, best.view(np.float32), second.view(np.float32), mutual


@compiled
def _scan(
    squares: np.ndarray,
    first_row: int,
    bounds: np.ndarray,
    nearest: np.ndarray,
    best: np.ndarray,
    second: np.ndarray,
    leads: np.ndarray,
    column_best: np.ndarray,
) -> None:
    """One block of squared distances, as bits [rows, columns]; leads: nearer to its nearest than all query rows before it."""
    for image in range(len(bounds) - 1):
        low, high = bounds[image], bounds[image + 1]
        column = column_best[low:high]
        for row in range(len(squares) if high > low else 0):
            line = squares[row, low:high]
            least = _least(line)
            place = _place(line, least)
            leads[image, first_row + row] = least < column[place]
            column[place] = min(column[place], least)
            nearest[image, first_row + row] = place
            best[image, first_row + row] = least
            before, after = (
                _lower(column[:place], line[:place]),
                _lower(column[place + 1 :], line[place + 1 :]),
            )
            second[image, first_row + row] = min(before, after)


@compiled
def _least(line: np.ndarray) -> np.int32:
    least = FAR
    for j in range(len(line)):
        least = line[j] if line[j] < least else least
    return least


@compiled
def _place(line: np.ndarray, value: np.int32) -> int:
    """The first place of `value`, which is the least of the line; whole chunks are passed over at vector speed."""
    place = 0
    while place + CHUNK < len(line) and _least(line[place : place + CHUNK]) != value:
        place += CHUNK
    while line[place] != value:
        place += 1
    return place


@compiled
def _lower(column: np.ndarray, line: np.ndarray) -> np.int32:
    """The least of the line, which also lowers the least of each column so far."""
    least = FAR
    for j in range(len(line)):
        value = line[j]
        column[j] = value if value < column[j] else column[j]
        least = value if value < least else least
    return least


def _chosen(
    config: MatchConfig,
    nearest: np.ndarray,
    best: np.ndarray,
    second: np.ndarray,
    mutual: np.ndarray,
) -> np.ndarray:
    """The rows of one gallery image that pass all tests, best first, [K, 2] int32."""
    squares, quality = best.astype(np.float64), best.astype(np.float64)
    passed = ~np.isnan(best)  # FAR's bits are NaN: the gallery image has no descriptor
    if config.max_ratio < 1:
        with np.errstate(invalid="ignore"):
            quality = squares / second
        passed = quality < config.max_ratio**2
    if config.max_distance:
        passed &= squares <= (config.max_distance * UNITS_PER_ONE) ** 2
    if config.mutual:
        passed &= mutual
    rows = np.flatnonzero(passed)
    rows = rows[np.argsort(quality[rows], kind="stable")]
    return np.stack([rows.astype(np.int32), nearest[rows]], axis=1)
