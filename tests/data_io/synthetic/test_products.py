from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from data_io.synthetic.products import draw_product, family_of


def test_families_have_four_and_five_members_in_turns() -> None:
    families = [family_of(index) for index in range(1000)]
    assert [member for _, member in families[:12]] == [0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2]
    assert families == sorted(families)
    sizes = Counter(family for family, _ in families[:999])
    assert set(sizes.values()) == {4, 5}


@pytest.mark.parametrize("first", [0, 4, 9])
def test_members_of_a_family_share_the_package_and_differ_in_print(first: int) -> None:
    product = draw_product(3, first, 64)
    neighbour = draw_product(3, first + 1, 64)
    assert product.shape == (64, 64, 4)
    assert product.dtype == np.uint8
    np.testing.assert_array_equal(product[..., 3], neighbour[..., 3])
    differences = np.abs(product[..., :3].astype(int) - neighbour[..., :3])
    assert differences[product[..., 3] > 0].mean() > 3.0
    assert not np.array_equal(product, draw_product(4, first, 64))


def shrunk(product: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(product).resize((16, 16), Image.Resampling.BOX), int)


@pytest.mark.parametrize("size_px", [16, 33, 200])
def test_a_product_looks_the_same_in_any_size(size_px: int) -> None:
    for index in range(0, 60, 5):
        expected = shrunk(draw_product(0, index, 64))
        assert np.abs(shrunk(draw_product(0, index, size_px)) - expected).mean() < 20
