"""Database-side augmentation: each gallery embedding becomes the mean of its nearest neighbours, itself included.

It is done once for all queries, and helps where an object has several gallery images; with one each, it mixes strangers in.
Source: Arandjelovic and Zisserman 2012 (CVPR); weights similarity**alpha as in Radenovic et al. 2018 (arXiv:1711.02512).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_io.records import GlobalFeatures
from delf_ext.index.neighbours import Neighbours, nearest_neighbours
from delf_ext.reranking.query_expansion import check_weights, expanded_embeddings


def augment_database(
    gallery: GlobalFeatures,
    num_expand: int,
    alpha: float = 0.0,
    neighbours: Neighbours | None = None,
) -> GlobalFeatures:
    """Each embedding replaced by the mean of its `num_expand` nearest of the gallery, weighted by similarity**alpha, unit length.

    The image itself is among them, so 1 changes nothing and more than the gallery holds means all of it. All means are of the old
    embeddings. neighbours: those of this gallery, at least `num_expand` of each, where they are known already.
    Raises: UsageError on num_expand below 1 or alpha below 0; ValueError where the neighbours are too few or of another gallery.
    """
    check_weights("num_expand", num_expand, alpha)
    k = min(num_expand, len(gallery))
    rows = (neighbours or nearest_neighbours(gallery.embeddings, k)).rows
    if len(rows) != len(gallery) or rows.shape[1] < k:
        raise ValueError(
            f"neighbours must be [{len(gallery)}, {k}] or wider. Received shape={rows.shape}."
        )
    own = np.arange(len(gallery), dtype=np.int32)[:, np.newaxis]
    others = np.where(rows[:, :k] == own, -1, rows[:, :k])
    return dataclasses.replace(
        gallery,
        embeddings=expanded_embeddings(gallery.embeddings, gallery.embeddings, others, alpha),
    )
