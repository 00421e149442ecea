from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf_ext.index import exact, shortlist
from delf_ext.index.exact import search_everything, search_shortlist
from delf_ext.index.shortlist import Shortlists, best, fill
from delf_ext.index.similarities import product_error


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def noise(seed: int, num_images: int, num_dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_images, num_dims))


def slow_search(query: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition: a stable full argsort of exact similarities."""
    query, gallery = (
        np.rint(part.astype(np.float64) * 2**26).astype(np.int64).astype(object)
        for part in (query, gallery)
    )
    scores = (query @ gallery.T / 2**52).astype(np.float32)  # Python's integers
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


def assert_same(
    found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]
) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.fixture
def compared_with_everything(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many queries of each search were."""
    counts: list[int] = []

    def noted(query: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        counts.append(len(query))
        return search_everything(query, gallery, k)

    monkeypatch.setattr(exact, "search_everything", noted)
    yield counts


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortlist, "PRODUCTS_PER_TILE", 500)
    monkeypatch.setattr(shortlist, "NUM_THREADS", 3)
    monkeypatch.setattr(shortlist, "PAIRS_PER_BLOCK", 300)


@pytest.mark.parametrize("k", [1, 2, 21, 199, 200])
@pytest.mark.parametrize("num_dims", [1, 2, 7, 64])
def test_equals_slow_twin(small_tiles: None, k: int, num_dims: int) -> None:
    query, gallery = unit(noise(1, 11, num_dims)), unit(noise(2, 200, num_dims))
    assert_same(search_shortlist(query, gallery, k), slow_search(query, gallery, k))


@pytest.mark.parametrize("num_dims", [128, 512, 2048])
def test_float32_is_enough_for_vectors_that_are_not_copies(
    compared_with_everything: list[int], num_dims: int
) -> None:
    query, gallery = unit(noise(3, 40, num_dims)), unit(noise(4, 5000, num_dims))
    assert_same(search_shortlist(query, gallery, 50), search_everything(query, gallery, 50))
    assert compared_with_everything == [0]


@pytest.mark.parametrize("distance", [0.0, 1e-7, 1e-5])
@pytest.mark.parametrize("k", [1, 20, 90])
def test_equals_slow_twin_with_copies_and_near_copies(
    small_tiles: None, compared_with_everything: list[int], distance: float, k: int
) -> None:
    """Half of the queries are near 90 of the gallery; the others have them among their far images."""
    vectors = noise(5, 300, 16)
    vectors[:90] = vectors[0] + distance * noise(6, 90, 16)
    gallery = unit(vectors)[np.random.default_rng(7).permutation(300)]
    query = unit(
        np.concatenate([vectors[:1] + 0.1 * noise(8, 5, 16), -vectors[:1] + 0.1 * noise(9, 5, 16)])
    )
    assert_same(search_shortlist(query, gallery, k), slow_search(query, gallery, k))
    assert (
        compared_with_everything == ([5] if k < 90 and distance < 1e-5 else [0]) or distance == 1e-5
    )


@settings(max_examples=50)
@given(
    *(st.integers(1, high) for high in (10_000, 9, 120, 130, 60, 4)),
    st.integers(1, 6),
)
def test_no_tile_and_no_thread_changes_the_result(
    seed: int,
    num_queries: int,
    num_gallery: int,
    k: int,
    products: int,
    threads: int,
    num_dims: int,
) -> None:
    """Whole numbers as components: many are equally near."""
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
def test_products_may_be_off_by_what_their_row_says(seed: int, error: float, k: int) -> None:
    """A tile of vectors other than the gallery's, each by no more than its error: the list still holds the nearest."""
    rng = np.random.default_rng(seed)
    query, gallery = unit(rng.standard_normal((5, 8))), unit(rng.standard_normal((150, 8)))
    moves = unit(rng.standard_normal((150, 8))) * (error * rng.random((150, 1)) ** 4).astype(
        np.float32
    )
    errors = np.linalg.norm(moves.astype(np.float64), axis=1).astype(np.float32) + np.float32(2e-7)
    lists = Shortlists.empty(5, 8, k, errors, room=130)
    fill(lists, query, [gallery + moves])
    assert len(lists.crowded()) == 0
    assert_same(best(query, gallery, lists), slow_search(query, gallery, k))


def test_the_margin_is_as_wide_as_needed() -> None:
    """Two whose exact order is the opposite of that of their products, as far apart as the bound allows."""
    lists = Shortlists.empty(1, 4, 1, np.zeros(30, np.float32))
    error = np.float32(product_error(4))
    for row, product in enumerate([0.5, 0.5 - 1.99 * error, 0.5 - 2.01 * error] + [0.1] * 27):
        shortlist.add(lists, 0, row, np.float32(product))
    shortlist._thin_out_all(lists)
    assert lists.rows[0, : lists.counts[0]].tolist() == [0, 1]
