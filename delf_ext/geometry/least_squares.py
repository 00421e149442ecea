"""Least squares on matched points, compiled: written out rather than left to LAPACK, so that RANSAC may call them from its
loop and every machine gets the same bits.

A transform is an array h of 9, last entry 1. Points are [4, K]: x, y of the query, x, y of the gallery; `rows` picks columns.
Models are numbered 0 similarity, 1 affine, 2 homography; model + 2 matches determine one.
"""

from __future__ import annotations

import numpy as np

from delf_ext.compiled import compiled

THINNEST = 1e-6  # determinant over squared trace of a scatter below which it is a line
HOMOGRAPHY_ROUNDS = 3
Limits = tuple[float, float, float]


@compiled
def local_is_plausible(
    a: float, b: float, c: float, d: float, scale: float, limits: Limits
) -> bool:
    """The linear map (a b; c d) / scale, see `Plausible.limits`. Of stretches s, t the area is s t, the squares s^2 + t^2."""
    area, one = a * d - b * c, scale * scale
    if limits[2] != 0.0:
        area = abs(area)
    return (
        a * a + b * b + c * c + d * d <= limits[1] * area
        and area <= limits[0] * one
        and area * limits[0] >= one
    )


@compiled
def rows_are_plausible(h: np.ndarray, points: np.ndarray, rows: np.ndarray, limits: Limits) -> bool:
    for row in rows:
        x, y, first_x, first_y = (
            points[0, row],
            points[1, row],
            points[0, rows[0]],
            points[1, rows[0]],
        )
        w = h[6] * x + h[7] * y + h[8]
        if not w * (h[6] * first_x + h[7] * first_y + h[8]) > 0.0:
            return False
        u, v = (h[0] * x + h[1] * y + h[2]) / w, (h[3] * x + h[4] * y + h[5]) / w
        a, b, c, d = h[0] - u * h[6], h[1] - u * h[7], h[3] - v * h[6], h[4] - v * h[7]
        if not local_is_plausible(a, b, c, d, w, limits):
            return False
    return True


@compiled
def fit_rows(model: int, points: np.ndarray, rows: np.ndarray, h: np.ndarray) -> bool:
    """Least squares into h; False, and h undefined, where the rows do not determine the transform."""
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
    return (
        _fit_homography(points, rows, means, h)
        if model == 2
        else _fit_affine(model, points, rows, means, h)
    )


@compiled
def _fit_affine(
    model: int, points: np.ndarray, rows: np.ndarray, means: tuple[float, ...], h: np.ndarray
) -> bool:
    """Similarity (Umeyama 1991, without reflections) or affine map, by the normal equations about the centroids."""
    mean_x, mean_y, mean_u, mean_v = means
    xx = xy = yy = ux = uy = vx = vy = 0.0
    for row in rows:
        x, y, u, v = (
            points[0, row] - mean_x,
            points[1, row] - mean_y,
            points[2, row] - mean_u,
            points[3, row] - mean_v,
        )
        xx += x * x
        xy += x * y
        yy += y * y
        ux += u * x
        uy += u * y
        vx += v * x
        vy += v * y
    area, spread = xx * yy - xy * xy, xx + yy
    if not spread > 0.0 or (model == 1 and not area > THINNEST * spread * spread):
        return False
    if model == 0:
        h[0], h[3] = (ux + vy) / spread, (vx - uy) / spread
        h[1], h[4] = -h[3], h[0]
    else:
        h[0], h[1] = (ux * yy - uy * xy) / area, (uy * xx - ux * xy) / area
        h[3], h[4] = (vx * yy - vy * xy) / area, (vy * xx - vx * xy) / area
    h[2], h[5] = mean_u - h[0] * mean_x - h[1] * mean_y, mean_v - h[3] * mean_x - h[4] * mean_y
    h[6], h[7], h[8] = 0.0, 0.0, 1.0
    return True


@compiled
def _fit_homography(
    points: np.ndarray, rows: np.ndarray, means: tuple[float, ...], h: np.ndarray
) -> bool:
    """About the centroids and at unit spread, where the last entry can be 1: the centroid of the query is not at infinity.

    With p = (x, y, 1) and g = (h6, h7, 1), the two upper lines of h follow from g by linear least squares, S^-1 U g and
    S^-1 V g, and leave g' (R - U S^-1 U - V S^-1 V) g, where S, U, V, R = sum (1, u, v, u^2 + v^2) p p'.
    """
    mean_x, mean_y, mean_u, mean_v = means
    query_spread = gallery_spread = 0.0
    for row in rows:
        query_spread += (points[0, row] - mean_x) ** 2 + (points[1, row] - mean_y) ** 2
        gallery_spread += (points[2, row] - mean_u) ** 2 + (points[3, row] - mean_v) ** 2
    if not (query_spread > 0.0 and gallery_spread > 0.0):
        return False
    s, t = np.sqrt(2 * len(rows) / query_spread), np.sqrt(gallery_spread / (2 * len(rows)))
    sums, lines = np.empty((4, 3, 3)), np.zeros((3, 3))
    lines[2, 2] = 1.0
    for _ in range(HOMOGRAPHY_ROUNDS if len(rows) > 4 else 1):
        sums[:] = 0.0
        for row in rows:
            x, y = (points[0, row] - mean_x) * s, (points[1, row] - mean_y) * s
            u, v = (points[2, row] - mean_u) / t, (points[3, row] - mean_v) / t
            _add_products(sums, x, y, u, v, 1.0 / (lines[2, 0] * x + lines[2, 1] * y + 1.0) ** 2)
        if not _solve(sums, lines):
            return False
    for i in range(
        3
    ):  # lines on normalised points: first to gallery pixels, then from query pixels
        size, mean = (t, mean_u) if i == 0 else (t, mean_v) if i == 1 else (0.0, 1.0)
        a, b = size * lines[i, 0] + mean * lines[2, 0], size * lines[i, 1] + mean * lines[2, 1]
        h[3 * i], h[3 * i + 1] = a * s, b * s
        h[3 * i + 2] = size * lines[i, 2] + mean * lines[2, 2] - (a * mean_x + b * mean_y) * s
    last = h[8]
    for i in range(9):
        h[i] /= last
    return last != 0.0


@compiled
def _add_products(sums: np.ndarray, x: float, y: float, u: float, v: float, weight: float) -> None:
    """weight (1, u, v, u^2 + v^2) p p'."""
    p = (x, y, 1.0)
    for k, factor in enumerate((weight, weight * u, weight * v, weight * (u * u + v * v))):
        for i in range(3):
            for j in range(3):
                sums[k, i, j] += factor * p[i] * p[j]


@compiled
def _solve(sums: np.ndarray, lines: np.ndarray) -> bool:
    scatter, inverse = sums[0], np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            a, b, c, d = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
            inverse[i, j] = scatter[a, c] * scatter[b, d] - scatter[a, d] * scatter[b, c]
    determinant = (
        scatter[0, 0] * inverse[0, 0]
        + scatter[0, 1] * inverse[0, 1]
        + scatter[0, 2] * inverse[0, 2]
    )
    if (
        not determinant > THINNEST * scatter[2, 2] ** 3
    ):  # about the centroid and at unit spread the trace is 3 per point
        return False
    products, left = np.zeros((2, 3, 3)), sums[3]
    for k in range(2):
        _multiply(inverse, sums[k + 1], 1.0 / determinant, 0.0, products[k])
        _multiply(sums[k + 1], products[k], -1.0, 1.0, left)
    area, spread = left[0, 0] * left[1, 1] - left[0, 1] * left[1, 0], left[0, 0] + left[1, 1]
    if not area > THINNEST**2 * spread * spread:
        return False
    g, h = (
        (left[0, 1] * left[1, 2] - left[0, 2] * left[1, 1]) / area,
        (left[1, 0] * left[0, 2] - left[0, 0] * left[1, 2]) / area,
    )
    for k in range(2):
        for i in range(3):
            lines[k, i] = products[k, i, 0] * g + products[k, i, 1] * h + products[k, i, 2]
    lines[2, 0], lines[2, 1] = g, h
    return True


@compiled
def _multiply(
    left: np.ndarray, right: np.ndarray, factor: float, keep: float, result: np.ndarray
) -> None:
    """result = keep * result + factor * left right, 3 x 3."""
    for i in range(3):
        for j in range(3):
            total = left[i, 0] * right[0, j] + left[i, 1] * right[1, j] + left[i, 2] * right[2, j]
            result[i, j] = keep * result[i, j] + factor * total
