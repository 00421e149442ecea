from __future__ import annotations

import numpy as np
import pytest

from delf_ext.features.collapse import collapse_warning, mean_similarity


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_mean_similarity_equals_slow_twin() -> None:
    embeddings = unit(np.random.default_rng(0).standard_normal((9, 5)))
    pairs = [embeddings[a] @ embeddings[b] for a in range(9) for b in range(9) if a != b]
    assert mean_similarity(embeddings) == pytest.approx(np.mean(pairs), abs=1e-6)


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_warns_of_embeddings_that_are_all_alike(noise: float) -> None:
    rng = np.random.default_rng(1)
    embeddings = unit(np.ones((20, 16)) + noise * rng.standard_normal((20, 16)))
    line = collapse_warning(embeddings)
    assert "all 20 images nearly the same embedding" in line
    assert "smaller --lr" in line


def test_does_not_warn_of_similar_photographs_or_of_a_few_copies() -> None:
    rng = np.random.default_rng(2)
    # Embeddings after a ReLU have high cosines; these have 0.99.
    similar = unit(np.ones((20, 2048)) + 0.1 * rng.standard_normal((20, 2048)))
    assert mean_similarity(similar) > 0.98
    assert collapse_warning(similar) == ""
    assert collapse_warning(unit(np.ones((7, 4)))) == ""
    apart = unit(np.concatenate([np.ones((10, 4)), np.eye(4)]))
    assert collapse_warning(apart) == ""
