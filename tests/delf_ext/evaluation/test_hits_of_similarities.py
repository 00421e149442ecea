"""Compare the hits of a matrix of similarities with those of a search."""

from __future__ import annotations

import numpy as np

from data_io.records import GlobalFeatures, GroundTruth
from delf_ext.evaluation.hits import hits_of, hits_of_similarities
from delf_ext.evaluation.metrics import average_precisions
from delf_ext.index.exact import search


def test_hits_equal_those_of_a_search_with_junk_and_queries_without_relevant_images() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((30, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # Two gallery images are equal: the first one is ranked first.
    vectors[21] = vectors[20]
    query = GlobalFeatures([f"q{row}" for row in range(10)], vectors[:10], "")
    gallery = GlobalFeatures([f"g{row}" for row in range(20)], vectors[10:], "")
    is_relevant = rng.random((10, 20)) < 0.3
    is_relevant[3] = False
    is_junk = ~is_relevant & (rng.random((10, 20)) < 0.1)
    truth = GroundTruth(
        query.ids,
        20,
        tuple(np.flatnonzero(row) for row in is_relevant),
        tuple(np.flatnonzero(row) for row in is_junk),
    )
    expected = hits_of(search(query, gallery), truth)
    similarities = query.embeddings @ gallery.embeddings.T
    hits = hits_of_similarities(query.ids, similarities, is_relevant, is_junk)
    for one, other in zip(hits.positions, expected.positions, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(hits.num_candidates, expected.num_candidates)
    np.testing.assert_array_equal(hits.depth, expected.depth)
    np.testing.assert_array_equal(average_precisions(hits), average_precisions(expected))
