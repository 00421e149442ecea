"""Search and extract: photographs in, hits or embeddings out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data_io.datasets import list_images
from data_io.progress import Log, quiet
from data_io.records import GlobalFeatures, ImageList, Ranking
from delf_ext.app.reranking import Request, Reranker
from delf_ext.config import UsageError
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.features.extraction import BATCH_SIZE, extract_global
from delf_ext.pipeline import Retrieval, embed, rank
from delf_ext.reranking.chain import parse_chain

Images = ImageList | str | Path


class Hit(NamedTuple):
    """A photograph that was found. score: higher is nearer."""

    path: str
    score: float


@dataclass(frozen=True, eq=False)
class Hits:
    """What `search` returns: the embeddings, and the ranking of the gallery for each query."""

    retrieval: Retrieval
    ranking: Ranking

    def __len__(self) -> int:
        return len(self.ranking)

    def of(self, row: int) -> list[Hit]:
        """Return the hits of one query, best first."""
        paths, places = self.retrieval.gallery.paths, self.ranking.rows[row]
        return [
            Hit(str(paths[place]), float(score))
            for place, score in zip(places, self.ranking.scores[row])
            if place >= 0
        ]

    def __iter__(self) -> Iterator[tuple[str, list[Hit]]]:
        """Yield (path of the query, its hits)."""
        return ((str(path), self.of(row)) for row, path in enumerate(self.retrieval.query.paths))


def images_of(images: Images) -> ImageList:
    """Return the list of a folder or of one file; a list as it is. Raises: ValueError when there is no image."""
    return images if isinstance(images, ImageList) else list_images(images)


def search(
    model: AnyEmbedder,
    query: Images,
    gallery: Images,
    *,
    top_k: int | None = 10,
    batch_size: int = BATCH_SIZE,
) -> Hits:
    """Find the photographs of a gallery that are most like each query.

    Args:
        model: from `open_model`.
        query: a photograph, a folder or a list.
        gallery: a folder or a list.
        top_k: hits per query; None ranks the whole gallery.
        batch_size: images per call of the model.

    Raises:
        ValueError: in one line, when there is nothing to search with or in.
    """
    if top_k is not None and top_k < 1:
        raise UsageError(f"--top_k must be at least 1. Received {top_k}.")
    retrieval = embed(model, images_of(query), images_of(gallery), batch_size, model.test_time)
    return Hits(retrieval, rank(retrieval, top_k))


def rerank(
    hits: Hits,
    method: str,
    *,
    folder: str | Path | None = None,
    request: Request | None = None,
    log: Log = quiet,
) -> Hits:
    """Re-rank what `search` found.

    Args:
        hits: rank the whole gallery (top_k=None) where the method looks beyond the first places.
        method: a chain such as "aqe:5@3,k_reciprocal:20,6,0.3".
        folder: where geometric steps keep local features.
        request: deadline and local features; its chains are not used.
        log: called with each line worth reading.

    Raises:
        UsageError: for an unknown method, or a geometric step without a folder.
    """
    chain = parse_chain(method)
    request = dataclasses.replace(request or Request(), chains=(chain,))
    reranker = Reranker(
        request, hits.retrieval.gallery, None if folder is None else Path(folder), log
    )
    ranking, _ = reranker(hits.retrieval, hits.ranking, chain)
    return Hits(hits.retrieval, ranking)


def extract(
    model: AnyEmbedder, images: Images, *, batch_size: int = BATCH_SIZE
) -> tuple[GlobalFeatures, ImageList]:
    """Embed photographs.

    Args:
        model: from `open_model`.
        images: a folder, a file or a list.
        batch_size: images per call of the model.

    Returns:
        The embeddings [N, D], and the list of the images that have one; its `skipped` names the others.

    Raises:
        ValueError: when no image can be read.
    """
    return extract_global(model, images_of(images), batch_size)
