from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.records import GlobalFeatures, Ranking

FEW = settings(max_examples=60, deadline=None)


def columns_of(record: GlobalFeatures | Ranking) -> dict[str, object]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def assert_same_record(left: GlobalFeatures | Ranking, right: GlobalFeatures | Ranking) -> None:
    assert type(left) is type(right)
    for name, value in columns_of(left).items():
        np.testing.assert_array_equal(value, getattr(right, name), strict=True)
        if isinstance(value, np.ndarray):
            assert not value.flags.writeable


def drawn_ranking(num_queries: int, num_gallery: int, k: int, seed: int) -> Ranking:
    rng = np.random.default_rng(seed)
    rows = np.argsort(rng.random((num_queries, num_gallery)), axis=1)[:, :k]
    return Ranking(
        np.array([f"q{row}" for row in range(num_queries)]),
        np.array([f"g{row}" for row in range(num_gallery)]),
        rows,
        -np.sort(rng.random(rows.shape), axis=1),
        complete=rng.random(num_queries) < 0.5,
        provenance="drawn",
    )


def test_trusted_features_equal_checked_features_without_a_copy() -> None:
    checked = GlobalFeatures(["a", "b"], np.eye(2), "digest")
    embeddings = np.eye(2, dtype=np.float32)
    trusted = GlobalFeatures.trusted(
        ids=np.array(["a", "b"]), embeddings=embeddings, digest="digest"
    )
    assert_same_record(checked, trusted)
    assert trusted.embeddings is embeddings
    assert_same_record(trusted, GlobalFeatures.trusted(**columns_of(trusted)))


@FEW
@given(st.integers(0, 5), st.integers(0, 6), st.integers(0, 6), st.integers(0, 99))
def test_trusted_ranking_equals_checked_ranking_without_a_copy(
    num_queries: int, num_gallery: int, k: int, seed: int
) -> None:
    checked = drawn_ranking(num_queries, num_gallery, k, seed)
    columns = columns_of(checked) | {"rows": checked.rows.copy(), "scores": checked.scores.copy()}
    trusted = Ranking.trusted(**columns)
    assert_same_record(checked, trusted)
    assert trusted.rows is columns["rows"]
    assert trusted.scores is columns["scores"]
    assert_same_record(
        Ranking.trusted(**columns | {"complete": None}),
        dataclasses.replace(checked, complete=None),
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"query_ids": np.array([1])},
        {"gallery_ids": np.array([b"g"])},
        {"rows": np.array([[0, 1]])},
        {"scores": np.array([[2.0]], np.float32)},
        {"complete": np.array([True, True])},
    ],
)
def test_trusted_ranking_asserts_types_and_shapes(wrong: dict[str, np.ndarray]) -> None:
    with pytest.raises(AssertionError):
        Ranking.trusted(**columns_of(drawn_ranking(1, 2, 2, seed=0)) | wrong)


@pytest.mark.parametrize(
    "embeddings", [np.eye(2), np.eye(3, dtype=np.float32), np.ones(2, np.float32)]
)
def test_trusted_features_assert_types_and_shapes(embeddings: np.ndarray) -> None:
    with pytest.raises(AssertionError):
        GlobalFeatures.trusted(ids=np.array(["a", "b"]), embeddings=embeddings)


@FEW
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 7), st.integers(0, 99))
def test_parts_of_a_ranking_equal_checked_ones(
    num_queries: int, num_gallery: int, k: int, seed: int
) -> None:
    ranking = drawn_ranking(num_queries, num_gallery, num_gallery, seed)
    cut = dataclasses.replace(ranking, rows=ranking.rows[:, :k], scores=ranking.scores[:, :k])
    assert_same_record(cut, ranking.cut(k))
    assert ranking.cut(k).rows.flags.c_contiguous
    blocks = [ranking.block(slice(start, start + 2)) for start in range(0, num_queries, 2)]
    assert [len(block) for block in blocks[:-1]] == [2] * (len(blocks) - 1)
    assert_same_record(ranking, Ranking.joined(blocks))
    assert_same_record(blocks[0], Ranking(**columns_of(blocks[0])))
