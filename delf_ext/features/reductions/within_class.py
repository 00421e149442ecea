"""Transform embeddings so that their covariance within classes is the identity."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from delf_ext.features.reductions.projection import Projection
from delf_ext.features.reductions.scatter import Scatter
from delf_ext.recipes import schema


def fit_within_class_whitening(config: schema.WithinClassWhitening, scatter: Scatter) -> Projection:
    """Divide by what differs among photographs of one product; the dimension stays.

    If S = L L' is the covariance within classes, the matrix is the transpose of inverse L. Any
    other matrix W with W W' = inverse S gives the same cosines. Source: Hatch and Stolcke 2006,
    "Generalized linear kernels for one-versus-all classification" (within-class covariance
    normalization).

    Args:
        config: shrinkage.
        scatter: of the embeddings to fit on.

    Returns:
        The projection.
    """
    root = scatter.shrunk_root(config.shrinkage)
    # A quarter of the time of `solve_triangular` with the identity.
    inverse, _ = linalg.lapack.dtrtri(root, lower=1)
    outside = 1 / np.sqrt(scatter.added_variance(config.shrinkage))
    return Projection(scatter.mean, scatter.lifted_map(inverse.T, outside))
