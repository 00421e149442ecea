"""RANSAC on matched points: seeded, the same bits on every machine, optimised locally from simple to richer models.

Affine maps and homographies are both sampled as affine maps of 3 matches: at 90 % outliers 1 triple in 1,000 is good, but only
1 in 10,000 of the quadruples that a homography takes. Local optimisation (Chum, Matas and Kittler 2003) fits a promising
transform again to its inliers, as the richest model that they support. Matches come best first, and samples are drawn from a
pool that grows from the best to all of them (PROSAC; Chum and Matas 2005). There is no floating point here whose order a
compiler or a number of threads may change, and the random numbers are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np

from delf_ext.config import UsageError
from delf_ext.geometry.consensus import search_some
from delf_ext.geometry.transforms import Plausible, matched_points, model_number

NUM_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


@dataclass(frozen=True)
class RansacConfig:
    """How to look for a transform.

    model: similarity, affine or homography; the richest that may be returned: fewer than 2 inliers per match of its minimal
    sample get a simpler one. max_error_px: residual of an inlier in the gallery image. max_trials; confidence: the search ends
    early when a better transform has been missed with probability 1 - confidence. min_inliers: fewer are no result.
    place_px: matches within one cell of this side in either image count once. seed: together with a key given to each pair.
    Raises: UsageError where a value is out of range.
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
        model_number(self.model)
        for name in ("max_error_px", "max_trials", "min_inliers", "place_px"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be above 0. Received {getattr(self, name)}.")
        if not 0.0 < self.confidence < 1.0:
            raise UsageError(f"confidence must lie in (0, 1). Received {self.confidence}.")


@dataclass(frozen=True, eq=False)
class Estimate:
    """gallery_from_query [3, 3] float64, last entry 1, or None where no transform has min_inliers; inliers [K] bool."""

    gallery_from_query: np.ndarray | None
    inliers: np.ndarray

    @property
    def num_inliers(self) -> int:
        return int(np.count_nonzero(self.inliers))


def estimate(
    query_px: np.ndarray, gallery_px: np.ndarray, config: RansacConfig, key: int = 0
) -> Estimate:
    """The transform that most matches agree on; query_px, gallery_px [K, 2], matched row by row, best match first.

    Score: 1 - (residual / max_error_px)^2 summed over inliers (MSAC; Torr and Zisserman 2000). Inliers are one-to-one: of
    matches in one place of either image the best counts. Fewer matches than a sample takes: None and no inlier.
    The result is a function of the points, the config and the key alone.
    """
    points = matched_points(query_px, gallery_px)
    return estimate_all(
        points, np.array([0, points.shape[1]]), np.array([config.max_error_px]), [key], config
    )[0]


def estimate_all(
    points: np.ndarray,
    offsets: np.ndarray,
    max_errors_px: np.ndarray,
    keys: Sequence[int],
    config: RansacConfig,
) -> list[Estimate]:
    """As `estimate` for N pairs at once, on NUMBA_NUM_THREADS threads.

    points [4, T]: x, y of the query, x, y of the gallery, those of pair i from offsets[i] to offsets[i + 1]; max_errors_px [N]
    stand in for the config's; keys: one per pair, so that its result does not depend on the others.
    """
    # Threads of Python, not `prange`: OpenMP does not survive a fork, spins while it waits, and takes longer to compile.
    num_pairs, states = len(offsets) - 1, np.array([key & (2**64 - 1) for key in keys], np.uint64)
    transforms, inliers = np.zeros((num_pairs, 9)), np.zeros(points.shape[1], bool)
    how = (
        model_number(config.model),
        config.max_trials,
        1.0 - config.confidence,
        config.min_inliers,
        config.place_px,
    )
    arguments = (
        points,
        offsets,
        max_errors_px,
        states,
        np.uint64(config.seed & (2**64 - 1)),
        how,
        config.plausible.limits(),
    )
    num_threads = min(NUM_THREADS, num_pairs)
    if num_threads > 1:
        with ThreadPoolExecutor(num_threads) as pool:
            list(
                pool.map(
                    lambda first: search_some(*arguments, first, num_threads, transforms, inliers),
                    range(num_threads),
                )
            )
    else:
        search_some(*arguments, 0, 1, transforms, inliers)
    found = zip(transforms, np.split(inliers, offsets[1:-1]))
    return [Estimate(h.reshape(3, 3) if h[8] else None, which) for h, which in found]
