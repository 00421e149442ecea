from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from delf_ext.index import similarities as index_similarities
from delf_ext.index.similarities import all_similarities
from delf_ext.reranking.jaccard import candidate_similarities, final_distances


def unit(seed: int, num_images: int, num_dims: int = 8) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((num_images, num_dims))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def candidates_of(seed: int, num_queries: int, num_gallery: int, k: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(num_gallery)[:k] for _ in range(num_queries)]).astype(np.int32)
    rows[1, k // 2 :] = -1
    return rows


def encodings_of(seed: int, num_images: int, num_columns: int) -> np.ndarray:
    """Return encodings of sum 1, mostly zeros; all_pairs third repeats the one before, for ties."""
    rng = np.random.default_rng(seed)
    dense = rng.random((num_images, num_columns)) * (rng.random((num_images, num_columns)) < 0.2)
    dense[:, 0] += 0.01
    dense[2::3] = dense[1:-1:3]
    return dense / dense.sum(axis=1, keepdims=True)


def slow_distances(
    own: np.ndarray,
    gallery: np.ndarray,
    similarities: np.ndarray,
    farthest: np.ndarray,
    lambda_: float,
) -> np.ndarray:
    """Compute by the definition, [b, G]: 1 - sum of minima / sum of maxima."""
    least = np.array([[np.minimum(a, b).sum() for b in gallery] for a in own]).round(9)
    most = np.array([[np.maximum(a, b).sum() for b in gallery] for a in own])
    original = (2 - 2 * similarities.astype(np.float64)) / farthest[:, np.newaxis]
    return (1 - lambda_) * (1 - least / most) + lambda_ * original


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("lambda_", [0.0, 0.3, 1.0])
def test_equals_slow_twin(
    monkeypatch: pytest.MonkeyPatch, num_threads: int, lambda_: float
) -> None:
    monkeypatch.setattr("delf_ext.reranking.jaccard.NUM_THREADS", num_threads)
    rows = candidates_of(1, 7, 40, 30)
    own = encodings_of(2, 7, 50)
    gallery = encodings_of(3, 40, 50)
    gallery[5] = own[0]
    gallery[20:23] = own[1]
    all_pairs = all_similarities(unit(4, 7), unit(5, 40))
    farthest = np.linspace(1.5, 4.0, 7)
    similarities = np.take_along_axis(all_pairs, np.maximum(rows, 0), axis=1)
    final, order = final_distances(
        csr_matrix(own), csr_matrix(gallery).tocsc(), rows, similarities, farthest, lambda_
    )
    expected = np.take_along_axis(
        slow_distances(own, gallery, all_pairs, farthest, lambda_), np.maximum(rows, 0), axis=1
    )
    np.testing.assert_allclose(final[rows >= 0], expected[rows >= 0], atol=2e-9)
    assert np.isposinf(final[rows < 0]).all()
    np.testing.assert_array_equal(order, np.lexsort((np.where(rows < 0, 0, rows), final)))


def test_images_without_shared_entries_have_the_largest_jaccard_distance() -> None:
    own = csr_matrix([[1.0, 0.0, 0.0]])
    gallery = csr_matrix([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    rows = np.array([[0, 1, 2]], np.int32)
    similarities = np.zeros((1, 3), np.float32)
    final, order = final_distances(own, gallery.tocsc(), rows, similarities, np.ones(1), 0.0)
    assert final.tolist() == [[1.0, 0.0, 1.0]] and order.tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("chunk_rows", [1, 7, 256])
def test_similarities_do_not_depend_on_chunks(
    monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    monkeypatch.setattr(index_similarities, "CHUNK_ROWS", chunk_rows)
    monkeypatch.setattr(index_similarities, "PAIRS_PER_CHUNK", 0)
    query = unit(6, 5)
    gallery = unit(7, 90)
    rows = candidates_of(8, 5, 90, 60)
    final = candidate_similarities(query, gallery, rows)
    expected = np.take_along_axis(all_similarities(query, gallery), np.maximum(rows, 0), axis=1)
    np.testing.assert_array_equal(final[rows >= 0], expected[rows >= 0])
