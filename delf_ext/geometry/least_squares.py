"""Fit plane transforms to matches by least squares, and check that they are plausible (compiled).

The equations are solved by loops written out here, not by LAPACK. So RANSAC can call them inside
its compiled loop, and the results have the same bits on every machine.

In this file a transform is an array `h` of 9 numbers, the rows of the 3 x 3 matrix, last entry 1.
Matches are `points` [4, K]: x, y of the query, then x, y of the gallery. `rows` selects columns of
it. A model is a number: 0 similarity, 1 affine, 2 homography. `model + 2` matches determine it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from delf_ext.compiled import compiled
from delf_ext.geometry.sampling import Affine, LinearPart

SIMILARITY = 0
AFFINE = 1
HOMOGRAPHY = 2
# Points are on a line if the determinant of their scatter is below this share of its squared trace.
MIN_SCATTER_RATIO = 1e-6
HOMOGRAPHY_ROUNDS = 3


class Limits(NamedTuple):
    """Limits of a plausible transform, in the form that the compiled functions use.

    Attributes:
        max_area_change: largest factor by which an area may grow or shrink.
        max_stretch_sum: largest sum of the anisotropy and its inverse.
        allow_mirror: 1.0 if mirrored transforms are plausible, otherwise 0.0.
    """

    max_area_change: float
    max_stretch_sum: float
    allow_mirror: float


@compiled
def is_plausible_linear(linear: LinearPart, limits: Limits) -> bool:
    """Return whether the linear map (a b; c d) / scale is within the limits.

    With singular values s and t, the determinant is s t and the squared entries sum to s^2 + t^2.

    Args:
        linear: (a, b, c, d, scale).
        limits: see `Limits`.
    """
    a, b, c, d, scale = linear
    area = a * d - b * c
    unit_area = scale * scale
    if limits.allow_mirror != 0.0:
        area = abs(area)
    return (
        a * a + b * b + c * c + d * d <= limits.max_stretch_sum * area
        and area <= limits.max_area_change * unit_area
        and area * limits.max_area_change >= unit_area
    )


@compiled
def is_plausible_at(h: np.ndarray, points: np.ndarray, rows: np.ndarray, limits: Limits) -> bool:
    """Return whether the derivative of a transform is within the limits at each selected point.

    Args:
        h: float64 [9] transform.
        points: float64 [4, K] matches.
        rows: int [N] columns of `points`.
        limits: see `Limits`.

    Returns:
        False also if the horizon of a homography separates the points.
    """
    first_w = 0.0
    for row in rows:
        u, v, w = project(h, points[0, row], points[1, row])
        if row == rows[0]:
            first_w = w
        if not w * first_w > 0.0:
            return False
        a = h[0] - u * h[6]
        b = h[1] - u * h[7]
        c = h[3] - v * h[6]
        d = h[4] - v * h[7]
        if not is_plausible_linear((a, b, c, d, w), limits):
            return False
    return True


@compiled
def project(h: np.ndarray, x: float, y: float) -> tuple[float, float, float]:
    """Map a point through a transform.

    Args:
        h: float64 [9] transform.
        x: of the point.
        y: of the point.

    Returns:
        (x, y, w) in the gallery image; w changes its sign at the horizon.
    """
    w = h[6] * x + h[7] * y + h[8]
    return (h[0] * x + h[1] * y + h[2]) / w, (h[3] * x + h[4] * y + h[5]) / w, w


@compiled
def set_affine(h: np.ndarray, affine: Affine) -> None:
    """Write an affine transform to `h`.

    Args:
        h: float64 [9], output.
        affine: the two upper rows.
    """
    # A loop over a tuple would keep the tuple in memory, not in registers.
    h[0], h[1], h[2], h[3], h[4], h[5] = affine
    h[6] = 0.0
    h[7] = 0.0
    h[8] = 1.0


@compiled
def fit_least_squares(model: int, points: np.ndarray, rows: np.ndarray, h: np.ndarray) -> bool:
    """Write to `h` the transform with the least squared residuals.

    It is exact on a minimal sample of `model + 2` matches.

    Args:
        model: SIMILARITY, AFFINE or HOMOGRAPHY.
        points: float64 [4, K] matches.
        rows: int [N] columns of `points` to fit.
        h: float64 [9], output.

    Returns:
        False if the matches do not determine the transform; then `h` has no meaning.
    """
    if len(rows) < model + 2:
        return False
    mean_x = mean_y = mean_u = mean_v = 0.0
    for row in rows:
        mean_x += points[0, row]
        mean_y += points[1, row]
        mean_u += points[2, row]
        mean_v += points[3, row]
    n = len(rows)
    means = (mean_x / n, mean_y / n, mean_u / n, mean_v / n)
    if model == HOMOGRAPHY:
        return _fit_homography(points, rows, means, h)
    return _fit_affine(model, points, rows, means, h)


@compiled
def _fit_affine(
    model: int, points: np.ndarray, rows: np.ndarray, means: tuple[float, ...], h: np.ndarray
) -> bool:
    """Fit a similarity or an affine transform by the normal equations about the centroids.

    Source for the similarity: Umeyama 1991, without reflections.

    Returns:
        False if the matches do not determine it.
    """
    mean_x, mean_y, mean_u, mean_v = means
    xx = xy = yy = ux = uy = vx = vy = 0.0
    for row in rows:
        x = points[0, row] - mean_x
        y = points[1, row] - mean_y
        u = points[2, row] - mean_u
        v = points[3, row] - mean_v
        xx += x * x
        xy += x * y
        yy += y * y
        ux += u * x
        uy += u * y
        vx += v * x
        vy += v * y
    area = xx * yy - xy * xy
    spread = xx + yy
    if not spread > 0.0:
        return False
    if model == SIMILARITY:
        a = d = (ux + vy) / spread
        c = (vx - uy) / spread
        b = -c
    else:
        if not area > MIN_SCATTER_RATIO * spread * spread:
            return False
        a = (ux * yy - uy * xy) / area
        b = (uy * xx - ux * xy) / area
        c = (vx * yy - vy * xy) / area
        d = (vy * xx - vx * xy) / area
    right = mean_u - a * mean_x - b * mean_y
    down = mean_v - c * mean_x - d * mean_y
    set_affine(h, (a, b, right, c, d, down))
    return True


@compiled
def _fit_homography(
    points: np.ndarray, rows: np.ndarray, means: tuple[float, ...], h: np.ndarray
) -> bool:
    """Fit a homography by the normalised direct linear transform (Hartley 1997).

    Each round divides an equation by its denominator in the round before, so that the residuals are
    nearly in pixels (Hartley and Zisserman 2004, section 4.3). Points are moved to their centroid
    and scaled to unit spread first. Then the last entry can be 1, because the centroid of the query
    is not mapped to infinity.

    Returns:
        False if the matches do not determine it.
    """
    mean_x, mean_y, mean_u, mean_v = means
    query_spread = gallery_spread = 0.0
    for row in rows:
        query_spread += (points[0, row] - mean_x) ** 2 + (points[1, row] - mean_y) ** 2
        gallery_spread += (points[2, row] - mean_u) ** 2 + (points[3, row] - mean_v) ** 2
    if not (query_spread > 0.0 and gallery_spread > 0.0):
        return False
    s = np.sqrt(2 * len(rows) / query_spread)
    t = np.sqrt(gallery_spread / (2 * len(rows)))
    sums = np.empty((4, 3, 3))
    lines = np.zeros((3, 3))
    lines[2, 2] = 1.0
    for _ in range(HOMOGRAPHY_ROUNDS if len(rows) > 4 else 1):
        sums[:] = 0.0
        for row in rows:
            x = (points[0, row] - mean_x) * s
            y = (points[1, row] - mean_y) * s
            u = (points[2, row] - mean_u) / t
            v = (points[3, row] - mean_v) / t
            weight = 1.0 / (lines[2, 0] * x + lines[2, 1] * y + 1.0) ** 2
            _add_products(sums, x, y, u, v, weight)
        if not _solve_homography(sums, lines):
            return False
    return _to_pixels(lines, means, s, t, h)


@compiled
def _to_pixels(
    lines: np.ndarray, means: tuple[float, ...], s: float, t: float, h: np.ndarray
) -> bool:
    """Write to `h` the homography between pixels from `lines` [3, 3] between normalised points."""
    mean_x, mean_y, mean_u, mean_v = means
    sizes = (t, t, 0.0)
    origins = (mean_u, mean_v, 1.0)
    for i in range(3):
        a = sizes[i] * lines[i, 0] + origins[i] * lines[2, 0]
        b = sizes[i] * lines[i, 1] + origins[i] * lines[2, 1]
        h[3 * i] = a * s
        h[3 * i + 1] = b * s
        h[3 * i + 2] = (
            sizes[i] * lines[i, 2] + origins[i] * lines[2, 2] - (a * mean_x + b * mean_y) * s
        )
    last = h[8]
    for i in range(9):
        h[i] /= last
    return last != 0.0


@compiled
def _add_products(sums: np.ndarray, x: float, y: float, u: float, v: float, weight: float) -> None:
    """Add weight (1, u, v, u^2 + v^2) p p' to `sums` [4, 3, 3], with p = (x, y, 1)."""
    p = (x, y, 1.0)
    for k, factor in enumerate((weight, weight * u, weight * v, weight * (u * u + v * v))):
        for i in range(3):
            for j in range(3):
                sums[k, i, j] += factor * p[i] * p[j]


@compiled
def _solve_homography(sums: np.ndarray, lines: np.ndarray) -> bool:
    """Write to `lines` [3, 3] the homography of the sums (S, U, V, R) of `_add_products`.

    With its last line g = (g, h, 1), least squares gives the two upper lines S^-1 U g and S^-1 V g.
    What remains to be minimised is g' (R - U S^-1 U - V S^-1 V) g.

    Returns:
        False if the matches do not determine it.
    """
    scatter = sums[0]
    inverse = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            a = (i + 1) % 3
            b = (i + 2) % 3
            c = (j + 1) % 3
            d = (j + 2) % 3
            inverse[i, j] = scatter[a, c] * scatter[b, d] - scatter[a, d] * scatter[b, c]
    determinant = 0.0
    for j in range(3):
        determinant += scatter[0, j] * inverse[0, j]
    # About the centroid and at unit spread, the trace is 3 per point.
    if not determinant > MIN_SCATTER_RATIO * scatter[2, 2] ** 3:
        return False
    products = np.zeros((2, 3, 3))
    left = sums[3]
    for k in range(2):
        _multiply_into(inverse, sums[k + 1], 1.0 / determinant, 0.0, products[k])
        _multiply_into(sums[k + 1], products[k], -1.0, 1.0, left)
    area = left[0, 0] * left[1, 1] - left[0, 1] * left[1, 0]
    spread = left[0, 0] + left[1, 1]
    if not area > MIN_SCATTER_RATIO**2 * spread * spread:
        return False
    g = (left[0, 1] * left[1, 2] - left[0, 2] * left[1, 1]) / area
    h = (left[1, 0] * left[0, 2] - left[0, 0] * left[1, 2]) / area
    for k in range(2):
        for i in range(3):
            lines[k, i] = products[k, i, 0] * g + products[k, i, 1] * h + products[k, i, 2]
    lines[2, 0] = g
    lines[2, 1] = h
    return True


@compiled
def _multiply_into(
    left: np.ndarray, right: np.ndarray, factor: float, keep: float, result: np.ndarray
) -> None:
    """Set result = keep * result + factor * left @ right, all [3, 3]."""
    for i in range(3):
        for j in range(3):
            total = 0.0
            for k in range(3):
                total += left[i, k] * right[k, j]
            result[i, j] = keep * result[i, j] + factor * total
