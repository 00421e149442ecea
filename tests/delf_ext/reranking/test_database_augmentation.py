from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_io.records import GlobalFeatures
from delf_ext.config import UsageError
from delf_ext.index.exact import search
from delf_ext.index.neighbours import nearest_neighbours
from delf_ext.reranking.database_augmentation import augment_database


def named(vectors: np.ndarray) -> GlobalFeatures:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return GlobalFeatures(
        [f"g{row}" for row in range(len(vectors))], vectors.astype(np.float32), "digest"
    )


def gallery_of(seed: int, num_images: int, num_dims: int = 6) -> GlobalFeatures:
    return named(np.random.default_rng(seed).standard_normal((num_images, num_dims)))


def slow_augment(gallery: GlobalFeatures, num_expand: int, alpha: float) -> np.ndarray:
    """Augment by the definition, image by image in float64, over a full argsort."""
    vectors = gallery.embeddings.astype(np.float64)
    result = []
    for own in vectors:
        similarities = (vectors @ own).astype(np.float32)
        nearest = np.argsort(-similarities, kind="stable")[:num_expand]
        weights = (
            np.ones(len(nearest)) if alpha == 0 else np.maximum(similarities[nearest], 0.0) ** alpha
        )
        total = weights @ vectors[nearest]
        result.append(total / np.linalg.norm(total))
    return np.array(result)


@given(
    st.integers(0, 999), st.integers(1, 30), st.integers(1, 40), st.sampled_from([0.0, 1.0, 3.0])
)
def test_equals_slow_twin(seed: int, num_images: int, num_expand: int, alpha: float) -> None:
    gallery = gallery_of(seed, num_images)
    augmented_gallery = augment_database(gallery, num_expand, alpha)
    if num_expand < num_images or alpha > 0:  # the sum of all may have no direction
        np.testing.assert_allclose(
            augmented_gallery.embeddings, slow_augment(gallery, num_expand, alpha), atol=1e-5
        )
    assert augmented_gallery.ids is gallery.ids and augmented_gallery.digest == "digest"


def test_one_neighbour_is_the_image_itself() -> None:
    gallery = gallery_of(1, 20)
    np.testing.assert_allclose(
        augment_database(gallery, 1, 3.0).embeddings, gallery.embeddings, atol=1e-7
    )


def test_uses_the_first_of_more_neighbours_than_needed() -> None:
    gallery = gallery_of(2, 30)
    known = nearest_neighbours(gallery.embeddings, 12)
    np.testing.assert_array_equal(
        augment_database(gallery, 5, 1.0, known).embeddings,
        augment_database(gallery, 5, 1.0).embeddings,
    )


def test_copies_stay_copies() -> None:
    """With more copies than neighbours, an image is not among its own neighbours."""
    gallery = named(np.repeat(np.random.default_rng(3).standard_normal((2, 6)), 10, axis=0))
    augmented_gallery = augment_database(gallery, 4)
    np.testing.assert_allclose(augmented_gallery.embeddings, gallery.embeddings, atol=1e-6)
    np.testing.assert_array_equal(
        search(augmented_gallery, augmented_gallery).rows[:, :10],
        search(gallery, gallery).rows[:, :10],
    )


def test_noisy_views_of_an_object_move_together() -> None:
    rng = np.random.default_rng(4)
    objects = np.repeat(rng.standard_normal((5, 32)), 6, axis=0)
    gallery = named(objects + 0.4 * rng.standard_normal(objects.shape))
    before, after = (
        np.sum(features.embeddings @ features.embeddings.T * np.kron(np.eye(5), np.ones((6, 6))))
        for features in (gallery, augment_database(gallery, 6))
    )
    assert after > before + 5


def test_refuses_wrong_settings_and_neighbours() -> None:
    gallery = gallery_of(5, 8)
    with pytest.raises(UsageError, match="num_expand must be at least 1. Received 0."):
        augment_database(gallery, 0)
    with pytest.raises(UsageError, match="alpha must be at least 0. Received -1."):
        augment_database(gallery, 3, -1.0)
    known = nearest_neighbours(gallery.embeddings, 3)
    with pytest.raises(
        ValueError, match=r"neighbours must be \[8, 4\] or wider. Received shape=\(8, 3\)."
    ):
        augment_database(gallery, 4, neighbours=known)
    with pytest.raises(
        ValueError, match=r"neighbours must be \[9, 3\] or wider. Received shape=\(8, 3\)."
    ):
        augment_database(gallery_of(5, 9), 3, neighbours=known)
