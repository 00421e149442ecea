"""Draw a data set of products, laid out like the data of a competition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.datasets import load_dataset
from data_io.messages import shown_path
from delf_ext.app.data import draw_products
from delf_ext.config import require


def run(flags: Any) -> None:
    """Draw the data set into --out, or into the cache folder, and print its size."""
    is_lotte = flags.draw_layout == "lotte"
    require(
        is_lotte or not flags["draw_shift"].present,
        "--draw_shift is for --draw_layout=lotte: leave it out, or draw that competition.",
    )
    path = draw_products(
        Path(flags.out) if flags.out else None,
        flags.draw_classes,
        flags.seed,
        flags.draw_size,
        flags.draw_shift if is_lotte else None,
    )
    data = load_dataset(path)
    if is_lotte:
        print(f"{shown_path(path)}: {data.read_as}")
        return
    print(
        f"{shown_path(path)}: {len(data.train)} training images, {len(data.query)} queries, "
        f"{len(data.gallery)} gallery images"
    )
