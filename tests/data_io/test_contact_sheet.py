"""Check where a contact sheet shows its images and the shares of mixed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from data_io import contact_sheet as module


def shades(num_images: int) -> np.ndarray:
    """Return images of one shade each: their number."""
    numbers = np.arange(num_images, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(numbers, (num_images, 16, 16, 3))


def test_images_are_in_rows_of_eight(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    module.save_contact_sheet(path, shades(70))
    sheet = np.asarray(Image.open(path))
    step_x = module.THUMB_PX + module.GAP_PX
    step_y = module.THUMB_PX + module.BAR_PX + 2 * module.GAP_PX
    assert sheet.shape == (8 * step_y, 8 * step_x + module.GAP_PX, 3)
    for number in range(64):
        y, x = number // 8 * step_y + 40, number % 8 * step_x + 40
        assert (sheet[y, x] == number).all()
    assert module.contact_sheet(shades(3)).width == 3 * step_x + module.GAP_PX


def test_a_bar_shows_the_share_of_a_mixed_image() -> None:
    sheet = np.asarray(module.contact_sheet(shades(3), np.array([1.0, 0.25, 0.0])))
    row = sheet[module.GAP_PX + module.THUMB_PX + 2]
    step = module.THUMB_PX + module.GAP_PX
    bars = [row[module.GAP_PX + place * step :][: module.THUMB_PX] for place in range(3)]
    found = [
        (np.sum((bar == module.OWN).all(1)), np.sum((bar == module.OTHER).all(1))) for bar in bars
    ]
    assert found == [(0, 0), (28, 84), (0, 112)]
