from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from data_io.synthetic.products import draw_product, family_of


def test_families_are_runs_of_four_and_five() -> None:
    families = [family_of(index) for index in range(1000)]
    assert [member for _, member in families[:12]] == [0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2]
    assert families == sorted(families) and set(
        Counter(family for family, _ in families[:999]).values()
    ) == {4, 5}


@pytest.mark.parametrize("first", [0, 4, 9])
def test_members_share_the_package_and_differ_in_print(first: int) -> None:
    one, two = draw_product(3, first, 64), draw_product(3, first + 1, 64)
    assert one.shape == (64, 64, 4) and one.dtype == np.uint8
    np.testing.assert_array_equal(one[..., 3], two[..., 3])
    assert np.abs(one[..., :3].astype(int) - two[..., :3])[one[..., 3] > 0].mean() > 3.0
    assert not np.array_equal(one, draw_product(4, first, 64))


@pytest.mark.parametrize("size_px", [16, 33, 200])
def test_any_size_draws_the_same_product(size_px: int) -> None:
    for index in range(0, 60, 5):
        expected = np.asarray(
            Image.fromarray(draw_product(0, index, 64)).resize((16, 16), Image.Resampling.BOX), int
        )
        found = np.asarray(
            Image.fromarray(draw_product(0, index, size_px)).resize((16, 16), Image.Resampling.BOX),
            int,
        )
        assert np.abs(found - expected).mean() < 20


def test_product_arguments_are_checked() -> None:
    with pytest.raises(
        ValueError, match="size_px must be >= 16, seed and class_index >= 0. Received 8, 0, -1."
    ):
        draw_product(0, -1, 8)
