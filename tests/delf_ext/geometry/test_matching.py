"""Check matching against a slow version, and that its products are exact."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf_ext.config import UsageError
from delf_ext.geometry import matching
from delf_ext.geometry.matching import MatchConfig, match


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def noise(seed: int, num_rows: int, num_dims: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((num_rows, num_dims)))


def slow_match(query: np.ndarray, gallery: np.ndarray, config: MatchConfig) -> list[list[int]]:
    """Follow the definition, on whole numbers: all distances, then a stable argsort."""
    q, g = (
        np.rint(x * np.float32(matching.UNITS_PER_ONE)).astype(np.int64) for x in (query, gallery)
    )
    squares = ((q[:, None] - g[None]) ** 2).sum(-1)
    matches = []
    for row, line in enumerate(squares):
        order = np.argsort(line, kind="stable")
        best, second = [*line[order[:2]], np.nan, np.nan][:2]
        ratio = 0.0
        if config.max_ratio < 1:
            ratio = best / second if second else np.nan
        near = not config.max_distance or best**0.5 <= config.max_distance * matching.UNITS_PER_ONE
        mutual = not config.mutual or (len(order) and np.argmin(squares[:, order[0]]) == row)
        if len(order) and ratio < config.max_ratio**2 and near and mutual:
            quality = ratio if config.max_ratio < 1 else best
            matches.append((quality, row, int(order[0])))
    return [[row, nearest] for _, row, nearest in sorted(matches)]


configs = st.builds(
    MatchConfig,
    st.sampled_from([0.7, 0.9, 0.97, 1.0]),
    st.sampled_from([0.0, 0.8, 1.2]),
    st.sampled_from([True, False]),
)


@given(
    st.integers(0, 10_000),
    st.integers(0, 40),
    st.lists(st.integers(0, 90), max_size=6),
    st.integers(1, 12),
    configs,
)
def test_match_equals_slow_match(
    seed: int, num_query: int, sizes: list[int], num_dims: int, config: MatchConfig
) -> None:
    """Descriptors are drawn from 60 vectors, so there are many duplicates and ties."""
    rng = np.random.default_rng(seed)
    vectors = noise(seed, 60, num_dims)
    query, *gallery = (vectors[rng.integers(60, size=size)] for size in (num_query, *sizes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "BLOCK_ROWS", 16)
        patch.setattr(matching, "BLOCK_COLUMNS", 70)
        found = match(query, gallery, config)
    assert [matches.tolist() for matches in found] == [
        slow_match(query, descriptors, config) for descriptors in gallery
    ]
    assert all(matches.dtype == np.int32 and matches.shape[1:] == (2,) for matches in found)


def test_result_does_not_depend_on_blocks_or_order_of_the_gallery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query = noise(1, 300, 40)
    gallery = [noise(seed, 100 * seed, 40) for seed in range(2, 7)]
    reference = match(query, gallery, MatchConfig())
    assert min(map(len, reference)) > 5
    for rows, columns in [(1, 1), (37, 450), (1000, 10_000)]:
        monkeypatch.setattr(matching, "BLOCK_ROWS", rows)
        monkeypatch.setattr(matching, "BLOCK_COLUMNS", columns)
        for found, expected in zip(
            match(query, gallery[::-1], MatchConfig())[::-1], reference, strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_mutual_matches_are_the_same_if_query_and_gallery_are_swapped() -> None:
    """Without the ratio test, and with distances that are all different."""
    query = noise(1, 80, 64)
    gallery = noise(2, 90, 64)
    config = MatchConfig(max_ratio=1.0)
    (matches,) = match(query, [gallery], config)
    (swapped,) = match(gallery, [query], config)
    assert sorted(matches.tolist()) == sorted(swapped[:, ::-1].tolist())
    assert len(matches) > 10


def test_permuted_rows_give_permuted_matches() -> None:
    query = noise(3, 70, 32)
    gallery = noise(4, 80, 32)
    order = np.random.default_rng(5).permutation(70)
    (plain,) = match(query, [gallery], MatchConfig())
    (permuted,) = match(query[order], [gallery], MatchConfig())
    np.testing.assert_array_equal(np.stack([order[permuted[:, 0]], permuted[:, 1]], axis=1), plain)


@pytest.mark.parametrize("num_dims", [1, 40, 128, 1024])
def test_products_are_exact_for_the_longest_descriptors(num_dims: int) -> None:
    """Opposite descriptors reach the bound. The sum is right in any order."""
    longest = matching.MAX_LENGTH * noise(6, 20, num_dims)
    units = matching.prepare(longest).astype(np.int64)
    assert 4 * matching.MAX_UNITS**2 < 2**24
    exact = ((units[:, None, :-2] + units[None, :, :-2]) ** 2).sum(-1)
    opposed = matching.prepare(-longest)
    doubled = np.concatenate([-2 * units[:, :-2], units[:, -1:], units[:, -2:-1]], axis=1).astype(
        np.float32
    )
    np.testing.assert_array_equal(doubled @ opposed.T, exact)
    np.testing.assert_array_equal(
        sum(np.multiply.outer(a, b) for a, b in zip(doubled.T, opposed.T)), exact
    )


def test_ratio_and_distance_tests_have_their_golden_limits() -> None:
    """Distances by hand: |(1, 0) - (0.82, s)|^2 = 0.36 = 0.6^2, |(1, 0) - (0.68, s)|^2 = 0.8^2."""
    query = np.array([[1, 0]], np.float32)
    gallery = np.array([[0.68, (1 - 0.68**2) ** 0.5], [0.82, (1 - 0.82**2) ** 0.5]], np.float32)
    assert match(query, [gallery], MatchConfig(max_ratio=0.751))[0].tolist() == [[0, 1]]
    assert match(query, [gallery], MatchConfig(max_ratio=0.749))[0].tolist() == []
    assert match(query, [gallery], MatchConfig(max_distance=0.601))[0].tolist() == [[0, 1]]
    assert match(query, [gallery], MatchConfig(max_distance=0.599))[0].tolist() == []


def test_ratio_test_fails_for_a_single_gallery_descriptor() -> None:
    query = noise(7, 5, 8)
    single = noise(7, 1, 8)
    assert match(query, [single], MatchConfig())[0].tolist() == []
    config = MatchConfig(max_ratio=1.0, max_distance=0.1)
    assert match(query, [single], config)[0].tolist() == [[0, 0]]


def test_images_without_descriptors_have_no_matches() -> None:
    empty = np.zeros((0, 4), np.float32)
    some = noise(8, 3, 4)
    for config in (
        MatchConfig(),
        MatchConfig(max_ratio=1.0),
        MatchConfig(max_ratio=1.0, mutual=False),
    ):
        assert [found.shape for found in match(empty, [some, empty], config)] == [(0, 2), (0, 2)]
        assert match(some, [empty], config)[0].shape == (0, 2)
        assert match(some, [], config) == []


def test_errors_name_the_value_received() -> None:
    with pytest.raises(UsageError, match=re.escape("max_ratio must be in (0, 1]. Received 0.0.")):
        MatchConfig(max_ratio=0.0)
    with pytest.raises(
        UsageError,
        match=re.escape(
            "max_distance must be in [0, 2], the distances between unit descriptors. Received nan."
        ),
    ):
        MatchConfig(max_distance=float("nan"))
    with pytest.raises(ValueError, match=r"same d. Received \(2, 4\), \(3, 5\)"):
        match(noise(1, 2, 4), [noise(2, 3, 5)], MatchConfig())
    with pytest.raises(ValueError, match="Row 1 has length 2."):
        match(noise(1, 2, 4) * np.float32([[1], [2]]), [noise(2, 3, 4)], MatchConfig())
    with pytest.raises(ValueError, match="Row 0 has length nan."):
        match(np.full((1, 4), np.nan, np.float32), [noise(2, 3, 4)], MatchConfig())
    with pytest.raises(ValueError, match=r"d at most 1024. Received shape=\(1, 1025\)"):
        match(noise(1, 1, 1025), [], MatchConfig())
