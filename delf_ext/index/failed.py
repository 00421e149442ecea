"""Keep images whose embedding failed in rankings, without letting them touch the others.

The embedding of such an image is zero or not finite. A query of this kind finds nothing, and a
gallery image comes last. Searching and re-ranking see only the other images: each mean or graph
that held a failed embedding would be wrong.
"""

from __future__ import annotations

import numpy as np

from data_io.records import GlobalFeatures, Ranking

# Below every cosine.
FAILED_SCORE = -2.0


def any_failed(query: GlobalFeatures, gallery: GlobalFeatures) -> bool:
    """Return whether an embedding of a query or of a gallery image failed."""
    return bool(query.failed.any() or gallery.failed.any())


def usable(features: GlobalFeatures) -> GlobalFeatures:
    """Return the features of the images whose embedding did not fail, in their order."""
    if not features.failed.any():
        return features
    return GlobalFeatures.trusted(
        ids=features.ids[~features.failed],
        embeddings=features.embeddings[~features.failed],
        digest=features.digest,
    )


def without_failed(ranking: Ranking, query: GlobalFeatures, gallery: GlobalFeatures) -> Ranking:
    """Return a ranking of the usable images only.

    Args:
        ranking: [Q, k], with failed gallery images last.
        query: features of its queries.
        gallery: features of its gallery.

    Returns:
        Ranking of the usable queries in the usable gallery.
    """
    width = min(ranking.rows.shape[1], int((~gallery.failed).sum()))
    rows = ranking.rows[~query.failed, :width]
    # The number of a gallery image among the usable ones.
    numbers = np.cumsum(~gallery.failed, dtype=np.int32) - 1
    is_used = (rows >= 0) & ~gallery.failed[rows]
    return Ranking.trusted(
        query_ids=query.ids[~query.failed],
        gallery_ids=gallery.ids[~gallery.failed],
        rows=np.where(is_used, numbers[rows], -1).astype(np.int32),
        scores=np.ascontiguousarray(ranking.scores[~query.failed, :width]),
        complete=np.asarray(ranking.complete)[~query.failed],
        provenance=ranking.provenance,
    )


def with_failed(
    ranking: Ranking, query: GlobalFeatures, gallery: GlobalFeatures, k: int
) -> Ranking:
    """Return a ranking of usable images as one of all images.

    Args:
        ranking: of the usable queries in the usable gallery.
        query: features of all queries; a failed one finds nothing.
        gallery: features of the whole gallery; failed images come last, in their order.
        k: places per query.

    Returns:
        Ranking [Q, k].
    """
    rows = np.full((len(query), k), -1, np.int32)
    scores = np.full((len(query), k), FAILED_SCORE, np.float32)
    complete = np.ones(len(query), bool)
    width = min(k, ranking.rows.shape[1])
    usable_rows = np.flatnonzero(~gallery.failed).astype(np.int32)
    found = ranking.rows[:, :width]
    rows[~query.failed, :width] = np.where(found >= 0, usable_rows[found], -1)
    # A re-ranked score can be lower than any cosine.
    lowest = np.minimum(ranking.scores[:, :width].min(axis=1, initial=0.0), FAILED_SCORE)
    scores[~query.failed, width:] = lowest[:, None]
    scores[~query.failed, :width] = ranking.scores[:, :width]
    failed_rows = np.flatnonzero(gallery.failed)[: k - width]
    # Only behind the whole usable gallery: a ranking that was cut stays cut.
    is_whole = (found >= 0).sum(axis=1) == len(usable_rows)
    whole = np.flatnonzero(~query.failed)[is_whole]
    rows[whole, width : width + len(failed_rows)] = failed_rows
    complete[~query.failed] = ranking.complete
    return Ranking.trusted(
        query_ids=query.ids,
        gallery_ids=gallery.ids,
        rows=rows,
        scores=scores,
        complete=complete,
        provenance=ranking.provenance,
    )
