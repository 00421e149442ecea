from __future__ import annotations

import numpy as np
import pytest

from data_io.records import GlobalFeatures


def test_global_features_store_float32() -> None:
    features = GlobalFeatures(np.array(["a"]), np.array([[0.6, 0.8]]), "digest")
    assert features.embeddings.dtype == np.float32
    assert len(features) == 1
    assert len(GlobalFeatures(np.zeros(0), np.zeros((0, 8)))) == 0


@pytest.mark.parametrize(
    ("embedding", "length"), [([3.0, 4.0], "5"), ([0.0, 0.0], "0"), ([np.nan, 0.0], "nan")]
)
def test_global_features_refuse_another_length(embedding: list[float], length: str) -> None:
    message = f"embeddings must be of unit length. b has length {length}"
    with pytest.raises(ValueError, match=message):
        GlobalFeatures(np.array(["a", "b"]), np.array([[1.0, 0.0], embedding]))


def test_global_features_refuse_other_shapes_and_repeated_ids() -> None:
    message = r"embeddings must be \[N, D\] for 2 ids. Received shape=\(1, 2\)"
    with pytest.raises(ValueError, match=message):
        GlobalFeatures(np.array(["a", "b"]), np.array([[1.0, 0.0]]))
    with pytest.raises(ValueError, match="must be unique. Received twice: a"):
        GlobalFeatures(np.array(["a", "a"]), np.array([[1.0], [1.0]]))
