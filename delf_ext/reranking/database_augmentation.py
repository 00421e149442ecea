"""Database-side augmentation: replace each gallery embedding by the mean of its neighbours.

It is done once for all queries. It helps if an object has several gallery images; with one image
each, it mixes in other objects.
Sources: Arandjelovic and Zisserman 2012 (CVPR); weights similarity**alpha, Radenovic et al. 2018
(arXiv:1711.02512).
"""

from __future__ import annotations

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
    """Replace each embedding by the weighted mean of its nearest neighbours in the gallery.

    All means are computed from the old embeddings.

    Args:
        gallery: embeddings [G, D].
        num_expand: neighbours to average, the image itself among them; 1 changes nothing, more than
            G means all.
        alpha: weights are similarity**alpha.
        neighbours: of this gallery, at least `num_expand` each; None: they are searched.

    Returns:
        Embeddings [G, D] of unit length, in the same order.

    Raises:
        UsageError: `num_expand` is below 1 or alpha below 0.
        ValueError: there are too few neighbours, or they are of another gallery.
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
    embeddings = expanded_embeddings(gallery.embeddings, gallery.embeddings, others, alpha)
    return GlobalFeatures.trusted(ids=gallery.ids, embeddings=embeddings, digest=gallery.digest)
