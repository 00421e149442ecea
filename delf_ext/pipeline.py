"""The main path: images to embeddings, a ranking, a re-ranked ranking, and a score.

Each step takes the result of the one before:

    retrieval = embed(model, query, gallery)
    ranking = rank(retrieval, top_k=None)
    ranking = rerank(retrieval, ranking, parse_chain("k_reciprocal:20,6,0.3"))
    truth = truth_of(retrieval)
    hits = hits_of(ranking, truth)

`score(retrieval, truth)` instead scores the plain search, block by block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_io.files.skipped_files import Skipped, count_skipped
from data_io.messages import shown_path
from data_io.records import GlobalFeatures, GroundTruth, ImageList, Ranking
from delf_ext.evaluation.hits import Hits, concatenate, hits_of
from delf_ext.features.collapse import collapse_warning
from delf_ext.features.embedder import Adapted, EmbedsImages, Ensemble
from delf_ext.features.extraction import BATCH_SIZE, add_copies, extract_networks, join_networks
from delf_ext.features.test_time import NO_COPIES, copies_of, in_gallery
from delf_ext.index.exact import search, search_blocks
from delf_ext.index.failed import usable
from delf_ext.recipes.schema import TestTime
from delf_ext.reranking.chain import run_chain
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.steps import Step
from delf_ext.reranking.verifier import Verifier

# The official evaluation of the 2018 challenge also read 1,000 places of each ranking.
KEPT_PER_QUERY = 1000
"""Places of a ranking that are written to disk, or kept if all are too many for memory."""
PLACES_IN_MEMORY = 5 * 10**7
"""Places of all rankings together that fit in memory (400 MB of rows and scores)."""


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Embeddings of queries and gallery by one model.

    The lists hold exactly the images that have an embedding, in the order of the embeddings.

    Attributes:
        query: the Q images to search with.
        gallery: the N images to search in.
        query_features: embeddings float32 [Q, D], unit length; zero if failed.
        gallery_features: embeddings float32 [N, D], unit length; zero if failed.
    """

    query: ImageList
    gallery: ImageList
    query_features: GlobalFeatures
    gallery_features: GlobalFeatures

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(path, reason) of each file or folder without an embedding; each entry once."""
        return tuple(dict.fromkeys((*self.query.skipped, *self.gallery.skipped)))

    def failed_notes(self) -> Iterator[str]:
        """Yield lines on queries and gallery images whose embedding failed.

        Yields:
            Lines without a line break; none if no embedding failed.
        """
        query = (self.query, self.query_features, "queries", "they score 0")
        gallery = (self.gallery, self.gallery_features, "gallery images", "they are ranked last")
        for part in (query, gallery):
            yield from failed_notes(*part)

    @property
    def warning(self) -> str:
        """A line if all images have nearly one embedding, else ""; see `collapse_warning`."""
        return collapse_warning(usable(self.gallery_features).embeddings)

    @property
    def left_out(self) -> Skipped:
        """The files of both lists that were seen but not used, each once, and their number."""
        return count_skipped(self.skipped, self.paths)

    @property
    def paths(self) -> list[str]:
        """Paths of all images that have an embedding."""
        return [*self.query.paths.tolist(), *self.gallery.paths.tolist()]


def failed_notes(
    images: ImageList, features: GlobalFeatures, what: str, consequence: str
) -> Iterator[str]:
    """Yield one line if the embeddings of some images failed.

    Args:
        images: N images.
        features: of these images.
        what: what the images are, such as "queries".
        consequence: what happens to them.

    Yields:
        The line.
    """
    num_failed = int(features.failed.sum())
    if num_failed:
        first = shown_path(images.paths[features.failed][0])
        yield (
            f"{num_failed} of {len(images)} {what}: the model's embedding is zero or not finite, "
            f"so {consequence}; such as {first}"
        )


def embed(
    model: EmbedsImages | Ensemble | Adapted,
    query: ImageList,
    gallery: ImageList,
    batch_size: int = BATCH_SIZE,
    test_time: TestTime | None = NO_COPIES,
    deadline: Deadline | None = None,
) -> Retrieval:
    """Embed queries and gallery. If both are the same list, it is embedded once.

    Args:
        model: an embedder, an ensemble or a model with a head; a head is applied to the joined
            embeddings of all copies.
        query: images to search with.
        gallery: images to search in.
        batch_size: images per call of the model.
        test_time: copies of each image (mirrored, turned, of other sizes); their embeddings are
            joined with that of the image. For the queries only, or for the gallery too. None = as
            the recipe of each network says.
        deadline: images that are not embedded in time are skipped and listed. Copies are embedded
            last; a copy that is incomplete at the deadline is not used.

    Returns:
        The embeddings, and the lists of the embedded images.

    Raises:
        UsageError: `test_time` asks for something that is unknown or not supported.
        ValueError: `batch_size` is below 1, or no query or no gallery image can be read.
        TimeoutError: no query, or no gallery image, is embedded in time; or a size that is
            concatenated is not.
    """
    copies = copies_of(model, test_time)
    gallery_copies = [in_gallery(one) for one in copies]
    has_time = (deadline or Deadline()).time_check()
    is_one_list = query is gallery
    query_parts, query = extract_networks(model, query, batch_size, "embedding queries", has_time)
    if is_one_list:
        gallery_parts, gallery = query_parts, query
    else:
        gallery_parts, gallery = extract_networks(
            model, gallery, batch_size, "embedding gallery", has_time
        )

    def with_copies(
        parts: list[GlobalFeatures], images: ImageList, of_networks: list[TestTime], side: str
    ) -> GlobalFeatures:
        what = f"embedding {side}"
        added = add_copies(model, parts, images, of_networks, batch_size, what, has_time)
        return join_networks(model, iter(added))

    is_same = is_one_list and gallery_copies == copies
    if not is_same:
        gallery_features = with_copies(gallery_parts, gallery, gallery_copies, "gallery")
    query_features = with_copies(query_parts, query, copies, "queries")
    if is_same:
        gallery_features = query_features
    return Retrieval(query, gallery, query_features, gallery_features)


def projected(model: Adapted, base: Retrieval) -> Retrieval:
    """Apply the head of a model to embeddings of its base model.

    Args:
        model: the model with a head.
        base: embeddings by its base model.

    Returns:
        The embeddings by the model.
    """
    query = model.projected(base.query_features)
    is_one_list = base.gallery_features is base.query_features
    gallery = query if is_one_list else model.projected(base.gallery_features)
    return replace(base, query_features=query, gallery_features=gallery)


def rank(retrieval: Retrieval, top_k: int | None = KEPT_PER_QUERY) -> Ranking:
    """Rank the gallery for each query, nearest first.

    Args:
        retrieval: embeddings of Q queries and N gallery images.
        top_k: places to keep for each query; None = the whole gallery.

    Returns:
        Gallery rows and scores [Q, min(top_k, N)].

    Raises:
        ValueError: `top_k` is below 1, or the embeddings cannot be compared (see `search`).
    """
    return search(retrieval.query_features, retrieval.gallery_features, top_k)


def num_ranked(retrieval: Retrieval) -> int:
    """Return how many places of each ranking fit in memory: the whole gallery, or fewer."""
    num_gallery = len(retrieval.gallery)
    if len(retrieval.query) * num_gallery <= PLACES_IN_MEMORY:
        return num_gallery
    return min(num_gallery, KEPT_PER_QUERY)


def rerank(
    retrieval: Retrieval,
    ranking: Ranking,
    steps: Sequence[Step],
    deadline: Deadline | None = None,
    verifier: Verifier | None = None,
) -> Ranking:
    """Re-rank with a chain of steps; each works on the result of the one before.

    Args:
        retrieval: embeddings of queries and gallery.
        ranking: the ranking to improve.
        steps: the chain, for example from `parse_chain`.
        deadline: queries that a step does not reach in time keep their ranking.
        verifier: compares local features; needed by geometric steps only.

    Returns:
        A new ranking.

    Raises:
        ValueError: ranking and embeddings are of different images, or a geometric step has no
            `verifier`.
    """
    return run_chain(
        steps, retrieval.query_features, retrieval.gallery_features, ranking, deadline, verifier
    )


def truth_of(
    retrieval: Retrieval, labelled: bool = True, junk: Sequence[np.ndarray] | None = None
) -> GroundTruth:
    """Return the relevant gallery rows of each query: those with the same label.

    Args:
        retrieval: Q queries and N gallery images.
        labelled: whether labels are required; if False and query or gallery has no labels, no
            query has a relevant image.
        junk: for each query int64 [J], the gallery rows that do not count; None = the query's own
            file and copies of it.

    Returns:
        The relevant rows of each query.

    Raises:
        ValueError: labels are required and missing.
    """
    query = retrieval.query
    gallery = retrieval.gallery
    if labelled or (query.labels is not None and gallery.labels is not None):
        return GroundTruth.from_labels(query, gallery, junk)
    no_rows = tuple(np.zeros(0, np.int64) for _ in range(len(query)))
    return GroundTruth(query.ids, len(gallery), no_rows, no_rows)


def score(retrieval: Retrieval, truth: GroundTruth) -> Hits:
    """Rank the whole gallery by embeddings and find the positions of the relevant images.

    Re-ranking is not included. One block of queries is ranked at a time, so the full ranking need
    not fit in memory.

    Args:
        retrieval: embeddings of Q queries and N gallery images.
        truth: the relevant gallery rows of each query.

    Returns:
        The positions of the relevant images of each query.

    Raises:
        ValueError: the embeddings cannot be compared (see `search`), or `truth` is of a gallery of
            another size.
        KeyError: a query has no entry in `truth`.
    """
    blocks = search_blocks(retrieval.query_features, retrieval.gallery_features)
    return concatenate([hits_of(ranking, truth.of(ranking.query_ids)) for ranking in blocks])
