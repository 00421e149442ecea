"""Keep the result of geometric verification, to explain a re-ranked result."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_io.records import Ranking

NOT_VERIFIED = -1


@dataclass(frozen=True, eq=False)
class Evidence:
    """Result of verification, in the order of the ranking that it returned.

    Attributes:
        query_ids: str [Q].
        rows: int32 [Q, k], gallery rows of the first k places; -1 pads the end.
        num_inliers: int32 [Q, k], summed over extractors; -1 if not verified.
        accepted: bool [Q, k].
        scores: float32 [Q, k], -log10 of the number of false alarms, summed over extractors.
        left_alone: str [Q], why a query kept its ranking; "" if it was re-ranked.
    """

    query_ids: np.ndarray
    rows: np.ndarray
    num_inliers: np.ndarray
    accepted: np.ndarray
    scores: np.ndarray
    left_alone: np.ndarray

    def __post_init__(self) -> None:
        shapes = [
            getattr(self, name).shape for name in ("rows", "num_inliers", "accepted", "scores")
        ]
        same_lengths = len(self.query_ids) == len(self.left_alone) == len(self.rows)
        if self.rows.ndim != 2 or len(set(shapes)) != 1 or not same_lengths:
            raise ValueError(
                f"evidence must be [Q, k] in every field for {len(self.query_ids)} queries. "
                f"Received {shapes}."
            )
        for name in ("rows", "num_inliers", "accepted", "scores", "left_alone"):
            getattr(self, name).setflags(write=False)

    @classmethod
    def nothing(cls, ranking: Ranking, reason: str) -> Evidence:
        """Return the evidence of a ranking of which no candidate was verified.

        Args:
            ranking: [Q, k].
            reason: why its queries keep their ranking.
        """
        shape = ranking.rows.shape
        return cls(
            ranking.query_ids,
            ranking.rows,
            num_inliers=np.full(shape, NOT_VERIFIED, np.int32),
            accepted=np.zeros(shape, bool),
            scores=np.zeros(shape, np.float32),
            left_alone=np.full(shape[0], reason),
        )

    @classmethod
    def joined(cls, blocks: Sequence[Evidence]) -> Evidence:
        """Join the evidence of several blocks of queries, in their order."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(block, name) for block in blocks]) for name in names))

    def reasons(self) -> dict[str, int]:
        """Count the queries that kept their ranking, by reason."""
        return dict(sorted(Counter(str(reason) for reason in self.left_alone if reason).items()))

    def inliers_of(self, query_row: int) -> dict[int, tuple[int, bool]]:
        """Return (num_inliers, accepted) of each verified candidate of a query, by gallery row."""
        places = np.flatnonzero(self.num_inliers[query_row] > NOT_VERIFIED)
        return {
            int(self.rows[query_row, place]): (
                int(self.num_inliers[query_row, place]),
                bool(self.accepted[query_row, place]),
            )
            for place in places
        }
