"""Draw a data set of products, laid out like the challenge's data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.datasets import load_dataset
from data_io.messages import shown_path
from delf_ext.app.data import draw_products
from delf_ext.config import require


def run(flags: Any) -> None:
    """Draw the data set into --out, or into the cache folder, and print its size.

    Raises:
        UsageError: if --draw_classes or --seed is out of range.
    """
    require(
        flags.draw_classes >= 1,
        f"--draw_classes must be at least 1. Received {flags.draw_classes}.",
    )
    require(0 <= flags.seed < 2**32, f"--seed must be from 0 to 2**32 - 1. Received {flags.seed}.")
    path = draw_products(Path(flags.out) if flags.out else None, flags.draw_classes, flags.seed)
    data = load_dataset(path)
    print(
        f"{shown_path(path)}: {len(data.train)} training images, {len(data.query)} queries, "
        f"{len(data.gallery)} gallery images"
    )
