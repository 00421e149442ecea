"""Test the stores that embeddings and logits of one pass are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_io.progress import quiet
from data_io.stores.embeddings import EmbeddingStore
from data_io.stores.logits import LogitStore

ROWS = np.array([[1, 0, 5, -2, 7], [0, 1, 4, 0, -1]], np.float32)


def opened(folder: Path, num_logits: int = 3) -> LogitStore:
    return LogitStore(EmbeddingStore(folder, "model", quiet), num_logits)


def test_rows_are_read_back_and_embeddings_are_shared(tmp_path: Path) -> None:
    opened(tmp_path).add(["a", "b"], ROWS)
    again = opened(tmp_path)
    np.testing.assert_array_equal(again.get("b"), ROWS[1])
    np.testing.assert_array_equal(EmbeddingStore(tmp_path, "model", quiet).get("a"), [1, 0])
    assert again.get("c") is None


def test_an_image_without_both_is_missing(tmp_path: Path) -> None:
    EmbeddingStore(tmp_path, "model", quiet).add(["a"], ROWS[:1, :2])
    assert opened(tmp_path).get("a") is None
    opened(tmp_path).add(["a"], ROWS[:1])
    # A classifier of other classes.
    assert opened(tmp_path, num_logits=2).get("a") is None


def test_copies_have_their_own_rows(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.of_copy("mirror").add(["a"], ROWS[:1])
    assert store.get("a") is None
    np.testing.assert_array_equal(opened(tmp_path).of_copy("mirror").get("a"), ROWS[0])
    assert EmbeddingStore(tmp_path, "model", quiet).of_copy("mirror").get("a") is not None
