"""Name the models of plane transforms, apply a transform, and set what is plausible.

A transform `gallery_from_query` is a homogeneous 3 x 3 matrix from query pixels to gallery pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delf_ext.config import require
from delf_ext.geometry.least_squares import Limits

# Each model includes the ones before it. The order is that of the numbers in `least_squares`.
MODELS = ("similarity", "affine", "homography")


@dataclass(frozen=True)
class Plausible:
    """Limits of what a camera can do to an object, tested at every match.

    A homography whose horizon separates the matches is never plausible.

    Attributes:
        max_scale: local scale, the square root of the change in area, is in
            [1 / max_scale, max_scale].
        max_anisotropy: largest ratio of the most to the least stretched direction. A sheet seen at
            70 degrees to its normal has 2.9.
        allow_mirror: whether the transform may change the orientation.
    """

    max_scale: float = 4.0
    max_anisotropy: float = 3.0
    allow_mirror: bool = False

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            UsageError: if a limit is below 1.
        """
        for name in ("max_scale", "max_anisotropy"):
            value = getattr(self, name)
            require(value >= 1.0, f"{name} must be at least 1. Received {value}.")

    def for_compiled_code(self) -> Limits:
        """Return the limits in the form that the compiled functions use."""
        max_stretch_sum = self.max_anisotropy + 1 / self.max_anisotropy
        return Limits(self.max_scale**2, max_stretch_sum, float(self.allow_mirror))


def apply(gallery_from_query: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """Map points through a transform.

    Args:
        gallery_from_query: float [3, 3].
        points_px: float [K, 2] (x, y).

    Returns:
        float64 [K, 2]; infinite or NaN for points on the horizon of a homography.
    """
    points = np.asarray(points_px, np.float64)
    mapped = points @ gallery_from_query[:, :2].T + gallery_from_query[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return mapped[:, :2] / mapped[:, 2:]


def index_of_model(model: str) -> int:
    """Return the position of a model's name in MODELS.

    Raises:
        UsageError: if there is no such model.
    """
    require(model in MODELS, f"model must be one of {', '.join(MODELS)}. Received {model}.")
    return MODELS.index(model)


def matched_points(query_px: np.ndarray, gallery_px: np.ndarray) -> np.ndarray:
    """Return matched points in the layout of the compiled functions.

    Args:
        query_px: float [K, 2] (x, y).
        gallery_px: float [K, 2] (x, y), row by row the match of `query_px`.

    Returns:
        float64 [4, K]: x, y of the query, x, y of the gallery.

    Raises:
        ValueError: if the shapes are not equal, or not [K, 2].
    """
    if query_px.ndim != 2 or query_px.shape[1] != 2 or query_px.shape != gallery_px.shape:
        raise ValueError(
            "query_px and gallery_px must both be [K, 2]. "
            f"Received {query_px.shape} and {gallery_px.shape}."
        )
    return np.ascontiguousarray(np.concatenate([query_px, gallery_px], axis=1, dtype=np.float64).T)
