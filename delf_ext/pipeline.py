"""The main path on one screen: photographs -> features -> ranking -> re-ranked. Front door, report and demo all call it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_io.records import GlobalFeatures, GroundTruth, ImageList, Ranking
from delf_ext.evaluation.metrics import Hits, concatenate, hits_of
from delf_ext.features.copies import Changed
from delf_ext.features.extraction import Embeds, extract_global
from delf_ext.index.exact import search, search_blocks
from delf_ext.reranking.chain import run_chain
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.query_expansion import average_copies
from delf_ext.reranking.steps import Step
from delf_ext.reranking.verifier import Verifier

KEPT_PER_QUERY = 1000  # on disk, and of a ranking too large for memory; the challenge's official code cut there too
PLACES_IN_MEMORY = 5 * 10**7  # 400 MB of rows and scores


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
    model: Embeds,
    query: ImageList,
    gallery: ImageList,
    batch_size: int = 32,
    query_copies: Sequence[str] = (),
    deadline: Deadline | None = None,
) -> Retrieval:
    """Photographs to features. Queries that are the gallery are embedded once.

    query_copies: of `features.copies.CHANGES`; a query's embedding becomes the mean of its own and theirs.
    deadline: photographs that it leaves no time for are skipped, and listed so; copies are made last, and all or none of each.
    """
    fits = (deadline or Deadline()).part_fits()
    query_features, kept_query = extract_global(model, query, batch_size, "embedding queries", fits)
    gallery_features, kept_gallery = query_features, kept_query
    if query is not gallery:
        gallery_features, kept_gallery = extract_global(model, gallery, batch_size, "embedding gallery", fits)
    copies = [query_features]
    for name in query_copies:
        if fits():
            copy, kept = extract_global(Changed(model, name), kept_query, batch_size, f"embedding queries, {name}", fits)
            copies += [copy] * (len(kept) == len(kept_query))
    return Retrieval(kept_query, kept_gallery, average_copies(copies) if query_copies else query_features, gallery_features)


def rank(retrieval: Retrieval, top_k: int | None = KEPT_PER_QUERY) -> Ranking:
    """Features to the first `top_k` of the gallery per query, nearest first; None ranks all of it."""
    return search(retrieval.query_features, retrieval.gallery_features, top_k)


def width_in_memory(retrieval: Retrieval) -> int:
    """How many places of each ranking are re-ranked: the whole gallery, or where that is too much KEPT_PER_QUERY."""
    num_gallery = len(retrieval.gallery)
    return num_gallery if len(retrieval.query) * num_gallery <= PLACES_IN_MEMORY else min(num_gallery, KEPT_PER_QUERY)


def rerank(
    retrieval: Retrieval,
    ranking: Ranking,
    steps: Sequence[Step],
    deadline: Deadline | None = None,
    verifier: Verifier | None = None,
) -> Ranking:
    """A ranking to a better one, by several re-rankers in turn; `verifier` does the geometric steps."""
    return run_chain(steps, retrieval.query_features, retrieval.gallery_features, ranking, deadline, verifier)


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
