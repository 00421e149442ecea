"""Test what a fitted reduction is bound to."""

from __future__ import annotations

import numpy as np

from delf_ext.features.embedder import Embedder, Ensemble
from delf_ext.recipes.schema import Concatenate, Lda, TestTime
from delf_ext.runs.fitted_reduction import binding


def network(*copies: str) -> Embedder:
    return Embedder(
        "n", 8, "n", lambda images: np.ones((len(images), 2)), test_time=TestTime(copies)
    )


def test_reduction_is_bound_to_the_copies_of_each_member() -> None:
    def bound(*members: Embedder) -> str:
        return binding("n", Lda(), Ensemble("e", members, Concatenate()), "images")

    plain, mirrored, flipped = network(), network("mirror"), network("flip")
    different = [(plain, mirrored), (plain, flipped), (mirrored, plain), (mirrored, mirrored)]
    digests = [bound(*members) for members in different]
    assert len(set(digests)) == len(different)
    assert digests[0] == bound(network(), network("mirror"))
    # Members with equal copies are bound as one network with these copies.
    assert digests[3] == binding("n", Lda(), mirrored, "images")
