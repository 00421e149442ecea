from __future__ import annotations

import numpy as np
import pytest

from delf_ext.features.copies import CHANGES, Changed


class Pixels:
    image_size, digest = 3, "pixels"

    def embed(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32)


IMAGE = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1).repeat(3, axis=3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mirror", [2, 1, 0, 5, 4, 3, 8, 7, 6]),
        ("turn90", [2, 5, 8, 1, 4, 7, 0, 3, 6]),  # the right column becomes the first row
        ("turn180", [8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("turn270", [6, 3, 0, 7, 4, 1, 8, 5, 2]),
    ],
)
def test_each_change_by_hand(name: str, expected: list[int]) -> None:
    model = Changed(Pixels(), name)
    assert model.embed(IMAGE)[0, ::3].tolist() == expected
    assert (model.image_size, model.digest) == (3, "pixels") and set(CHANGES) == {"mirror", "turn90", "turn180", "turn270"}
