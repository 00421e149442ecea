"""Scale vectors to unit length."""

from __future__ import annotations

import numpy as np

# A sum of unit vectors that is shorter is rounding error and has no direction.
MIN_LENGTH = 1e-6


def directions(vectors: np.ndarray, otherwise: np.ndarray | float = 0.0) -> np.ndarray:
    """Scale vectors to unit length.

    Args:
        vectors: float [N, D].
        otherwise: float32 [N, D], replaces vectors without direction; 0 makes them zero.

    Returns:
        float32 [N, D].
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.where(lengths > MIN_LENGTH, vectors / np.maximum(lengths, MIN_LENGTH), otherwise)
    return unit.astype(np.float32, copy=False)
