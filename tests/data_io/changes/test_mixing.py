"""Check CutMix and Mixup against plain loops, and their shares against the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_io.changes.mixing import cut_mix, mix_batch, mixup

SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.floats(0, 1)
SIDES = st.integers(1, 24)
BOTH = {
    "cut_mix": {"alpha": 1.0, "probability": 0.5},
    "mixup": {"alpha": 0.2, "probability": 0.3},
}


def batch_of_shades(num_images: int, side_px: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return images of one shade each, which is ten times their label."""
    labels = np.arange(num_images, dtype=np.int32)
    shades = (10 * labels).astype(np.uint8)[:, None, None, None]
    return np.broadcast_to(shades, (num_images, side_px, side_px, 3)), labels


@given(SHARES, SIDES, SIDES, SEEDS)
def test_the_share_of_cut_mix_is_the_share_of_pixels(
    share: float, height: int, width: int, seed: int
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    other = np.full((height, width, 3), 9, np.uint8)
    mixed, found = cut_mix(image, other, share, np.random.default_rng(seed))
    assert found == pytest.approx((mixed == 0).mean(), abs=1e-12)
    # The part of the other image is one rectangle.
    rows, columns = np.nonzero(mixed[..., 0])
    assert len(rows) == len(set(rows)) * len(set(columns))
    assert not image.any()


def test_a_rectangle_inside_the_image_has_the_drawn_share() -> None:
    """By hand: sides of 8 for a share of 3/4 of 16 x 16 pixels."""
    images, _ = batch_of_shades(2)
    shares = [cut_mix(*images, 0.75, np.random.default_rng(seed))[1] for seed in range(50)]
    assert min(shares) == 0.75
    assert max(shares) > 0.75


@given(SHARES, SEEDS)
def test_mixup_is_linear(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, other = rng.integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    mixed, weight = mixup(image, other, share, rng)
    assert abs(weight - share) <= 0.5 / 256
    expected = weight * image.astype(float) + (1 - weight) * other.astype(float)
    assert np.abs(mixed - expected).max() <= 0.5
    swapped, _ = mixup(other, image, 1 - weight, rng)
    np.testing.assert_allclose(mixed.astype(int), swapped, atol=1)


@given(st.integers(1, 12), SEEDS)
def test_shares_explain_the_pixels_of_a_batch(num_images: int, seed: int) -> None:
    images, labels = batch_of_shades(num_images)
    mixed = mix_batch(images, labels, BOTH, np.random.default_rng(seed))
    expected = mixed.shares * 10 * labels + (1 - mixed.shares) * 10 * mixed.other_labels
    np.testing.assert_allclose(mixed.images.mean(axis=(1, 2, 3)), expected, atol=0.5)
    np.testing.assert_array_equal(mixed.labels, labels)
    np.testing.assert_array_equal(mixed.other_labels[mixed.shares == 1], labels[mixed.shares == 1])
    assert [part.dtype for part in mixed] == [np.uint8, np.int32, np.int32, np.float32]
    again = mix_batch(images, labels, BOTH, np.random.default_rng(seed))
    assert all(np.array_equal(part, same) for part, same in zip(mixed, again, strict=True))


def test_each_mixing_has_its_probability_and_its_distribution_of_shares() -> None:
    """Beta(1, 1) is uniform; of Beta(0.2, 0.2), the mean of the smaller share is 0.101.

    Source: scipy.stats.beta(0.2, 0.2).expect(lambda share: min(share, 1 - share)).
    """
    images, labels = batch_of_shades(20, side_px=32)
    alike = {"cut_mix": 0, "mixup": 0}
    smaller = []
    for seed in range(100):
        mixed = mix_batch(images, labels, BOTH, np.random.default_rng(seed))
        for pixels, share in zip(mixed.images, mixed.shares, strict=True):
            if share < 1:
                is_mixup = len(np.unique(pixels)) == 1
                alike["mixup" if is_mixup else "cut_mix"] += 1
                if is_mixup:
                    smaller.append(min(share, 1 - share))
    # One image in twenty meets itself, and tiny shares are rounded to none.
    assert 0.4 < alike["cut_mix"] / 2000 < 0.52
    assert 0.2 < alike["mixup"] / 2000 < 0.32
    assert 0.09 < np.mean(smaller) < 0.2


def test_names_of_other_augmentations_and_probability_zero_change_nothing() -> None:
    images, labels = batch_of_shades(8)
    for changes in ({"crop": {}}, {"mixup": {"alpha": 1.0, "probability": 0.0}}):
        mixed = mix_batch(images, labels, changes, np.random.default_rng(0))
        np.testing.assert_array_equal(mixed.images, images)
        assert (mixed.shares == 1).all()
