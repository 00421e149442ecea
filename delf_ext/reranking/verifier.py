"""The geometric step of a chain: local features come when they are asked for, so that a deadline can cut their extraction too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from data_io.records import ImageKeypoints, ImageList, LocalFeatures, Ranking
from delf_ext.geometry.verification import verify
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.evidence import Evidence
from delf_ext.reranking.geometric import NO_TIME_LEFT, GeometricConfig, rerank_geometric

QUERIES_PER_BLOCK = 8  # under a deadline: what their extraction may cost is seen early
TRIED = 32  # keypoints that compiling is tried on

# (queries, candidates, deadline) -> features of both, per extractor. Raises TimeoutError where they are not extracted in time.
LocalOf = Callable[[ImageList, ImageList, Deadline], Sequence[tuple[LocalFeatures, LocalFeatures]]]


class Verifier:
    """Verifies rankings of `query` in `gallery` with the features that `local_of` has, or extracts; what `run_chain` asks for.

    evidence: what the last call found.
    """

    def __init__(
        self, query: ImageList, gallery: ImageList, local_of: LocalOf, config: GeometricConfig
    ) -> None:
        self._query, self._gallery, self._local_of, self._config = query, gallery, local_of, config
        self.evidence: Evidence | None = None

    def __call__(self, ranking: Ranking, top_k: int, deadline: Deadline) -> Ranking:
        """As `rerank_geometric`. Under a deadline the first queries of the ranking, as many as there is time for."""
        config, size = (
            dataclasses.replace(self._config, top_k=top_k),
            QUERIES_PER_BLOCK if deadline.is_limited else len(ranking),
        )
        blocks = (
            deadline.blocks(len(ranking), size, what="verifying")
            if deadline.ends_in_time(self._compile)
            else iter(())
        )
        done: list[tuple[Ranking, Evidence]] = []
        for block in blocks:
            try:
                done.append(self._verified(ranking.block(block), config, deadline))
            except TimeoutError:
                break
        rest = ranking.block(slice(sum(len(part) for part, _ in done), len(ranking)))
        if len(rest) or not done:
            unfinished = dataclasses.replace(rest, complete=np.zeros(len(rest), bool))
            done.append((unfinished, Evidence.nothing(rest.cut(top_k), NO_TIME_LEFT)))
        self.evidence = Evidence.joined([evidence for _, evidence in done])
        return Ranking.joined([part for part, _ in done])

    def _verified(
        self, ranking: Ranking, config: GeometricConfig, deadline: Deadline
    ) -> tuple[Ranking, Evidence]:
        wanted = np.unique(ranking.rows[:, : config.top_k])
        query = self._query.take(np.isin(self._query.ids, ranking.query_ids))
        local = self._local_of(query, self._gallery.take(wanted[wanted >= 0]), deadline)
        return rerank_geometric(
            ranking, [pair[0] for pair in local], [pair[1] for pair in local], config
        )

    def _compile(self) -> None:
        points = np.random.default_rng(0).uniform(0, 99, (TRIED, 2))
        image = ImageKeypoints(points, np.ones(TRIED), np.ones(TRIED), np.eye(TRIED), (100, 100))
        for way in self._config.verify:
            verify(image, [image], [0], way)
