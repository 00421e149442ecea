"""Test R-MAC against a slow NumPy twin, the region rule of the paper, and values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from delf_ext.models.regional_pooling import Region, regional_max_pool, regions


def slow_regions(height: int, width: int, levels: int) -> list[tuple[int, int, int]]:
    """Return (top, left, side) as the authors' code does, with centres and a table of counts.

    Source: the published code of Tolias et al. 2016, here with any number of regions. It fails on
    maps with fewer positions than regions: there one position is the least.
    """
    shorter, longer = sorted((height, width))
    num_extra = 0
    if longer > shorter:
        errors = {}
        for count in range(2, 200):
            step = (longer - shorter) / (count - 1)
            overlap = (shorter**2 - shorter * step) / shorter**2
            errors[count] = abs(overlap - 0.4)
        num_extra = min(errors, key=errors.__getitem__) - 1
    found = []
    for level in range(1, levels + 1):
        side = max(math.floor(2 * shorter / (level + 1)), 1)
        starts = []
        for length in (height, width):
            count = level + (num_extra if length > shorter else 0)
            starts.append(
                [0]
                if count == 1
                else [math.floor(i * (length - side) / (count - 1) + 1e-9) for i in range(count)]
            )
        found += [(top, left, side) for top in starts[0] for left in starts[1]]
    return found


@settings(max_examples=60)
@given(height=st.integers(1, 40), width=st.integers(1, 40), levels=st.integers(1, 5))
def test_regions_equal_those_of_the_slow_twin(height: int, width: int, levels: int):
    found = regions(height, width, levels)
    assert found == slow_regions(height, width, levels)
    assert all(top >= 0 and top + side <= height and side >= 1 for top, _, side in found)
    assert all(left >= 0 and left + side <= width for _, left, side in found)


def test_regions_of_a_square_map_are_those_of_the_paper():
    # 1 + 4 + 9 regions; sides 7, 2/3 of it and 2/4 of it, rounded down.
    found = regions(7, 7, 3)
    assert [region.side for region in found] == [7] + 4 * [4] + 9 * [3]
    assert found[1:5] == [Region(0, 0, 4), Region(0, 3, 4), Region(3, 0, 4), Region(3, 3, 4)]
    assert {region.top for region in found[5:]} == {0, 2, 4}


def test_regions_along_the_longer_side_overlap_by_40_percent():
    # Squares of 10 in a width of 16: two overlap by 4 of 10, three by 7 of 10.
    assert regions(10, 16, 1) == [Region(0, 0, 10), Region(0, 6, 10)]
    # Level 2 then has 2 x 3 regions.
    assert len(regions(10, 16, 2)) == 2 + 6
    assert regions(16, 10, 1) == [Region(0, 0, 10), Region(6, 0, 10)]


@pytest.mark.parametrize(("shape", "levels"), [((4, 4), 3), ((7, 5), 2), ((2, 2), 4), ((1, 1), 3)])
def test_pooling_equals_the_slow_twin(shape: tuple[int, int], levels: int):
    features = np.random.default_rng(0).normal(size=(3, *shape, 5))
    expected = np.zeros((3, 5))
    for image, values in enumerate(features):
        for top, left, side in slow_regions(*shape, levels):
            maxima = [
                max(
                    values[row, column, channel]
                    for row in range(top, top + side)
                    for column in range(left, left + side)
                )
                for channel in range(5)
            ]
            expected[image] += np.array(maxima) / np.linalg.norm(maxima)
    found = regional_max_pool(tf.constant(features, tf.float32), levels)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_pooling_by_hand():
    # One region: the maxima 3 and 4 as a unit vector.
    features = tf.constant([[[[3.0, 1.0], [0.0, 4.0]], [[2.0, 2.0], [1.0, 0.0]]]])
    np.testing.assert_allclose(regional_max_pool(features, 1), [[0.6, 0.8]], rtol=1e-6)


def test_gradients_of_a_map_of_zeros_are_finite():
    features = tf.zeros([2, 4, 4, 3])
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = regional_max_pool(features)
    assert not pooled.numpy().any()
    assert np.isfinite(tape.gradient(pooled, features)).all()
