"""Verify that two images show the same object: enough matches must agree on one transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma, log, log10, pi

import numpy as np

from data_io.records import ImageKeypoints
from delf_ext.config import require
from delf_ext.geometry.matching import MatchConfig, match
from delf_ext.geometry.ransac import Estimate, RansacConfig, estimate_all
from delf_ext.geometry.transforms import index_of_model


@dataclass(frozen=True)
class VerifyConfig:
    """Settings of matching and verification.

    The query is scaled to the longer side of the gallery image first. So plausible scales compare
    shares of the image, and `ransac.place_px` are pixels of the gallery image in both.

    Attributes:
        match: settings of matching.
        ransac: settings of RANSAC, except `max_error_px`.
        max_error_fraction: largest residual of an inlier divided by the longer side of the gallery
            image. It replaces `ransac.max_error_px`: 10 pixels are many in a thumbnail.
        accepted_from: minimum number of inliers to accept a pair.
        min_spread: minimum `spread` of the inliers in both images to accept a pair. Lines of text,
            symmetry and mirror images have inliers in a thin strip.
    """

    match: MatchConfig = MatchConfig()
    ransac: RansacConfig = RansacConfig()
    max_error_fraction: float = 0.015
    accepted_from: int = 12
    min_spread: float = 0.15

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UsageError: if one is out of range.
        """
        require(
            self.accepted_from >= 1,
            f"accepted_from must be at least 1. Received {self.accepted_from}.",
        )
        require(
            0.0 < self.max_error_fraction < 1.0,
            f"max_error_fraction must be in (0, 1). Received {self.max_error_fraction}.",
        )


@dataclass(frozen=True, eq=False)
class Verification:
    """Evidence that one gallery image shows the same object as the query.

    Attributes:
        matches: int32 [K, 2] (query row, gallery row), best first.
        inliers: bool [K], one-to-one.
        num_inliers: number of inliers.
        gallery_from_query: float64 [3, 3] in pixels of the original images; None without inliers.
        significance: see the function `significance`.
        accepted: whether the inliers are enough and not in a strip.
    """

    matches: np.ndarray
    inliers: np.ndarray
    num_inliers: int
    gallery_from_query: np.ndarray | None
    significance: float
    accepted: bool = False


def verify(
    query: ImageKeypoints,
    gallery: Sequence[ImageKeypoints],
    keys: Sequence[int],
    config: VerifyConfig,
) -> list[Verification]:
    """Verify all candidates of one query.

    The result of a candidate depends on the features of the two images, its key and the config. It
    does not depend on the other candidates, their order, the threads or the machine.

    Args:
        query: local features of the query.
        gallery: local features of each candidate.
        keys: one integer per candidate that seeds its RANSAC, such as its gallery row.
        config: see `VerifyConfig`.

    Returns:
        One verification per candidate; images without keypoints have no inliers.

    Raises:
        ValueError: if descriptors have different d, or there is not one key per candidate.
    """
    if len(keys) != len(gallery):
        raise ValueError(
            f"verify needs one key per candidate. Received {len(keys)} for {len(gallery)}."
        )
    matches = match(query.descriptors, [image.descriptors for image in gallery], config.match)
    offsets = np.cumsum([0, *map(len, matches)])
    sides = np.array([max(1, *image.size_px) for image in gallery], np.float64)
    scales = sides / max(1, *query.size_px)
    points = np.empty((4, offsets[-1]))
    for row, image in enumerate(gallery):
        columns = slice(offsets[row], offsets[row + 1])
        query_rows, gallery_rows = matches[row].T
        points[:2, columns] = query.keypoints_px[query_rows].T * scales[row]
        points[2:, columns] = image.keypoints_px[gallery_rows].T
    max_errors_px = config.max_error_fraction * sides
    estimates = estimate_all(points, offsets, max_errors_px, keys, config.ransac)
    return [
        _verification(query, image, rows, estimate, scale, config)
        for image, rows, estimate, scale in zip(gallery, matches, estimates, scales, strict=True)
    ]


def _verification(
    query: ImageKeypoints,
    image: ImageKeypoints,
    matches: np.ndarray,
    estimate: Estimate,
    scale: float,
    config: VerifyConfig,
) -> Verification:
    """Return the evidence of an estimate from a query that was scaled by `scale`."""
    if estimate.gallery_from_query is None:
        return Verification(matches, estimate.inliers, 0, None, 0.0)
    width, height = image.size_px
    max_error_px = config.max_error_fraction * max(width, height)
    num_inliers = estimate.num_inliers
    query_rows, gallery_rows = matches[estimate.inliers].T
    accepted = (
        num_inliers >= config.accepted_from
        and spread(query.keypoints_px[query_rows]) >= config.min_spread
        and spread(image.keypoints_px[gallery_rows]) >= config.min_spread
    )
    return Verification(
        matches,
        estimate.inliers,
        num_inliers,
        estimate.gallery_from_query * (scale, scale, 1.0),
        significance(
            len(matches),
            num_inliers,
            sample_size=index_of_model(config.ransac.model) + 2,
            by_chance=min(1.0, pi * max_error_px**2 / (width * height)),
        ),
        accepted,
    )


def spread(points: np.ndarray) -> float:
    """Return how evenly points are spread in two directions.

    >>> spread(np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0], [4.0, 2.0]]))
    0.5

    Args:
        points: float [K, 2].

    Returns:
        Smaller divided by larger standard deviation along the principal axes: 0 for a line, 1 for
        a disc or a square.
    """
    x, y = (points - points.mean(axis=0)).astype(np.float64).T
    total = x @ x + y @ y
    difference = np.hypot(x @ x - y @ y, 2 * (x @ y))
    if not total > 0:
        return 0.0
    return float(np.sqrt(max(total - difference, 0.0) / (total + difference)))


def significance(num_matches: int, num_inliers: int, sample_size: int, by_chance: float) -> float:
    """Return -log10 of the expected number of such transforms among random matches (NFA).

    NFA = (n - m) C(n, k) C(k, m) alpha^(k - m), with n matches, k inliers, m matches per sample.
    The significances of two kinds of features may be added.

    Source: a contrario RANSAC; Moisan and Stival 2004; Moisan, Moulon and Monasse 2012 (IPOL 2),
    equation 5.

    Args:
        num_matches: n.
        num_inliers: k.
        sample_size: m.
        by_chance: alpha, the probability that a random match is an inlier: the area within the
            largest error divided by the area of the gallery image.

    Returns:
        Higher is better; 0 if the expected number is above 1.
    """
    if num_inliers <= sample_size:
        return 0.0
    num_tests_log10 = (
        log10(num_matches - sample_size)
        + _log10_choose(num_matches, num_inliers)
        + _log10_choose(num_inliers, sample_size)
    )
    value = -num_tests_log10 - (num_inliers - sample_size) * log10(by_chance)
    # Rounded, because logarithms differ in their last bits between machines.
    return max(0.0, round(value, 6))


def _log10_choose(n: int, k: int) -> float:
    return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(10)
