"""Fit linear discriminant analysis: keep the directions in which classes differ."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from delf_ext.features.reductions.projection import Projection
from delf_ext.features.reductions.scatter import SMALLEST, Scatter, with_fixed_signs
from delf_ext.recipes import schema


def fit_lda(config: schema.Lda, scatter: Scatter) -> Projection:
    """Keep the directions in which class means differ most, relative to the spread within classes.

    The directions v maximize (v' B v) / (v' S v), with v' S v = 1, where B is the covariance of
    the class means and S the one within classes, with shrinkage. Source: Fukunaga 1990,
    "Introduction to Statistical Pattern Recognition", section 10.2. Without shrinkage, it is
    scikit-learn's LinearDiscriminantAnalysis with the solver "eigen"; that one also shrinks B.

    Args:
        config: shrinkage and number of dimensions; 0 = one less than the number of classes.
        scatter: of the embeddings to fit on.

    Returns:
        The projection; it has fewer dimensions if the class means span fewer.
    """
    root = scatter.shrunk_root(config.shrinkage)
    whitened = linalg.solve_triangular(root, scatter.between.T, lower=True)
    vectors, ratios, _ = linalg.svd(whitened, full_matrices=False)
    num_dims = int(np.sum(ratios > SMALLEST * max(ratios[0], np.finfo(np.float64).tiny)))
    num_dims = min(num_dims, config.dims or scatter.num_classes - 1)
    kept = with_fixed_signs(vectors[:, : max(1, num_dims)])
    vectors = linalg.solve_triangular(root, kept, lower=True, trans="T")
    return Projection(scatter.mean, scatter.lifted(vectors))
