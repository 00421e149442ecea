"""Run the geometric step of a chain, with local features that are extracted on request.

Features are extracted block by block, so that a deadline can also cut the extraction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data_io.records import ImageKeypoints, ImageList, LocalFeatures, Ranking
from delf_ext.geometry.verification import verify
from delf_ext.reranking.deadline import Abandoned, Deadline
from delf_ext.reranking.evidence import Evidence
from delf_ext.reranking.geometric import NO_TIME_LEFT, GeometricConfig, rerank_geometric
from delf_ext.reranking.trial import Trial

# Small under a deadline, so that the cost of extraction is known early.
QUERIES_PER_BLOCK = 8
COMPILED_KEYPOINTS = 32

# (queries, candidates, deadline) -> features of both, per extractor.
# Raises TimeoutError if they cannot be extracted in time.
LocalOf = Callable[[ImageList, ImageList, Deadline], Sequence[tuple[LocalFeatures, LocalFeatures]]]


class Verifier:
    """Geometric verification of rankings: the `verifier` of `run_chain`.

    Attributes:
        evidence: result of the last call that was not a trial; None before it.
    """

    def __init__(
        self, query: ImageList, gallery: ImageList, local_of: LocalOf, config: GeometricConfig
    ) -> None:
        """Prepare for rankings of `query` in `gallery`.

        Args:
            query: images of all queries.
            gallery: images of the whole gallery.
            local_of: returns the local features of some of these images.
            config: its `top_k` is replaced in each call.
        """
        self._query = query
        self._gallery = gallery
        self._local_of = local_of
        self._config = config
        self.evidence: Evidence | None = None

    def __call__(self, ranking: Ranking, top_k: int, deadline: Deadline) -> Ranking:
        """Re-rank as `rerank_geometric` does.

        Args:
            ranking: [Q, k].
            top_k: candidates to verify per query.
            deadline: the first queries are verified, as many as there is time for.

        Returns:
            A ranking [Q, k]; queries that were not reached are unchanged and not complete.
        """
        config = dataclasses.replace(self._config, top_k=top_k)
        results: list[tuple[Ranking, Evidence]] = []
        for block in self._blocks(len(ranking), deadline):
            try:
                results.append(self._verified(ranking.block(block), config, deadline))
            except TimeoutError:
                break
        num_done = sum(len(part) for part, _ in results)
        if num_done < len(ranking) or not results:
            rest = ranking.block(slice(num_done, len(ranking)))
            unfinished = dataclasses.replace(rest, complete=np.zeros(len(rest), bool))
            results.append((unfinished, Evidence.nothing(rest.cut(top_k), NO_TIME_LEFT)))
        if not isinstance(deadline, Trial):
            self.evidence = Evidence.joined([evidence for _, evidence in results])
        return Ranking.joined([part for part, _ in results])

    def _blocks(self, num_queries: int, deadline: Deadline) -> Iterator[slice]:
        if not deadline.is_limited:
            return deadline.blocks(num_queries, num_queries, what="verifying")
        try:
            deadline.sooner(deadline.first_s).run(self._compile)
        except Abandoned:
            return iter(())
        return deadline.blocks(num_queries, QUERIES_PER_BLOCK, what="verifying")

    def _verified(
        self, ranking: Ranking, config: GeometricConfig, deadline: Deadline
    ) -> tuple[Ranking, Evidence]:
        candidates = np.unique(ranking.rows[:, : config.top_k])
        query = self._query.take(np.isin(self._query.ids, ranking.query_ids))
        local = self._local_of(query, self._gallery.take(candidates[candidates >= 0]), deadline)
        return rerank_geometric(
            ranking, [pair[0] for pair in local], [pair[1] for pair in local], config
        )

    def _compile(self) -> None:
        points = np.random.default_rng(0).uniform(0, 99, (COMPILED_KEYPOINTS, 2))
        ones = np.ones(COMPILED_KEYPOINTS)
        image = ImageKeypoints(points, ones, ones, np.eye(COMPILED_KEYPOINTS), (100, 100))
        for way in self._config.verify:
            verify(image, [image], [0], way)
