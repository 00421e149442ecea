"""Test ensembles: how the embeddings of several models are joined."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder, Ensemble
from delf_ext.recipes import schema
from delf_ext.recipes.schema import Concatenate, Join, MeanEmbedding, MeanSimilarity


def member(name: str) -> Embedder:
    return Embedder(name, 8, f"digest {name}", lambda images: images)


def ensemble(join: Join, *names: str) -> Ensemble:
    return Ensemble("ours", tuple(member(name) for name in names or ("a", "b")), join)


def unit(seed: int, columns: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(5, columns))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_concatenation_with_weights_by_hand():
    # (1, 0) and 0.75 times (0, 1) side by side have length 1.25.
    parts = [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])]
    found = ensemble(Concatenate((1.0, 0.75))).joined(parts)
    np.testing.assert_allclose(found, [[0.8, 0.0, 0.0, 0.6]], atol=1e-7)


def test_similarity_of_concatenated_embeddings_is_a_weighted_mean():
    # sum(w^2 cos) / sum(w^2), for any dimensions of the members.
    parts = [unit(0, 4), unit(1, 7)]
    found = ensemble(Concatenate((1.0, 2.0))).joined(parts)
    assert found.shape == (5, 11)
    cosines = [part @ part.T for part in parts]
    expected = (cosines[0] + 4 * cosines[1]) / 5
    np.testing.assert_allclose(found @ found.T, expected, atol=1e-12)


def test_members_without_weights_have_equal_weights():
    parts = [unit(0, 4), unit(1, 7)]
    alike = ensemble(Concatenate((3.0, 3.0))).joined(parts)
    np.testing.assert_allclose(ensemble(Concatenate()).joined(parts), alike, atol=1e-12)


def test_mean_is_normalised():
    parts = [unit(0, 4), unit(1, 4), unit(2, 4)]
    found = ensemble(MeanEmbedding(), "a", "b", "c").joined(parts)
    mean = (parts[0] + parts[1] + parts[2]) / 3
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_mean_of_opposite_embeddings_is_zero():
    vector = unit(0, 4)
    found = ensemble(MeanEmbedding()).joined([vector, -vector])
    np.testing.assert_array_equal(found, np.zeros((5, 4)))


def test_mean_of_different_dimensions_raises_usage_error():
    with pytest.raises(UsageError) as caught:
        ensemble(MeanEmbedding()).joined([unit(0, 4), unit(1, 7)])
    assert str(caught.value) == "MeanEmbedding needs members of one dimension. Received [4, 7]."


@pytest.mark.parametrize(
    ("join", "message"),
    [
        (
            MeanSimilarity(),
            r"^MeanSimilarity is not built yet\. Built: Concatenate, MeanEmbedding\.$",
        ),
        (Concatenate((1.0,)), r"^Concatenate\.weights needs 2 numbers\. Received 1\.$"),
        (Concatenate((1.0, 2.0, 3.0)), r"^Concatenate\.weights needs 2 numbers\. Received 3\.$"),
    ],
)
def test_impossible_join_raises_usage_error(join: Join, message: str):
    with pytest.raises(UsageError, match=message):
        ensemble(join)


def test_digest_depends_on_members_their_order_and_the_join():
    made = [
        ensemble(Concatenate()),
        ensemble(Concatenate(), "b", "a"),
        ensemble(Concatenate(), "a", "c"),
        ensemble(Concatenate(), "a", "b", "c"),
        ensemble(Concatenate((1.0, 2.0))),
        ensemble(MeanEmbedding()),
    ]
    assert len({one.digest for one in made}) == len(made)
    renamed = Ensemble("theirs", made[0].members, Concatenate(), "aqe:5")
    assert renamed.digest == made[0].digest


def test_test_time_is_that_of_all_members():
    mirrored = schema.TestTime(("mirror",))
    plain = ensemble(Concatenate())
    members = [dataclasses.replace(member, test_time=mirrored) for member in plain.members]
    assert dataclasses.replace(plain, members=tuple(members)).test_time == mirrored
    mixed = dataclasses.replace(plain, members=(members[0], plain.members[1]))
    assert mixed.test_time is None
