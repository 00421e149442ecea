"""Check nearest neighbours against a slow version and exact search."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.records import GlobalFeatures
from delf_ext.index import neighbours, shortlist
from delf_ext.index.exact import search
from delf_ext.index.neighbours import nearest_neighbours
from delf_ext.index.similarities import pair_similarities, product_error


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def noise(seed: int, num_images: int, num_dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_images, num_dims))


def slow_neighbours(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow the definition: a stable argsort of similarities summed as Python integers."""
    units = np.rint(embeddings.astype(np.float64) * 2**26).astype(np.int64).astype(object)
    similarities = (units @ units.T / 2**52).astype(np.float32)
    order = np.argsort(-similarities, axis=1, kind="stable")
    return order, np.take_along_axis(similarities, order, axis=1)


def assert_equals_slow_version(embeddings: np.ndarray, k: int) -> None:
    rows, similarities = slow_neighbours(embeddings)
    found = nearest_neighbours(embeddings, k)
    np.testing.assert_array_equal(found.rows, rows[:, :k])
    np.testing.assert_array_equal(found.similarities, similarities[:, :k])
    np.testing.assert_array_equal(found.lowest_similarities, similarities[:, -1])
    assert (found.rows.dtype, found.similarities.dtype) == (np.int32, np.float32)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE_ROWS", 24)
    monkeypatch.setattr(neighbours, "NUM_THREADS", 3)
    monkeypatch.setattr(shortlist, "PAIRS_PER_BLOCK", 300)
    monkeypatch.setattr(neighbours, "CROWDED_AT_ONCE", 7)


@pytest.mark.parametrize("k", [1, 2, 21, 99, 100, 500])
@pytest.mark.parametrize("num_dims", [1, 2, 7, 64])
def test_neighbours_equal_slow_version(small_tiles: None, k: int, num_dims: int) -> None:
    assert_equals_slow_version(unit(noise(1, 100, num_dims)), k)


@pytest.mark.parametrize("k", [1, 20, 70])
@pytest.mark.parametrize("distance", [0.0, 1e-7, 1e-5])
def test_neighbours_of_copies_and_near_copies_equal_slow_version(
    small_tiles: None, k: int, distance: float
) -> None:
    vectors = noise(2, 140, 16)
    vectors[50:] = vectors[0] + distance * noise(3, 90, 16)
    # The lists of farthest images are crowded too.
    vectors[60:90] = -vectors[60:90]
    assert_equals_slow_version(unit(vectors)[np.random.default_rng(4).permutation(140)], k)


def test_neighbours_of_300_copies_are_the_lowest_rows() -> None:
    vectors = noise(5, 900, 32)
    copies = np.sort(np.random.default_rng(6).permutation(900)[:300])
    vectors[copies] = vectors[copies[0]]
    found = nearest_neighbours(unit(vectors), 21)
    np.testing.assert_array_equal(found.rows[copies], np.tile(copies[:21], (300, 1)))


@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(1, 70),
    st.integers(1, 4),
)
def test_result_does_not_depend_on_tiles_or_threads(
    seed: int, num_images: int, k: int, tile: int, threads: int
) -> None:
    embeddings = unit(
        np.random.default_rng(seed).integers(-1, 2, (num_images, 5)) + [0, 0, 0, 0, 0.5]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "TILE_ROWS", tile)
        patch.setattr(neighbours, "NUM_THREADS", threads)
        found = nearest_neighbours(embeddings, k)
    features = GlobalFeatures(np.arange(num_images).astype(str), embeddings)
    expected = search(features, features, k)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.similarities, expected.scores)


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 128, 2048]))
def test_product_error_bounds_the_errors_of_products(seed: int, num_dims: int) -> None:
    # Of one sign, because their sums have the largest rounding errors.
    embeddings = unit(np.abs(noise(seed, 40, num_dims)))
    pairs = np.repeat(np.arange(40), 40), np.tile(np.arange(40), 40)
    exact = pair_similarities(embeddings, embeddings, *pairs).reshape(40, 40)
    assert np.abs(embeddings @ embeddings.T - exact).max() <= product_error(num_dims)
    summed_in_order = np.add.accumulate(embeddings[0] * embeddings[1], dtype=np.float32)[-1]
    assert abs(summed_in_order - exact[0, 1]) <= product_error(num_dims)


def test_pair_similarities_equal_scores_of_search() -> None:
    query, gallery = (
        GlobalFeatures(np.arange(30).astype(str), unit(noise(seed, 30, 100))) for seed in (7, 8)
    )
    found = search(query, gallery)
    pairs = np.repeat(np.arange(30), 30), found.rows.ravel()
    np.testing.assert_array_equal(
        pair_similarities(query.embeddings, gallery.embeddings, *pairs), found.scores.ravel()
    )


def test_memory_stays_below_the_matrix() -> None:
    embeddings = unit(noise(9, 12_000, 8))
    nearest_neighbours(embeddings[:10], 2)
    tracemalloc.start()
    nearest_neighbours(embeddings, 10)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 12_000 * (8 * 26 + 200) + 100e6 < 4 * 12_000**2 / 5


def test_give_up_is_called_after_each_tile(small_tiles: None) -> None:
    fractions: list[float] = []

    def give_up(fraction: float) -> bool:
        fractions.append(fraction)
        return len(fractions) == 4

    with pytest.raises(TimeoutError, match="given up after 40% of the products"):
        nearest_neighbours(unit(noise(10, 90, 5)), 3, give_up)
    assert fractions == [0.1, 0.2, 0.3, 0.4]


def test_give_up_is_called_before_each_block_of_copies(small_tiles: None) -> None:
    """There are ten tiles, then 90 crowded images in blocks of 7."""
    fractions: list[float] = []

    def give_up(fraction: float) -> bool:
        fractions.append(fraction)
        return len(fractions) == 15

    with pytest.raises(TimeoutError, match="given up after 100% of the products"):
        nearest_neighbours(unit(np.ones((90, 5))), 3, give_up)
    assert fractions[9:] == [1.0] * 6


def test_errors_name_the_value_received() -> None:
    with pytest.raises(ValueError, match=r"k of at least 1. Received shape=\(3, 2\), k=0"):
        nearest_neighbours(np.eye(3, 2, dtype=np.float32), 0)
    with pytest.raises(ValueError, match=r"Received shape=\(0, 4\), k=5"):
        nearest_neighbours(np.zeros((0, 4), np.float32), 5)
