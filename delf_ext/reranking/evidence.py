"""What geometric verification found, for whoever has to explain a re-ranked result."""

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
    """What verification found, place by place of the ranking that it returned.

    query_ids [Q] str; rows [Q, k] int32, gallery rows in the first k places, -1 pads; num_inliers [Q, k] int32, summed over
    extractors, -1 where not verified; accepted [Q, k] bool; scores [Q, k] float32, summed -log10 of the number of false alarms;
    left_alone [Q] str: why a query kept its ranking, "" where it was re-ranked.
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
        if (
            self.rows.ndim != 2
            or len(set(shapes)) != 1
            or not len(self.query_ids) == len(self.left_alone) == len(self.rows)
        ):
            raise ValueError(
                f"evidence must be [Q, k] in every field for {len(self.query_ids)} queries. Received {shapes}."
            )
        for name in ("rows", "num_inliers", "accepted", "scores", "left_alone"):
            getattr(self, name).setflags(write=False)

    @classmethod
    def nothing(cls, ranking: Ranking, reason: str) -> Evidence:
        """Of a ranking that was not verified, all of it."""
        shape = ranking.rows.shape
        found = (
            np.full(shape, NOT_VERIFIED, np.int32),
            np.zeros(shape, bool),
            np.zeros(shape, np.float32),
        )
        return cls(ranking.query_ids, ranking.rows, *found, np.full(shape[0], reason))

    @classmethod
    def joined(cls, blocks: Sequence[Evidence]) -> Evidence:
        """Blocks of queries, one behind the other."""
        return cls(
            *(
                np.concatenate([getattr(block, field.name) for block in blocks])
                for field in dataclasses.fields(cls)
            )
        )

    def reasons(self) -> dict[str, int]:
        """Why queries were left alone -> how many; those that were re-ranked are not among them."""
        return dict(sorted(Counter(str(reason) for reason in self.left_alone if reason).items()))

    def inliers_of(self, query_row: int) -> dict[int, tuple[int, bool]]:
        """Gallery row -> (num_inliers, accepted), of the verified candidates of one query."""
        verified = np.flatnonzero(self.num_inliers[query_row] > NOT_VERIFIED)
        columns = (self.rows[query_row], self.num_inliers[query_row], self.accepted[query_row])
        return {
            int(row): (int(number), bool(good))
            for row, number, good in zip(*(column[verified] for column in columns))
        }
