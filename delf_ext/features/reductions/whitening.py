"""Reduce embeddings to their principal components, each scaled to variance 1."""

from __future__ import annotations

import numpy as np

from delf_ext.features.reductions.projection import Projection
from delf_ext.features.reductions.scatter import Scatter
from delf_ext.recipes import schema


def fit_pca_whitening(config: schema.PcaWhitening, scatter: Scatter) -> Projection:
    """Keep the directions of largest variance, and divide each by its standard deviation.

    With shrinkage, the mean variance of all dimensions is mixed into each variance first, so that
    directions of little variance are not blown up. Sources: Jegou and Chum 2012 (PCA and
    whitening); Ledoit and Wolf 2004 (shrinkage).

    Args:
        config: number of dimensions, and shrinkage.
        scatter: of the embeddings to fit on.

    Returns:
        The projection.
    """
    variances, vectors = scatter.components(config.dims)
    mean_variance = scatter.total_variance / len(scatter.mean)
    mixed = (1 - config.shrinkage) * variances + config.shrinkage * mean_variance
    scaled = vectors / np.sqrt(mixed)
    return Projection(scatter.mean, scaled[:, : config.dims])
