"""Find the relevant images in rankings: the input of every metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_io.records import GroundTruth, Ranking

RELEVANT = 1
JUNK = 2


@dataclass(frozen=True, eq=False)
class Hits:
    """Places of the relevant images in each query's ranking, without junk.

    Attributes:
        query_ids: str [Q].
        positions: per query int64 [hits], 0-based places of the relevant images, ascending.
        num_relevant: int64 [Q], relevant images in the gallery, found or not.
        depth: int64 [Q], ranked images; below `num_candidates` if the ranking was cut.
        num_candidates: int64 [Q], images in the gallery.
    """

    query_ids: np.ndarray
    positions: tuple[np.ndarray, ...]
    num_relevant: np.ndarray
    depth: np.ndarray
    num_candidates: np.ndarray

    def __post_init__(self) -> None:
        lengths = {
            len(getattr(self, name))
            for name in ("query_ids", "positions", "num_relevant", "depth", "num_candidates")
        }
        if len(lengths) != 1:
            raise ValueError(
                "hits must have one entry per query in every field. "
                f"Received lengths {sorted(lengths)}."
            )

    def __len__(self) -> int:
        return len(self.query_ids)

    def take(self, rows: Sequence[int] | np.ndarray) -> Hits:
        """Return the hits of some queries.

        Args:
            rows: int [M], or a bool mask [Q].

        Returns:
            Hits in the order of `rows`.
        """
        chosen = np.arange(len(self))[np.asarray(rows)]
        return Hits(
            self.query_ids[chosen],
            tuple(self.positions[row] for row in chosen),
            self.num_relevant[chosen],
            self.depth[chosen],
            self.num_candidates[chosen],
        )


def hits_of(ranking: Ranking, truth: GroundTruth) -> Hits:
    """Find the relevant images in a ranking.

    Args:
        ranking: of all queries, or of a block of them.
        truth: of the same queries.

    Returns:
        Hits of the queries, in their order.

    Raises:
        ValueError: query ids or the sizes of the galleries differ.
    """
    if len(ranking.query_ids) != len(truth) or (ranking.query_ids != truth.query_ids).any():
        raise ValueError(
            "ranking and ground truth must have the same queries in the same order. "
            f"Received {len(ranking.query_ids)} and {len(truth)} queries."
        )
    if len(ranking.gallery_ids) != truth.num_gallery:
        raise ValueError(
            "ranking and ground truth must have one gallery. "
            f"Received {len(ranking.gallery_ids)} and {truth.num_gallery} images."
        )
    role = np.zeros(truth.num_gallery, np.int8)
    positions = []
    depth = np.zeros(len(truth), np.int64)
    for query_row, (relevant, junk) in enumerate(zip(truth.relevant, truth.junk, strict=True)):
        role[relevant] = RELEVANT
        role[junk] = JUNK
        rows = ranking.rows[query_row]
        ranked = role[rows[rows >= 0]]
        ranked = ranked[ranked != JUNK]
        positions.append(np.flatnonzero(ranked == RELEVANT))
        depth[query_row] = len(ranked)
        role[relevant] = 0
        role[junk] = 0
    num_relevant = np.array([len(rows) for rows in truth.relevant], np.int64)
    num_candidates = truth.num_gallery - np.array([len(rows) for rows in truth.junk], np.int64)
    return Hits(truth.query_ids, tuple(positions), num_relevant, depth, num_candidates)


def hits_of_similarities(
    query_ids: np.ndarray,
    similarities: np.ndarray,
    is_relevant: np.ndarray,
    is_junk: np.ndarray | None = None,
) -> Hits:
    """Rank a gallery by similarity and find the relevant images, without a `Ranking`.

    It is for trials with many models on few images: the similarities are in memory together. Equal
    ones are ranked in the order of the gallery, as in a search.

    Args:
        query_ids: str [Q].
        similarities: float [Q, G].
        is_relevant: bool [Q, G].
        is_junk: bool [Q, G], images that do not count; None = none. No image may be both.

    Returns:
        Hits of the queries.
    """
    depth = np.full(len(query_ids), similarities.shape[1])
    if is_junk is not None:
        similarities = np.where(is_junk, -np.inf, similarities)
        depth = depth - is_junk.sum(axis=1)
    positions = map(_positions, -similarities, is_relevant)
    return Hits(query_ids, tuple(positions), is_relevant.sum(axis=1), depth, depth)


def _positions(distances: np.ndarray, is_relevant: np.ndarray) -> np.ndarray:
    """Return the places [hits] of the relevant images in the ranking of one query, ascending."""
    relevant = distances[is_relevant]
    # Values alone are sorted in less time than their order.
    ordered = np.sort(distances)
    positions = np.searchsorted(ordered, relevant, "left")
    if (np.searchsorted(ordered, relevant, "right") > positions + 1).any():
        return np.flatnonzero(is_relevant[np.argsort(distances, kind="stable")])
    return np.sort(positions)


def concatenate(blocks: Sequence[Hits]) -> Hits:
    """Join the hits of several blocks of queries.

    Args:
        blocks: at least one.

    Returns:
        Hits of all queries, in the order of the blocks.

    Raises:
        ValueError: there is no block, or a query appears twice.
    """
    if not blocks:
        raise ValueError("concatenate needs at least one block of hits.")
    query_ids = np.concatenate([block.query_ids for block in blocks])
    if len(np.unique(query_ids)) != len(query_ids):
        raise ValueError("blocks of hits must not share a query.")
    return Hits(
        query_ids,
        tuple(positions for block in blocks for positions in block.positions),
        np.concatenate([block.num_relevant for block in blocks]),
        np.concatenate([block.depth for block in blocks]),
        np.concatenate([block.num_candidates for block in blocks]),
    )
