"""Check and build the rankings that re-ranking steps work on."""

from __future__ import annotations

import numpy as np

from data_io.records import GlobalFeatures, Ranking


def check_same_images(ranking: Ranking, query: GlobalFeatures, gallery: GlobalFeatures) -> None:
    """Check that ranking and features hold the same images in the same order.

    Args:
        ranking: of Q queries in a gallery of G images.
        query: embeddings [Q, D].
        gallery: embeddings [G, D].

    Raises:
        ValueError: images, their order or D differ.
    """
    for name, ranked, embedded in (
        ("query", ranking.query_ids, query.ids),
        ("gallery", ranking.gallery_ids, gallery.ids),
    ):
        if not np.array_equal(ranked, embedded):
            raise ValueError(
                f"the ranking has other {name} images than the features, or in another order: "
                "search again with these."
            )
    if query.embeddings.shape[1] != gallery.embeddings.shape[1]:
        raise ValueError(
            "query and gallery embeddings must have the same D. "
            f"Received shapes {query.embeddings.shape} and {gallery.embeddings.shape}: "
            "extract both with one model."
        )


def reranked(
    before: Ranking, rows: np.ndarray, scores: np.ndarray, reached: np.ndarray, note: str
) -> Ranking:
    """Return the ranking after a step, without checking its order again.

    Args:
        before: the ranking that the step changed.
        rows: int32 [Q, k], gallery rows; -1 pads the end. Becomes read-only.
        scores: float32 [Q, k], never rising along a row. Becomes read-only.
        reached: bool [Q], queries that the step had time for.
        note: what the step did, added to the provenance.

    Returns:
        A ranking that is complete for the queries that were complete before and are reached.
    """
    return Ranking.trusted(
        query_ids=before.query_ids,
        gallery_ids=before.gallery_ids,
        rows=rows,
        scores=scores,
        complete=before.complete & reached,
        provenance="; ".join(filter(None, (before.provenance, note))),
    )
