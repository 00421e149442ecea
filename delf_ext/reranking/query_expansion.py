"""Query expansion: replace each query by the mean of itself and its first results.

It helps if the first places are mostly right. If they are not, it moves the query away from its
object: use few images or a high alpha.
Sources: average, Chum et al. 2007 (ICCV); weights similarity**alpha, Radenovic et al. 2018
(arXiv:1711.02512), who use 50 images and alpha = 3.
"""

from __future__ import annotations

import math

import numpy as np

from data_io.directions import directions
from delf_ext.config import UsageError

ROWS_PER_BLOCK = 256  # 50 MB of gathered vectors at 25 images and D = 2048


def expanded_embeddings(
    own: np.ndarray, embeddings: np.ndarray, rows: np.ndarray, alpha: float
) -> np.ndarray:
    """Add to each vector some embeddings, weighted by similarity**alpha; the vector itself has 1.

    The similarities come from the embeddings, because the scores of a ranking may be those of a
    re-ranking step. A sum without direction leaves the vector unchanged.

    Args:
        own: float32 [N, D], unit length.
        embeddings: float32 [G, D], unit length.
        rows: int [N, n], rows of `embeddings` to add; -1 for none.
        alpha: 0 is the plain average; above 0, an image of negative similarity has weight 0.

    Returns:
        float32 [N, D], unit length.
    """
    result = np.empty_like(own)
    for start in range(0, len(own), ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        gathered = embeddings[rows[block]]
        similarities = np.matmul(gathered, own[block, :, np.newaxis])[:, :, 0]
        weights = np.maximum(similarities, 0.0) ** np.float32(alpha) * (rows[block] >= 0)
        sums = own[block] + np.matmul(weights[:, np.newaxis], gathered)[:, 0]
        result[block] = directions(sums, own[block])
    return result


def check_weights(name: str, number: int, alpha: float) -> None:
    """Check the settings of a weighted mean.

    Args:
        name: of the setting `number`, for the message.
        number: images to average, at least 1.
        alpha: exponent of the similarity, at least 0.

    Raises:
        UsageError: a setting is out of range.
    """
    if number < 1:
        raise UsageError(f"{name} must be at least 1. Received {number}.")
    if not (math.isfinite(alpha) and alpha >= 0):
        raise UsageError(f"alpha must be at least 0. Received {alpha}.")
