"""The main path on one screen: photographs -> features -> ranking -> re-ranked. Front door, report and demo all call it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_io.records import GlobalFeatures, GroundTruth, ImageList, Ranking
from delf_ext.evaluation.metrics import Hits, concatenate, hits_of
from delf_ext.features.embedder import EmbedsImages, Ensemble
from delf_ext.features.extraction import BATCH_SIZE, extract_global
from delf_ext.features.query_copies import require_built, with_copy
from delf_ext.index.exact import search, search_blocks
from delf_ext.recipes.schema import TestTime
from delf_ext.reranking.chain import run_chain
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.query_expansion import average_copies
from delf_ext.reranking.steps import Step
from delf_ext.reranking.verifier import Verifier

KEPT_PER_QUERY = 1000  # on disk, and of a ranking too large for memory; the challenge's official code cut there too
PLACES_IN_MEMORY = 5 * 10**7  # 400 MB of rows and scores
NO_COPIES = TestTime()


@dataclass(frozen=True, eq=False)
class Retrieval:
    """One model's embeddings of queries and gallery; the image lists hold exactly the images that have one."""

    query: ImageList
    gallery: ImageList
    query_features: GlobalFeatures
    gallery_features: GlobalFeatures

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(path, reason), each file once."""
        return tuple(dict.fromkeys((*self.query.skipped, *self.gallery.skipped)))


def embed(
    model: EmbedsImages | Ensemble,
    query: ImageList,
    gallery: ImageList,
    batch_size: int = BATCH_SIZE,
    test_time: TestTime = NO_COPIES,
    deadline: Deadline | None = None,
) -> Retrieval:
    """Photographs to features. Queries that are the gallery are embedded once.

    test_time: copies of a photograph whose embeddings are averaged with its own, of the queries alone or of all.
    deadline: photographs that it leaves no time for are skipped, and listed so; copies are made last, and all or none of each.
    Raises: UsageError for what `test_time` asks for and is not known or not built yet.
    """
    require_built(test_time)
    copied = {name: with_copy(model, name) for name in test_time.copies}
    fits = (deadline or Deadline()).part_fits()
    query_features, kept_query = extract_global(model, query, batch_size, "embedding queries", fits)
    gallery_features, kept_gallery = query_features, kept_query
    if query is not gallery:
        gallery_features, kept_gallery = extract_global(
            model, gallery, batch_size, "embedding gallery", fits
        )

    def averaged(features: GlobalFeatures, images: ImageList, what: str) -> GlobalFeatures:
        copies = [features]
        for name, changed_model in copied.items():
            if not fits():
                break
            try:
                copy, kept = extract_global(
                    changed_model, images, batch_size, f"embedding {what}, {name}", fits
                )
            except TimeoutError:  # a copy is worth less than what is embedded already
                break
            copies += [copy] * (len(kept) == len(images))
        return average_copies(copies) if test_time.copies else features

    if query is not gallery and not test_time.queries_only:
        gallery_features = averaged(gallery_features, kept_gallery, "gallery")
    query_features = averaged(query_features, kept_query, "queries")
    if query is gallery and not test_time.queries_only:
        gallery_features = query_features
    return Retrieval(kept_query, kept_gallery, query_features, gallery_features)


def rank(retrieval: Retrieval, top_k: int | None = KEPT_PER_QUERY) -> Ranking:
    """Features to the first `top_k` of the gallery per query, nearest first; None ranks all of it."""
    return search(retrieval.query_features, retrieval.gallery_features, top_k)


def width_in_memory(retrieval: Retrieval) -> int:
    """How many places of each ranking are re-ranked: the whole gallery, or where that is too much KEPT_PER_QUERY."""
    num_gallery = len(retrieval.gallery)
    return (
        num_gallery
        if len(retrieval.query) * num_gallery <= PLACES_IN_MEMORY
        else min(num_gallery, KEPT_PER_QUERY)
    )


def rerank(
    retrieval: Retrieval,
    ranking: Ranking,
    steps: Sequence[Step],
    deadline: Deadline | None = None,
    verifier: Verifier | None = None,
) -> Ranking:
    """A ranking to a better one, by several re-rankers in turn; `verifier` does the geometric steps."""
    return run_chain(
        steps, retrieval.query_features, retrieval.gallery_features, ranking, deadline, verifier
    )


def truth_of(retrieval: Retrieval, labelled: bool = True) -> GroundTruth:
    """What should have been found: images of a query's label; nothing where there are no labels and none are asked for.

    Raises: ValueError when queries or gallery have no labels, and `labelled`.
    """
    query, gallery = retrieval.query, retrieval.gallery
    if labelled or (query.labels is not None and gallery.labels is not None):
        return GroundTruth.from_labels(query, gallery)
    nothing = tuple(np.zeros(0, np.int64) for _ in range(len(query)))
    return GroundTruth(query.ids, len(gallery), nothing, nothing)


def score(retrieval: Retrieval, truth: GroundTruth) -> Hits:
    """Where the relevant images stand in the full ranking, one block of queries at a time."""
    blocks = search_blocks(retrieval.query_features, retrieval.gallery_features)
    return concatenate([hits_of(ranking, truth.of(ranking.query_ids)) for ranking in blocks])
