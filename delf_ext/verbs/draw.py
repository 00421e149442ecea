"""Draw a data set of products, laid out like the challenge's data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.datasets import load_dataset
from data_io.messages import shown_path
from delf_ext.app.data import draw_products


def run(flags: Any) -> None:
    """Draw the data set into --out, or into the cache folder, and print its size."""
    path = draw_products(Path(flags.out) if flags.out else None, flags.draw_classes, flags.seed)
    data = load_dataset(path)
    print(
        f"{shown_path(path)}: {len(data.train)} training images, {len(data.query)} queries, "
        f"{len(data.gallery)} gallery images"
    )
