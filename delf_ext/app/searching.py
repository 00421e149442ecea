"""Search, re-rank and extract: the use cases of the Python API."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data_io.datasets import list_images, listed_gallery
from data_io.files.output_files import expanded
from data_io.progress import Log, quiet
from data_io.records import GlobalFeatures, ImageList, Ranking
from delf_ext.app.reranking import Request, Reranker
from delf_ext.config import UsageError
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.features.extraction import BATCH_SIZE, extract_with_copies
from delf_ext.pipeline import Retrieval, embed, rank
from delf_ext.recipes.schema import TestTime
from delf_ext.reranking.chain import parse_chain

Images = ImageList | str | Path
"""A list of images, a folder, a zip archive, a CSV file, or one image file."""


class Hit(NamedTuple):
    """A gallery image in the result of a search.

    Attributes:
        path: path of the image file.
        score: similarity to the query; higher is nearer.
    """

    path: str
    score: float


@dataclass(frozen=True, eq=False)
class Hits:
    """Result of `search`. Iterating gives (path of the query, its hits).

    Attributes:
        retrieval: embeddings of queries and gallery.
        ranking: ranking of the gallery for each query.
    """

    retrieval: Retrieval
    ranking: Ranking

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.ranking)

    def of(self, row: int) -> list[Hit]:
        """Return the hits of the query in a row, nearest first."""
        paths = self.retrieval.gallery.paths
        # A row of -1 fills a place without an image.
        return [
            Hit(str(paths[gallery_row]), float(score))
            for gallery_row, score in zip(self.ranking.rows[row], self.ranking.scores[row])
            if gallery_row >= 0
        ]

    def __iter__(self) -> Iterator[tuple[str, list[Hit]]]:
        """Yield (path of the query, its hits)."""
        return ((str(path), self.of(row)) for row, path in enumerate(self.retrieval.query.paths))


def images_of(images: Images) -> ImageList:
    """Return `images` if it is a list; otherwise list the images of the folder or file.

    Raises:
        ValueError: if there is no image.
    """
    return images if isinstance(images, ImageList) else list_images(images)


def search(
    model: AnyEmbedder,
    query: Images,
    gallery: Images,
    *,
    top_k: int | None = 10,
    batch_size: int = BATCH_SIZE,
    test_time: TestTime | None = None,
) -> Hits:
    """Find the gallery images that are most similar to each query.

    Args:
        model: from `open_model`.
        query: an image, a folder or a list.
        gallery: a list, or data in any form; if they name a gallery, it is searched.
        top_k: hits per query; None = the whole gallery.
        batch_size: images per call of the model.
        test_time: copies of the images to embed; None = as the model's recipe says.

    Returns:
        The hits of each query.

    Raises:
        UsageError: if `top_k` is less than 1, or the model cannot embed the copies.
        ValueError: if no query, or no gallery image, can be read.
    """
    if top_k is not None and top_k < 1:
        raise UsageError(f"top_k must be at least 1. Received {top_k}.")
    gallery = gallery if isinstance(gallery, ImageList) else listed_gallery(gallery).images
    test_time = model.test_time if test_time is None else test_time
    retrieval = embed(model, images_of(query), gallery, batch_size, test_time)
    return Hits(retrieval, rank(retrieval, top_k))


def rerank(
    hits: Hits,
    method: str,
    *,
    folder: str | Path | None = None,
    request: Request | None = None,
    log: Log = quiet,
) -> Hits:
    """Re-rank the result of `search`.

    Args:
        hits: from `search`. Most methods look beyond the first places: search with top_k=None.
        method: a chain of steps, such as "aqe:5@3,k_reciprocal:20,6,0.3".
        folder: where geometric steps store local features.
        request: deadline and local features; its chains are not used.
        log: called with each log line.

    Returns:
        The re-ranked hits.

    Raises:
        UsageError: if a step is unknown, or a geometric step has no folder.
    """
    chain = parse_chain(method)
    request = dataclasses.replace(request or Request(), chains=(chain,))
    folder = None if folder is None else expanded(folder)
    reranker = Reranker(request, hits.retrieval.gallery, folder, log)
    ranking, _ = reranker(hits.retrieval, hits.ranking, chain)
    return Hits(hits.retrieval, ranking)


def extract(
    model: AnyEmbedder,
    images: Images,
    *,
    batch_size: int = BATCH_SIZE,
    test_time: TestTime | None = None,
) -> tuple[GlobalFeatures, ImageList]:
    """Embed images as a search embeds its gallery.

    Args:
        model: from `open_model`.
        images: a folder, an image or a list.
        batch_size: images per call of the model.
        test_time: copies of the images to embed; None = as the model's recipe says.

    Returns:
        The embeddings float32 [N, D], and the list of the N images; its `skipped` names the
        images that have none.

    Raises:
        UsageError: if the model cannot embed the copies.
        ValueError: if no image can be read.
    """
    return extract_with_copies(model, images_of(images), test_time, batch_size)
