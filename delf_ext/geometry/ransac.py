"""Find the transform that most matches agree on (RANSAC).

Affine transforms and homographies are both sampled as affine transforms of 3 matches. With 90 %
outliers, 1 of 1,000 triples is free of outliers, but only 1 of 10,000 of the quadruples that
determine a homography. A promising transform is fitted again to its inliers, as the richest model
that they support. Samples come from a pool that grows from the best match to all matches.
Sources: LO-RANSAC (Chum, Matas and Kittler 2003), PROSAC (Chum and Matas 2005).

The result is a function of the matches, the configuration and the key, with the same bits on every
machine and with any number of threads: the random numbers are ours (`sampling`), and no compiler or
library may change the order of the floating-point operations (`consensus`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from delf_ext.compiled import NUM_THREADS
from delf_ext.config import require
from delf_ext.geometry.consensus import SearchSettings, search_pairs
from delf_ext.geometry.transforms import Plausible, index_of_model, matched_points

UINT64_MASK = 2**64 - 1


@dataclass(frozen=True)
class RansacConfig:
    """Settings of RANSAC.

    Attributes:
        model: similarity, affine or homography. With fewer than 2 inliers per match of its minimal
            sample, a simpler model is returned.
        max_error_px: largest residual of an inlier, in pixels of the gallery image.
        max_trials: most samples to draw.
        confidence: the search ends early if the probability of missing a better transform is below
            1 - confidence.
        min_inliers: a transform with fewer inliers is no result.
        place_px: matches in one square of this side, in either image, count once.
        plausible: limits of a transform.
        seed: chooses the samples, together with the key of each pair.
    """

    model: str = "affine"
    max_error_px: float = 10.0
    max_trials: int = 8000
    confidence: float = 0.999
    min_inliers: int = 4
    place_px: float = 1.0
    plausible: Plausible = Plausible()
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            UsageError: if one is out of range.
        """
        index_of_model(self.model)
        for name in ("max_error_px", "max_trials", "min_inliers", "place_px"):
            value = getattr(self, name)
            require(value > 0, f"{name} must be above 0. Received {value}.")
        require(
            0.0 < self.confidence < 1.0,
            f"confidence must be in (0, 1). Received {self.confidence}.",
        )


@dataclass(frozen=True, eq=False)
class Estimate:
    """Transform of one pair of images.

    Attributes:
        gallery_from_query: float64 [3, 3], last entry 1; None if no transform has `min_inliers`.
        inliers: bool [K], one per match.
    """

    gallery_from_query: np.ndarray | None
    inliers: np.ndarray

    @property
    def num_inliers(self) -> int:
        """Number of inliers."""
        return int(np.count_nonzero(self.inliers))


def estimate(
    query_px: np.ndarray, gallery_px: np.ndarray, config: RansacConfig, key: int = 0
) -> Estimate:
    """Find the transform of one pair of images.

    A transform's score is the sum of 1 - (residual / max_error_px)^2 over its inliers (MSAC; Torr
    and Zisserman 2000). If matches share a point in either image, only the best one can be
    an inlier.

    Args:
        query_px: float [K, 2] (x, y) of the matches in the query, best match first.
        gallery_px: float [K, 2] (x, y) of the same matches in the gallery image.
        config: see `RansacConfig`.
        key: chooses the samples, together with the seed.

    Returns:
        The best transform found; none if there are fewer matches than a sample needs.

    Raises:
        ValueError: if the points are not matched row by row.
    """
    points = matched_points(query_px, gallery_px)
    offsets = np.array([0, points.shape[1]])
    return estimate_all(points, offsets, np.array([config.max_error_px]), [key], config)[0]


def estimate_all(
    points: np.ndarray,
    offsets: np.ndarray,
    max_errors_px: np.ndarray,
    keys: Sequence[int],
    config: RansacConfig,
) -> list[Estimate]:
    """Find the transforms of N pairs of images, on NUMBA_NUM_THREADS threads.

    Args:
        points: float64 [4, T] matches of all pairs: x, y of the query, x, y of the gallery.
        offsets: int [N + 1], pair i has the matches offsets[i] to offsets[i + 1], best first.
        max_errors_px: float64 [N], used instead of `config.max_error_px`.
        keys: one per pair. So the result of a pair does not depend on the other pairs.
        config: see `RansacConfig`.

    Returns:
        One estimate per pair.
    """
    num_pairs = len(offsets) - 1
    transforms = np.zeros((num_pairs, 9))
    inliers = np.zeros(points.shape[1], bool)
    # Not numba's `prange`: OpenMP does not survive a fork, and it keeps a core busy while it waits.
    num_threads = max(1, min(NUM_THREADS, num_pairs))
    search = partial(
        search_pairs,
        points,
        offsets,
        max_errors_px,
        np.array([key & UINT64_MASK for key in keys], np.uint64),
        np.uint64(config.seed & UINT64_MASK),
        _search_settings(config),
        step=num_threads,
        transforms=transforms,
        inliers=inliers,
    )
    if num_threads > 1:
        with ThreadPoolExecutor(num_threads) as pool:
            list(pool.map(search, range(num_threads)))
    else:
        search(0)
    return [
        Estimate(h.reshape(3, 3) if h[8] else None, pair_inliers)
        for h, pair_inliers in zip(transforms, np.split(inliers, offsets[1:-1]))
    ]


def _search_settings(config: RansacConfig) -> SearchSettings:
    return SearchSettings(
        model=index_of_model(config.model),
        max_trials=config.max_trials,
        chance_to_miss=1.0 - config.confidence,
        min_inliers=config.min_inliers,
        place_px=config.place_px,
        limits=config.plausible.for_compiled_code(),
    )
