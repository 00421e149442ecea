"""Test that one pass fills the store of each pooling, as the pooling alone would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_io.progress import quiet
from data_io.stores.embeddings import EmbeddingStore
from data_io.stores.joined_embeddings import JoinedStore, split_embeddings

FIRST = np.array([[1, 0], [0, 1]], np.float32)
SECOND = np.array([[0.6, 0.8], [0.8, -0.6]], np.float32)
# Divided by the square root of 2: unit length.
JOINED = np.concatenate([FIRST, SECOND], axis=1) / np.sqrt(2).astype(np.float32)


@pytest.fixture
def stores(tmp_path: Path) -> list[EmbeddingStore]:
    return [EmbeddingStore(tmp_path, digest, quiet) for digest in ("first", "second")]


def test_embeddings_are_split_into_parts_of_unit_length() -> None:
    first, second = split_embeddings(JOINED, 2)
    np.testing.assert_allclose(first, FIRST, atol=1e-6)
    np.testing.assert_allclose(second, SECOND, atol=1e-6)
    assert first.dtype == np.float32
    zero = split_embeddings(np.array([[0, 0, 1, 0]], np.float32), 2)
    assert [part.tolist() for part in zero] == [[[0, 0]], [[1, 0]]]


def test_each_store_gets_its_part_and_both_give_the_joined_one(
    stores: list[EmbeddingStore],
) -> None:
    joined = JoinedStore(stores)
    assert joined.get("a") is None
    joined.add(["a", "b"], JOINED)
    for store, expected in zip(stores, (FIRST, SECOND)):
        np.testing.assert_allclose(store.get("b"), expected[1], atol=1e-6)
    np.testing.assert_allclose(joined.get("b"), JOINED[1], atol=1e-6)


def test_image_that_one_store_lacks_is_not_known(stores: list[EmbeddingStore]) -> None:
    stores[0].add(["a"], FIRST[:1])
    assert JoinedStore(stores).get("a") is None


def test_embedding_of_zero_is_not_stored(stores: list[EmbeddingStore]) -> None:
    JoinedStore(stores).add(["a"], np.array([[0, 0, 1, 0]], np.float32))
    assert stores[0].get("a") is None
    assert stores[1].get("a") is not None
