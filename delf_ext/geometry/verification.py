"""Do two photographs show the same thing? Matches that one transform explains, for all candidates of a query at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma, log, log10, pi

import numpy as np

from data_io.records import ImageKeypoints
from delf_ext.config import UsageError
from delf_ext.geometry.matching import MatchConfig, match
from delf_ext.geometry.ransac import Estimate, RansacConfig, estimate_all
from delf_ext.geometry.transforms import MODELS


@dataclass(frozen=True)
class VerifyConfig:
    """How to match and verify.

    max_error_fraction: residual of an inlier over the longer side of the gallery image; it stands in for ransac.max_error_px,
    since 10 pixels are much in a thumbnail and little in a photograph. For the same reason the query is first brought to the
    longer side of the gallery image: a plausible scale is the change of an object's share of the frame, and ransac.place_px
    are pixels of the gallery image on both sides. accepted_from: inliers from which a pair is believed, unless in either image
    they lie in a strip, as lines of text, symmetry and mirror images make them: smaller over larger standard deviation below
    min_spread.
    Raises: UsageError where one is out of range.
    """

    match: MatchConfig = MatchConfig()
    ransac: RansacConfig = RansacConfig()
    max_error_fraction: float = 0.015
    accepted_from: int = 12
    min_spread: float = 0.15

    def __post_init__(self) -> None:
        if self.accepted_from < 1:
            raise UsageError(f"accepted_from must be at least 1. Received {self.accepted_from}.")
        if not 0.0 < self.max_error_fraction < 1.0:
            raise UsageError(
                f"max_error_fraction must lie in (0, 1). Received {self.max_error_fraction}."
            )


@dataclass(frozen=True, eq=False)
class Verification:
    """What speaks for one candidate.

    matches [K, 2] int32 (query row, gallery row), best first; inliers [K] bool, one-to-one; num_inliers; gallery_from_query
    [3, 3] float64 in pixels of the two original images, None without inliers; significance: see the function of that name;
    accepted: whether the inliers suffice.
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
    """All candidates of one query, in their order; keys: one integer per candidate that seeds its search, such as its row.

    A candidate's result is a function of both images' features, its key and the config: not of the other candidates, their
    order, the threads or the machine. Images without keypoints get no inlier.
    Raises: ValueError where descriptors do not fit together, or there is not one key per candidate.
    """
    if len(keys) != len(gallery):
        raise ValueError(
            f"verify needs one key per candidate. Received {len(keys)} for {len(gallery)}."
        )
    matches = match(query.descriptors, [image.descriptors for image in gallery], config.match)
    offsets = np.cumsum([0, *map(len, matches)])
    points, sides = (
        np.empty((4, offsets[-1])),
        np.array([max(1, *image.size_px) for image in gallery], np.float64),
    )
    scales = sides / max(1, *query.size_px)
    for image, rows, scale, start, stop in zip(
        gallery, matches, scales, offsets[:-1], offsets[1:], strict=True
    ):
        points[:2, start:stop] = query.keypoints_px[rows[:, 0]].T * scale
        points[2:, start:stop] = image.keypoints_px[rows[:, 1]].T
    estimates = estimate_all(
        points, offsets, config.max_error_fraction * sides, keys, config.ransac
    )
    return [
        _verification(query, image, rows, estimate, scale, config)
        for rows, estimate, scale, image in zip(matches, estimates, scales, gallery, strict=True)
    ]


def _verification(
    query: ImageKeypoints,
    image: ImageKeypoints,
    matches: np.ndarray,
    estimate: Estimate,
    scale: float,
    config: VerifyConfig,
) -> Verification:
    transform, num_inliers, size_px = (
        estimate.gallery_from_query,
        estimate.num_inliers,
        image.size_px,
    )
    if transform is None:
        return Verification(matches, estimate.inliers, 0, None, 0.0)
    max_error_px, sample_size = (
        config.max_error_fraction * max(size_px),
        MODELS.index(config.ransac.model) + 2,
    )
    by_chance = min(1.0, pi * max_error_px**2 / (size_px[0] * size_px[1]))
    certain = significance(len(matches), num_inliers, sample_size, by_chance)
    rows = matches[estimate.inliers].T
    accepted = num_inliers >= config.accepted_from and config.min_spread <= min(
        spread(points) for points in (query.keypoints_px[rows[0]], image.keypoints_px[rows[1]])
    )
    return Verification(
        matches, estimate.inliers, num_inliers, transform * (scale, scale, 1.0), certain, accepted
    )


def spread(points: np.ndarray) -> float:
    """Smaller over larger standard deviation of points [K, 2] along their principal axes: 0 on a line, 1 in a disc or square.

    >>> spread(np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0], [4.0, 2.0]]))
    0.5
    """
    x, y = (points - points.mean(axis=0)).astype(np.float64).T
    both, apart = x @ x + y @ y, np.hypot(x @ x - y @ y, 2 * (x @ y))
    return float(np.sqrt(max(both - apart, 0.0) / (both + apart))) if both > 0 else 0.0


def significance(num_matches: int, num_inliers: int, sample_size: int, by_chance: float) -> float:
    """-log10 of the number of transforms with so many inliers to be expected among random matches; 0 where that exceeds 1.

    NFA = (n - m) C(n, k) C(k, m) alpha^(k - m), n matches, k inliers, m matches to a sample, alpha = `by_chance`: the share of
    the gallery image within the error allowed. Higher is better. Evidence of two kinds of features adds up: 3 + 4 is 7.
    Source: a contrario RANSAC; Moisan and Stival 2004; Moisan, Moulon and Monasse 2012 (IPOL 2), equation 5.
    """
    if num_inliers <= sample_size:
        return 0.0
    tests = (
        log10(num_matches - sample_size)
        + _log10_choose(num_matches, num_inliers)
        + _log10_choose(num_inliers, sample_size)
    )
    return max(
        0.0, round(-tests - (num_inliers - sample_size) * log10(by_chance), 6)
    )  # logarithms differ in their last bits


def _log10_choose(n: int, k: int) -> float:
    return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(10)
