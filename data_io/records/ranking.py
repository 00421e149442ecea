"""Define the ranking of a gallery for each query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_io.records.checked_arrays import (
    readonly,
    readonly_texts,
    require_unique,
    set_fields,
    set_trusted_fields,
)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Gallery images of each query, the nearest first.

    Attributes:
        query_ids: str [Q], unique.
        gallery_ids: str [G], unique.
        rows: int32 [Q, k], gallery rows; -1 pads the end.
        scores: float32 [Q, k], higher is nearer, never rising along a row.
        complete: bool [Q], False if a time budget cut the work on this query; None means all True.
        provenance: how the ranking was made.
    """

    query_ids: np.ndarray
    gallery_ids: np.ndarray
    rows: np.ndarray
    scores: np.ndarray
    complete: np.ndarray | None = None
    provenance: str = ""

    def __post_init__(self) -> None:
        complete = np.ones(len(self.query_ids), bool) if self.complete is None else self.complete
        set_fields(
            self,
            query_ids=readonly_texts(self.query_ids),
            gallery_ids=readonly_texts(self.gallery_ids),
            rows=readonly(self.rows, np.int32),
            scores=readonly(self.scores, np.float32),
            complete=readonly(complete, bool),
        )
        require_unique(self.query_ids, "query ids")
        require_unique(self.gallery_ids, "gallery ids")
        shape = self.rows.shape
        if len(shape) != 2 or shape != self.scores.shape or shape[0] != len(self.query_ids):
            raise ValueError(
                f"rows and scores must be [Q, k] for {len(self.query_ids)} queries. "
                f"Received {shape} and {self.scores.shape}."
            )
        self._check_rows()
        self._check_scores()

    def _check_rows(self) -> None:
        if self.rows.size == 0:
            return
        lowest = self.rows.min()
        highest = self.rows.max()
        last_row = len(self.gallery_ids) - 1
        if lowest < -1 or highest > last_row:
            raise ValueError(f"rows must be in -1..{last_row}. Received {lowest}..{highest}.")
        used = self.rows >= 0
        if (used[:, 1:] & ~used[:, :-1]).any():
            raise ValueError("rows: -1 may only pad the end of a ranking.")
        ordered = np.sort(self.rows, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
            raise ValueError("rows: an image may appear only once in a ranking.")

    def _check_scores(self) -> None:
        used = self.rows >= 0
        if not np.isfinite(self.scores[used]).all():
            raise ValueError("scores must be finite.")
        if ((self.scores[:, 1:] > self.scores[:, :-1]) & used[:, 1:]).any():
            raise ValueError("scores must never rise along a ranking: higher is nearer.")

    def __len__(self) -> int:
        return len(self.query_ids)

    @classmethod
    def trusted(
        cls,
        *,
        query_ids: np.ndarray,
        gallery_ids: np.ndarray,
        rows: np.ndarray,
        scores: np.ndarray,
        complete: np.ndarray | None = None,
        provenance: str = "",
    ) -> Ranking:
        """Build a record without checking its content.

        Only for parts that were checked before or are right by construction. The arrays are not
        copied; they become read-only in place.

        Args:
            query_ids: str [Q], unique.
            gallery_ids: str [G], unique.
            rows: int32 [Q, k], gallery rows; -1 pads the end.
            scores: float32 [Q, k], never rising along a row.
            complete: bool [Q]; None means that every query is complete.
            provenance: how the ranking was made.

        Returns:
            A record that shares the given arrays.
        """
        if complete is None:
            complete = np.ones(len(query_ids), bool)
        assert query_ids.dtype.kind == gallery_ids.dtype.kind == "U"
        assert (rows.dtype, scores.dtype, complete.dtype) == (np.int32, np.float32, bool)
        assert rows.ndim == 2
        assert rows.shape == scores.shape
        assert len(rows) == len(query_ids) == len(complete)
        ranking = cls.__new__(cls)
        set_trusted_fields(
            ranking,
            query_ids=query_ids,
            gallery_ids=gallery_ids,
            rows=rows,
            scores=scores,
            complete=complete,
            provenance=provenance,
        )
        return ranking

    def block(self, queries: slice) -> Ranking:
        """Return the ranking of some of the queries; its arrays are views of this one's."""
        return self._with(
            query_ids=self.query_ids[queries],
            rows=self.rows[queries],
            scores=self.scores[queries],
            complete=np.asarray(self.complete)[queries],
        )

    def cut(self, k: int) -> Ranking:
        """Return the first `k` places of each query."""
        return self._with(
            rows=np.ascontiguousarray(self.rows[:, :k]),
            scores=np.ascontiguousarray(self.scores[:, :k]),
        )

    def _with(self, **columns: np.ndarray) -> Ranking:
        return self.trusted(**{**vars(self), **columns})

    @classmethod
    def joined(cls, blocks: Sequence[Ranking]) -> Ranking:
        """Join rankings of different queries over one gallery.

        Args:
            blocks: at least one; all have the same gallery and the same k, no query is in two.

        Returns:
            The ranking of the queries of all blocks, in order.
        """
        columns = {
            name: np.concatenate([getattr(block, name) for block in blocks])
            for name in ("query_ids", "rows", "scores", "complete")
        }
        return blocks[0]._with(**columns)
