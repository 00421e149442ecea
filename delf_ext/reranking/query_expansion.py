"""Query expansion: a query becomes the mean of itself and of what it found first, and is searched again with that.

It helps where the first places are mostly right, and pulls a query away where they are not: few images, or a high alpha.
Sources: average, Chum et al. 2007 (ICCV); weights similarity**alpha, Radenovic et al. 2018 (arXiv:1711.02512), who use 50 images
and alpha = 3.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from data_io.records import GlobalFeatures, Ranking
from delf_ext.config import UsageError
from delf_ext.reranking.rankings import check_same_images

ROWS_PER_BLOCK = 256  # 50 MB of gathered vectors at 25 images and D = 2048
SHORTEST = 1e-6  # a sum of unit vectors below this length is rounding, and has no direction


def expand_queries(
    query: GlobalFeatures,
    gallery: GlobalFeatures,
    ranking: Ranking,
    num_expand: int,
    alpha: float = 0.0,
) -> GlobalFeatures:
    """Each query plus its first `num_expand` gallery images, weighted by similarity**alpha, the query by 1; of unit length.

    alpha = 0: the plain average. Above 0 an image of negative similarity counts nothing. Similarities are of the embeddings, as
    the scores of the ranking may be another re-ranker's. Where it holds fewer images (-1), those are all. A sum without direction
    leaves the query as it is.
    Raises: UsageError on num_expand below 1 or alpha below 0; ValueError where the ranking is not of these images.
    """
    check_weights("num_expand", num_expand, alpha)
    check_same_images(ranking, query, gallery)
    expanded = expanded_embeddings(
        query.embeddings, gallery.embeddings, ranking.rows[:, :num_expand], alpha
    )
    return dataclasses.replace(query, embeddings=expanded)


def average_copies(copies: Sequence[GlobalFeatures]) -> GlobalFeatures:
    """The mean of several copies of the same images (as they are, mirrored, turned, ...), of unit length, ids as in the first.

    Source: the original's query expansion from augmented copies of the query. A mean without direction leaves the first copy.
    Raises: ValueError where the copies are of other images, or made by different models.
    """
    if not copies:
        raise ValueError("average_copies needs at least one copy. Received none.")
    first = copies[0]
    for copy in copies[1:]:
        if (
            copy.embeddings.shape != first.embeddings.shape
            or copy.digest != first.digest
            or (copy.ids != first.ids).any()
        ):
            raise ValueError(
                "copies must hold the same images in one order, embedded by one model."
            )
    total = np.sum([copy.embeddings for copy in copies], axis=0, dtype=np.float64)
    return dataclasses.replace(first, embeddings=directions(total, first.embeddings))


def expanded_embeddings(
    own: np.ndarray, embeddings: np.ndarray, rows: np.ndarray, alpha: float
) -> np.ndarray:
    """own [N, D] plus embeddings[rows], rows [N, n] (-1: none), weighted by similarity to own ** alpha; unit length."""
    result = np.empty_like(own)
    for start in range(0, len(own), ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        gathered = embeddings[rows[block]]
        similarities = np.matmul(gathered, own[block, :, np.newaxis])[:, :, 0]
        weights = np.maximum(similarities, 0.0) ** np.float32(alpha) * (rows[block] >= 0)
        result[block] = directions(
            own[block] + np.matmul(weights[:, np.newaxis], gathered)[:, 0], own[block]
        )
    return result


def directions(vectors: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Vectors [b, D] of unit length, float32; those without length are taken from `otherwise`."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(lengths > SHORTEST, vectors / np.maximum(lengths, SHORTEST), otherwise).astype(
        np.float32
    )


def check_weights(name: str, number: int, alpha: float) -> None:
    if number < 1:
        raise UsageError(f"{name} must be at least 1. Received {number}.")
    if not (math.isfinite(alpha) and alpha >= 0):
        raise UsageError(f"alpha must be at least 0. Received {alpha}.")
