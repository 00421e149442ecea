"""draw: a product data set out of nothing, as a challenge tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.datasets import load_dataset
from delf_ext.app.data import draw_products


def run(flags: Any) -> None:
    path = draw_products(Path(flags.out) if flags.out else None, flags.draw_classes, flags.seed)
    data = load_dataset(path)
    print(
        f"{path}: {len(data.train)} training images, {len(data.query)} queries, {len(data.gallery)} references"
    )
