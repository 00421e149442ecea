"""Check that shortlists give the result of comparing everything."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf_ext.index import exact, shortlist
from delf_ext.index.exact import search_everything, search_shortlist
from delf_ext.index.shortlist import Shortlists, fill, rank_exactly
from delf_ext.index.similarities import product_error


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def noise(seed: int, num_images: int, num_dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_images, num_dims))


def slow_search(query: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Follow the definition: a stable argsort of similarities summed as Python integers."""
    query_units, gallery_units = (
        np.rint(embeddings.astype(np.float64) * 2**26).astype(np.int64).astype(object)
        for embeddings in (query, gallery)
    )
    scores = (query_units @ gallery_units.T / 2**52).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


def assert_same(
    found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]
) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.fixture
def compared_with_everything(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the queries of each search that are compared with everything."""
    counts: list[int] = []

    def count_queries(
        query: np.ndarray, gallery: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        counts.append(len(query))
        return search_everything(query, gallery, k)

    monkeypatch.setattr(exact, "search_everything", count_queries)
    yield counts


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortlist, "PRODUCTS_PER_TILE", 500)
    monkeypatch.setattr(shortlist, "NUM_THREADS", 3)
    monkeypatch.setattr(shortlist, "PAIRS_PER_BLOCK", 300)


@pytest.mark.parametrize("k", [1, 2, 21, 199, 200])
@pytest.mark.parametrize("num_dims", [1, 2, 7, 64])
def test_shortlist_search_equals_slow_search(small_tiles: None, k: int, num_dims: int) -> None:
    query = unit(noise(1, 11, num_dims))
    gallery = unit(noise(2, 200, num_dims))
    assert_same(search_shortlist(query, gallery, k), slow_search(query, gallery, k))


@pytest.mark.parametrize("num_dims", [128, 512, 2048])
def test_random_vectors_are_not_compared_with_everything(
    compared_with_everything: list[int], num_dims: int
) -> None:
    query = unit(noise(3, 40, num_dims))
    gallery = unit(noise(4, 5000, num_dims))
    assert_same(search_shortlist(query, gallery, 50), search_everything(query, gallery, 50))
    assert compared_with_everything == [0]


@pytest.mark.parametrize("distance", [0.0, 1e-7, 1e-5])
@pytest.mark.parametrize("k", [1, 20, 90])
def test_shortlist_search_of_copies_and_near_copies_equals_slow_search(
    small_tiles: None, compared_with_everything: list[int], distance: float, k: int
) -> None:
    """Half of the queries are near 90 gallery images, the other half are far from them."""
    vectors = noise(5, 300, 16)
    vectors[:90] = vectors[0] + distance * noise(6, 90, 16)
    gallery = unit(vectors)[np.random.default_rng(7).permutation(300)]
    near = vectors[:1] + 0.1 * noise(8, 5, 16)
    far = -vectors[:1] + 0.1 * noise(9, 5, 16)
    query = unit(np.concatenate([near, far]))
    assert_same(search_shortlist(query, gallery, k), slow_search(query, gallery, k))
    if distance < 1e-5:
        assert compared_with_everything == [5 if k < 90 else 0]


@settings(max_examples=50)
@given(
    *(st.integers(1, high) for high in (10_000, 9, 120, 130, 60, 4)),
    st.integers(1, 6),
)
def test_result_does_not_depend_on_tiles_or_threads(
    seed: int,
    num_queries: int,
    num_gallery: int,
    k: int,
    products: int,
    threads: int,
    num_dims: int,
) -> None:
    """Components are whole numbers before scaling, so there are many ties."""
    rng = np.random.default_rng(seed)
    query, gallery = (
        unit(rng.integers(-1, 2, (num, num_dims)) + 0.5) for num in (num_queries, num_gallery)
    )
    k = min(k, num_gallery)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortlist, "PRODUCTS_PER_TILE", products)
        patch.setattr(shortlist, "NUM_THREADS", threads)
        found = search_shortlist(query, gallery, k)
    assert_same(found, slow_search(query, gallery, k))


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1e-4, 0.02, 0.3]), st.integers(1, 20))
def test_shortlist_holds_the_nearest_despite_errors_of_the_tiles(
    seed: int, error: float, k: int
) -> None:
    """Each vector of the tile differs from the gallery by at most its error."""
    rng = np.random.default_rng(seed)
    query = unit(rng.standard_normal((5, 8)))
    gallery = unit(rng.standard_normal((150, 8)))
    moves = unit(rng.standard_normal((150, 8))) * (error * rng.random((150, 1)) ** 4).astype(
        np.float32
    )
    errors = np.linalg.norm(moves.astype(np.float64), axis=1).astype(np.float32) + np.float32(2e-7)
    lists = Shortlists.empty(5, 8, k, errors, extra_room=130)
    fill(lists, query, [gallery + moves])
    assert len(lists.crowded()) == 0
    assert_same(rank_exactly(query, gallery, lists), slow_search(query, gallery, k))


def test_margin_is_twice_the_product_error() -> None:
    """Two products that are nearly as far apart as the bound allows may be in the wrong order."""
    lists = Shortlists.empty(1, 4, 1, np.zeros(30, np.float32))
    error = np.float32(product_error(4))
    for row, product in enumerate([0.5, 0.5 - 1.99 * error, 0.5 - 2.01 * error] + [0.1] * 27):
        shortlist.add(lists, 0, row, np.float32(product))
    shortlist._thin_out_all(lists)
    assert lists.rows[0, : lists.counts[0]].tolist() == [0, 1]
