"""Plane transforms `gallery_from_query`, 3 x 3 and homogeneous: fit, apply, residuals, and whether one is plausible."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delf_ext.config import UsageError
from delf_ext.geometry.least_squares import Limits, fit_rows, rows_are_plausible

MODELS = (
    "similarity",
    "affine",
    "homography",
)  # each holds those before it; numbered as in least_squares


@dataclass(frozen=True)
class Plausible:
    """What a photograph of the same thing can have done to it, tested at every matched point.

    max_scale: the local scale, square root of the change in area, lies within [1 / max_scale, max_scale]. max_anisotropy: the
    most over the least stretched direction, at most: a sheet seen at 70 degrees to its normal gives 2.9. allow_mirror: or the
    orientation is kept. A homography whose denominator changes its sign among the points (it folds them) never passes.
    Raises: UsageError where a limit is below 1.
    """

    max_scale: float = 4.0
    max_anisotropy: float = 3.0
    allow_mirror: bool = False

    def __post_init__(self) -> None:
        for name in ("max_scale", "max_anisotropy"):
            if not getattr(self, name) >= 1.0:
                raise UsageError(f"{name} must be at least 1. Received {getattr(self, name)}.")

    def limits(self) -> Limits:
        """(largest determinant, largest of anisotropy + 1 / anisotropy, 1 where mirrors pass), for `local_is_plausible`."""
        return (
            self.max_scale**2,
            self.max_anisotropy + 1 / self.max_anisotropy,
            float(self.allow_mirror),
        )


def fit(model: str, query_px: np.ndarray, gallery_px: np.ndarray) -> np.ndarray | None:
    """The transform of least squared residuals, [3, 3] float64, last entry 1; query_px and gallery_px are [K, 2].

    Exact on a minimal sample (2, 3, 4 matches). Homography: normalised direct linear transform (Hartley 1997), repeated with
    each equation divided by its denominator so that residuals are nearly in pixels (Hartley and Zisserman 2004, section 4.3).
    Returns: None where the points do not determine it: too few, coincident, on one line. Raises: ValueError on other shapes.
    """
    points = matched_points(query_px, gallery_px)
    transform = np.zeros(9)
    found = fit_rows(model_number(model), points, np.arange(points.shape[1]), transform)
    return transform.reshape(3, 3) if found else None


def apply(gallery_from_query: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """Points [K, 2] through the transform, [K, 2] float64; infinite or NaN for points on its horizon."""
    mapped = (
        np.asarray(points_px, np.float64) @ gallery_from_query[:, :2].T + gallery_from_query[:, 2]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return mapped[:, :2] / mapped[:, 2:]


def residuals_px(
    gallery_from_query: np.ndarray, query_px: np.ndarray, gallery_px: np.ndarray
) -> np.ndarray:
    """Distance [K] in the gallery image between each mapped query point and its match."""
    return np.linalg.norm(apply(gallery_from_query, query_px) - gallery_px, axis=1)


def is_plausible(
    gallery_from_query: np.ndarray, query_px: np.ndarray, plausible: Plausible
) -> bool:
    """Whether the transform stays within the limits at each of the points [K, 2]."""
    points = matched_points(query_px, query_px)
    transform = np.ascontiguousarray(gallery_from_query, np.float64).ravel()
    return bool(
        rows_are_plausible(transform, points, np.arange(points.shape[1]), plausible.limits())
    )


def model_number(model: str) -> int:
    if model not in MODELS:
        raise UsageError(f"model must be one of {', '.join(MODELS)}. Received {model}.")
    return MODELS.index(model)


def matched_points(query_px: np.ndarray, gallery_px: np.ndarray) -> np.ndarray:
    """[4, K] float64: x, y of the query, x, y of the gallery."""
    if query_px.ndim != 2 or query_px.shape[1] != 2 or query_px.shape != gallery_px.shape:
        raise ValueError(
            f"matched points must be [K, 2] twice. Received {query_px.shape} and {gallery_px.shape}."
        )
    return np.ascontiguousarray(np.concatenate([query_px, gallery_px], axis=1, dtype=np.float64).T)
