"""The main path on one screen: photographs -> features -> ranking -> re-ranked. Front door, report and demo all call it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_io.records import GlobalFeatures, GroundTruth, ImageList, LocalFeatures, Ranking
from delf_ext.evaluation.metrics import Hits, concatenate, hits_of
from delf_ext.features.extraction import Embeds, extract_global
from delf_ext.index.exact import search, search_blocks
from delf_ext.reranking.evidence import Evidence
from delf_ext.reranking.geometric import GeometricConfig, rerank_geometric

KEPT_PER_QUERY = 1000  # of a ranking written to disk; the challenge's official code cut there too


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


def embed(model: Embeds, query: ImageList, gallery: ImageList, batch_size: int = 32) -> Retrieval:
    """Photographs to features. Queries that are the gallery are embedded once."""
    gallery_features, kept_gallery = extract_global(model, gallery, batch_size, "embedding gallery")
    if query is gallery:
        return Retrieval(kept_gallery, kept_gallery, gallery_features, gallery_features)
    query_features, kept_query = extract_global(model, query, batch_size, "embedding queries")
    return Retrieval(kept_query, kept_gallery, query_features, gallery_features)


def rank(retrieval: Retrieval, top_k: int | None = KEPT_PER_QUERY) -> Ranking:
    """Features to the first `top_k` of the gallery per query, nearest first; None ranks all of it."""
    return search(retrieval.query_features, retrieval.gallery_features, top_k)


def score(retrieval: Retrieval) -> tuple[Hits, GroundTruth]:
    """Where the relevant images stand in the full ranking, one block of queries at a time.

    Raises: ValueError when queries or gallery have no labels.
    """
    truth = GroundTruth.from_labels(retrieval.query, retrieval.gallery)
    blocks = search_blocks(retrieval.query_features, retrieval.gallery_features)
    return concatenate([hits_of(ranking, truth.of(ranking.query_ids)) for ranking in blocks]), truth


@dataclass(frozen=True, eq=False)
class Reranked:
    """Rankings, cut to KEPT_PER_QUERY, before and after re-ranking, why, and where labels are known the hits of the full ones."""

    before: Ranking
    after: Ranking
    evidence: Evidence
    truth: GroundTruth | None
    hits_before: Hits | None
    hits_after: Hits | None


def rerank(
    retrieval: Retrieval, query_local: Sequence[LocalFeatures], gallery_local: Sequence[LocalFeatures], config: GeometricConfig
) -> Reranked:
    """Features to a ranking whose first candidates are verified; local features of one extractor, or of several in one order."""
    labelled = retrieval.query.labels is not None and retrieval.gallery.labels is not None
    truth = GroundTruth.from_labels(retrieval.query, retrieval.gallery) if labelled else None
    before, after, evidence, hits = [], [], [], []
    for ranking in search_blocks(retrieval.query_features, retrieval.gallery_features):
        reranked, found = rerank_geometric(ranking, query_local, gallery_local, config)
        if truth is not None:
            part = truth.of(ranking.query_ids)
            hits.append((hits_of(ranking, part), hits_of(reranked, part)))
        before.append(ranking.cut(KEPT_PER_QUERY))
        after.append(reranked.cut(KEPT_PER_QUERY))
        evidence.append(found)
    hits_before, hits_after = (concatenate(column) for column in zip(*hits)) if hits else (None, None)
    return Reranked(Ranking.joined(before), Ranking.joined(after), Evidence.joined(evidence), truth, hits_before, hits_after)
