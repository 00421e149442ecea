"""Check the order of augmentations, and that each one has an effect and depends on the seed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_io.augmentation import AUGMENTATIONS, augment, side_before

SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 40)


def photograph(height: int, width: int) -> np.ndarray:
    """Return bright random pixels, which show any change."""
    rng = np.random.default_rng(height * 100 + width)
    return rng.integers(30, 256, (height, width, 3), dtype=np.uint8)


def with_defaults(names: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return the augmentations with default parameters."""
    return {name: {} for name in names}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_augmentation_changes_the_picture(name: str) -> None:
    pixels = photograph(32, 32)
    plain = augment(pixels, 32, {}, np.random.default_rng(0))
    # The image already has the right size.
    np.testing.assert_array_equal(plain, pixels)
    results = [augment(pixels, 32, {name: {}}, np.random.default_rng(seed)) for seed in range(60)]
    assert sum(not np.array_equal(result, plain) for result in results) >= 3
    # Another seed gives another picture.
    assert len({result.tobytes() for result in results}) >= 2


@given(st.sets(st.sampled_from(AUGMENTATIONS)), SIDES, SIDES, st.integers(1, 24), SEEDS)
def test_any_augmentations_give_a_square_uint8_picture_that_depends_on_the_seed(
    names: set[str], height: int, width: int, size_px: int, seed: int
) -> None:
    pixels = photograph(height, width)
    before = pixels.copy()
    result = augment(pixels, size_px, with_defaults(names), np.random.default_rng(seed))
    assert result.shape == (size_px, size_px, 3)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(pixels, before)
    # The order of the names does not matter.
    reordered = with_defaults(sorted(names, reverse=True))
    repeated = augment(pixels, size_px, reordered, np.random.default_rng(seed))
    np.testing.assert_array_equal(result, repeated)


def test_parameters_reach_augmentations_before_and_after_the_resizing() -> None:
    """Augmentations whose parameters allow no change return the plain picture."""
    pixels = photograph(40, 30)
    plain = augment(pixels, 20, {}, np.random.default_rng(0))
    no_change = {
        "rotate": {"max_deg": 0.0},
        "noise": {"max_share": 0.0},
        "crop": {"min_side_share": 1.0},
    }
    unchanged = augment(pixels, 20, no_change, np.random.default_rng(0))
    np.testing.assert_array_equal(unchanged, plain)
    noisy = augment(pixels, 20, {"noise": {}}, np.random.default_rng(0))
    assert not np.array_equal(noisy, plain)


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({}, 224),
        ({"rotate": {}}, 224),
        ({"crop": {}}, 320),
        ({"crop": {"min_side_share": 0.5}}, 448),
        ({"crop": {"min_side_share": 0.3}}, 747),
        ({"random_resized_crop": {}}, 379),
        ({"random_resized_crop": {"min_area_share": 0.08}}, 448),
    ],
)
def test_a_crop_needs_a_larger_image(changes: dict, side: int) -> None:
    """A crop of the smallest share keeps 224 px of 224 / share, rounded up; by area, at most 2x."""
    assert side_before(224, changes) == side
