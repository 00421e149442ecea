"""Notice a model that gives all images nearly the same embedding: its rankings are chance."""

from __future__ import annotations

import numpy as np

MIN_IMAGES = 8
# Chosen by judgement: a triplet loss stuck at its margin means distances near 0. Not measured.
COLLAPSED_SIMILARITY = 0.9999


def mean_similarity(embeddings: np.ndarray) -> float:
    """Compute the mean cosine of all pairs of different images, in O(N).

    Args:
        embeddings: float [N, D] of unit length, N at least 2; zero rows have the cosine 0.

    Returns:
        The mean over N (N - 1) pairs.

    >>> mean_similarity(np.array([[1.0, 0.0], [0.0, 1.0]]))
    0.0
    """
    num_images = len(embeddings)
    total = np.sum(np.square(embeddings.sum(axis=0, dtype=np.float64)))
    own = np.sum(np.square(embeddings, dtype=np.float64))
    return float((total - own) / (num_images * (num_images - 1)))


def collapse_warning(embeddings: np.ndarray) -> str:
    """Return a warning if the embeddings are nearly all the same, else "".

    Args:
        embeddings: float32 [N, D] of unit length.

    Returns:
        One line. Fewer than MIN_IMAGES images may be photographs of one thing: no warning.
    """
    if len(embeddings) < MIN_IMAGES:
        return ""
    similarity = mean_similarity(embeddings)
    if similarity < COLLAPSED_SIMILARITY:
        return ""
    return (
        f"warning: the model gives all {len(embeddings)} images nearly the same embedding (mean "
        f"similarity {similarity:.6f}): rankings are chance. Its training has collapsed (try a "
        "smaller --lr, or start from --pretrained_model), or its input is not scaled as it expects."
    )
