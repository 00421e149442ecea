"""Fit the reduction that a record of a recipe names.

A new reduction is one function in a new file, and one `register` line here.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from delf_ext.features.reductions.lda import fit_lda
from delf_ext.features.reductions.pca import fit_pca
from delf_ext.features.reductions.projection import Projection
from delf_ext.features.reductions.scatter import Scatter
from delf_ext.features.reductions.whitening import fit_pca_whitening
from delf_ext.features.reductions.within_class import fit_within_class_whitening
from delf_ext.recipes import schema
from delf_ext.recipes.part import NotBuilt, Part


@singledispatch
def fit(config: Part, scatter: Scatter) -> Projection:
    """Fit a reduction.

    Args:
        config: a record such as `schema.Lda`.
        scatter: of the embeddings to fit on; several reductions can share it.

    Returns:
        The projection.

    Raises:
        NotBuilt: this reduction is not built yet.
    """
    raise NotBuilt(config, fit)


fit.register(schema.Pca, fit_pca)
fit.register(schema.PcaWhitening, fit_pca_whitening)
fit.register(schema.WithinClassWhitening, fit_within_class_whitening)
fit.register(schema.Lda, fit_lda)


def fit_reduction(config: Part, embeddings: np.ndarray, labels: np.ndarray) -> Projection:
    """Fit a reduction on labelled embeddings.

    Args:
        config: a record such as `schema.Lda`.
        embeddings: float [N, D], finite.
        labels: int [N]; PCA does not use them.

    Returns:
        The projection.

    Raises:
        NotBuilt: this reduction is not built yet.
        ValueError: the shapes do not fit, or a value is not finite.
    """
    return fit(config, Scatter(embeddings, labels))
