"""Check exact search against a slow version, its order of ties and its memory."""

from __future__ import annotations

import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_io.records import GlobalFeatures
from delf_ext.index import exact, similarities


def features(embeddings: np.ndarray, prefix: str, digest: str = "") -> GlobalFeatures:
    embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return GlobalFeatures([f"{prefix}{row}" for row in range(len(embeddings))], embeddings, digest)


def noise(seed: int, num_images: int, num_dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_images, num_dims))


def slow_search(query: GlobalFeatures, gallery: GlobalFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Follow the definition: a stable argsort of similarities summed as Python integers."""
    units = [
        [[round(float(x) * 2**26) for x in row] for row in record.embeddings]
        for record in (query, gallery)
    ]
    exact_sums = [
        [sum(a * b for a, b in zip(q, g, strict=True)) / 2**52 for g in units[1]] for q in units[0]
    ]
    scores = np.array(exact_sums).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")
    return order, np.take_along_axis(scores, order, axis=1)


@pytest.fixture(autouse=True, params=["shortlist", "everything"])
def search_method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with both methods, although its gallery is small."""
    monkeypatch.setattr(exact, "GALLERY_PER_SHORTLIST", 1)
    monkeypatch.setattr(exact, "MIN_GALLERY", 1 if request.param == "shortlist" else 10**9)


@pytest.fixture
def narrow_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarities, "ROWS_PER_PRODUCT", 4)
    monkeypatch.setattr(exact, "MIN_TILE_ROWS", 8)
    monkeypatch.setattr(exact, "SCORES_PER_TILE", 64)


@pytest.mark.parametrize("top_k", [1, 3, 8, 9, 17, 40, 41, None])
def test_search_equals_slow_search(narrow_tiles: None, top_k: int | None) -> None:
    query = features(noise(1, 11, 5), "q")
    gallery = features(noise(2, 41, 5), "g")
    rows, scores = slow_search(query, gallery)
    found = exact.search(query, gallery, top_k)
    np.testing.assert_array_equal(found.rows, rows[:, :top_k])
    np.testing.assert_array_equal(found.scores, scores[:, :top_k])
    assert list(found.query_ids) == list(query.ids) and list(found.gallery_ids) == list(gallery.ids)
    assert found.complete.all()


def test_scores_are_numpy_cosines() -> None:
    query = features(noise(3, 7, 300), "q")
    gallery = features(noise(4, 50, 300), "g")
    found = exact.search(query, gallery)
    cosine = query.embeddings.astype(np.float64) @ gallery.embeddings.T.astype(np.float64)
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(cosine, found.rows, axis=1), atol=1e-7
    )
    np.testing.assert_array_equal(found.rows, np.argsort(-cosine, axis=1, kind="stable"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 10_000),
    st.integers(1, 40),
    st.integers(1, 700),
    st.sampled_from([1, 3, 64, 513]),
)
def test_search_orders_300_duplicates_by_gallery_row(
    seed: int, queries_per_block: int, top_k: int, num_dims: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = np.concatenate(
        [noise(seed + 1, 200, num_dims), np.repeat(noise(seed + 2, 1, num_dims), 300, axis=0)]
    )
    shuffled = rng.permutation(500)
    query = features(noise(seed + 3, 13, num_dims), "q")
    gallery = features(vectors[shuffled], "g")
    copies = np.flatnonzero(shuffled >= 200)
    reference = exact.search(query, gallery)
    for line in reference.rows:
        np.testing.assert_array_equal(line[np.isin(line, copies)], copies)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "MAX_QUERIES_PER_BLOCK", queries_per_block)
        found = exact.search(query, gallery, top_k)
    np.testing.assert_array_equal(found.rows, reference.rows[:, :top_k])
    np.testing.assert_array_equal(found.scores, reference.scores[:, :top_k])


def test_result_does_not_depend_on_product_width(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.repeat(noise(5, 20, 96), 15, axis=0)
    query = features(noise(6, 9, 96), "q")
    gallery = features(vectors, "g")
    reference = exact.search(query, gallery, 40)
    for width in (1, 2, 7, 33, 128):
        monkeypatch.setattr(similarities, "ROWS_PER_PRODUCT", width)
        found = exact.search(query, gallery, 40)
        np.testing.assert_array_equal(found.rows, reference.rows)
        np.testing.assert_array_equal(found.scores, reference.scores)


def test_ties_at_top_k_keep_the_lowest_rows(narrow_tiles: None) -> None:
    gallery = features(np.array([[0.0, 1.0]] * 5 + [[1.0, 0.0]] * 20), "g")
    query = features(np.array([[1.0, 0.0], [0.0, 1.0]]), "q")
    found = exact.search(query, gallery, top_k=7)
    assert found.rows.tolist() == [[5, 6, 7, 8, 9, 10, 11], [0, 1, 2, 3, 4, 5, 6]]


def test_top_k_above_gallery_size_ranks_the_whole_gallery() -> None:
    query = features(noise(7, 2, 3), "q")
    gallery = features(noise(8, 4, 3), "g")
    assert exact.search(query, gallery, top_k=99).rows.shape == (2, 4)


def test_search_blocks_together_equal_search(monkeypatch: pytest.MonkeyPatch) -> None:
    query = features(noise(9, 10, 6), "q")
    gallery = features(noise(10, 30, 6), "g")
    whole = exact.search(query, gallery, 5)
    monkeypatch.setattr(exact, "MAX_QUERIES_PER_BLOCK", 4)
    blocks = list(exact.search_blocks(query, gallery, 5))
    assert [len(block.query_ids) for block in blocks] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([block.rows for block in blocks]), whole.rows)
    assert [i for block in blocks for i in block.query_ids] == list(query.ids)


def test_memory_stays_below_the_score_matrix() -> None:
    query = features(noise(11, 5_000, 8), "q")
    gallery = features(noise(12, 20_000, 8), "g")
    full_matrix_bytes = 4 * len(query) * len(gallery)
    tracemalloc.start()
    exact.search(query, gallery, 10)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 160e6 < full_matrix_bytes / 2


@pytest.mark.parametrize(
    ("top_k", "num_gallery", "expected"),
    [
        (10, 2048, "search_shortlist"),
        (10, 2047, "search_everything"),
        (200, 3200, "search_shortlist"),
        (200, 3199, "search_everything"),
    ],
)
def test_search_uses_a_shortlist_if_it_saves_time(
    monkeypatch: pytest.MonkeyPatch, top_k: int, num_gallery: int, expected: str
) -> None:
    monkeypatch.undo()
    called: list[str] = []

    def record(name: str, *_: object, **__: object) -> tuple[np.ndarray, np.ndarray]:
        called.append(name)
        return np.zeros((1, 1)), np.zeros((1, 1))

    for name in ("search_shortlist", "search_everything"):
        monkeypatch.setattr(exact, name, partial(record, name))
    query = features(noise(16, 1, 2), "q")
    gallery = features(noise(17, num_gallery, 2), "g")
    list(exact._blocks(query, gallery, top_k))
    assert called == [expected]


def test_errors_name_the_value_received() -> None:
    query = features(noise(13, 2, 4), "q", "aaa")
    gallery = features(noise(14, 3, 4), "g", "bbb")
    without_digest = features(noise(15, 3, 4), "g")
    other_dims = features(noise(15, 3, 5), "g")
    empty = GlobalFeatures([], np.zeros((0, 4), np.float32))
    with pytest.raises(
        ValueError, match="query features have model digest aaa, gallery features bbb"
    ):
        exact.search(query, gallery)
    with pytest.raises(ValueError, match=r"same D. Received shapes \(2, 4\) and \(3, 5\)"):
        exact.search(query, other_dims)
    with pytest.raises(
        ValueError, match="at least one query and one gallery image. Received 2 and 0"
    ):
        exact.search(query, empty)
    with pytest.raises(ValueError, match="Received 0 and 3"):
        next(exact.search_blocks(empty, without_digest))
    with pytest.raises(ValueError, match="top_k must be at least 1. Received 0"):
        exact.search(query, without_digest, top_k=0)
    assert exact.search(query, without_digest).rows.shape == (2, 3)
