"""Reduce embeddings to their principal components."""

from __future__ import annotations

from delf_ext.features.reductions.projection import Projection
from delf_ext.features.reductions.scatter import Scatter
from delf_ext.recipes import schema


def fit_pca(config: schema.Pca, scatter: Scatter) -> Projection:
    """Keep the directions of largest variance, or all of them if there are fewer.

    Source: Pearson 1901; Jolliffe 2002, "Principal Component Analysis", chapter 1.

    Args:
        config: number of dimensions.
        scatter: of the embeddings to fit on.

    Returns:
        The projection.
    """
    return Projection(scatter.mean, scatter.components(config.dims).vectors[:, : config.dims])
