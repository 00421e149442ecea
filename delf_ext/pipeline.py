"""The main path on one screen: photographs -> features -> ranking. Front door, report and demo all call it."""

from __future__ import annotations

from dataclasses import dataclass

from data_io.records import GlobalFeatures, GroundTruth, ImageList, Ranking
from delf_ext.evaluation.metrics import Hits, concatenate, hits_of
from delf_ext.features.extraction import Embeds, extract_global
from delf_ext.index.exact import search, search_blocks

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
    blocks, start = [], 0
    for ranking in search_blocks(retrieval.query_features, retrieval.gallery_features):
        stop = start + len(ranking.query_ids)
        part = GroundTruth(ranking.query_ids, truth.num_gallery, truth.relevant[start:stop], truth.junk[start:stop])
        blocks.append(hits_of(ranking, part))
        start = stop
    return concatenate(blocks), truth
