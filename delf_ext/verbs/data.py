"""Which data a verb works on, and which lists of it are queries and gallery."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from data_io.artifacts import digest_of
from data_io.datasets import DataSet, load_dataset
from data_io.records import ImageList
from data_io.splits import query_and_gallery, split_classes
from delf_ext import nsml
from delf_ext.config import RunConfig

# Images per class as in the hackathon's first round: 7,104 training images of 1,000 classes, 195 queries, 1,127 references.
TRAIN_PER_CLASS, QUERIES_PER_CLASS, GALLERY_PER_CLASS = 7.104, 0.195, 1.127


def cache_folder() -> Path:
    """MANDOO_CACHE, or the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MANDOO_CACHE") or Path(base) / "mandoo")


def draw(out: Path | None, num_classes: int, seed: int, image_size_px: int = 256) -> Path:
    """A drawn data set in the challenge's proportions; drawn once, in the cache folder unless `out` says where."""
    from data_io.synthetic import DrawConfig, draw_dataset

    config = DrawConfig(
        num_classes,
        round(TRAIN_PER_CLASS * num_classes),
        max(1, round(QUERIES_PER_CLASS * num_classes)),
        max(2, round(GALLERY_PER_CLASS * num_classes)),
        image_size_px,
        seed,
    )
    return draw_dataset(out or cache_folder() / f"drawn-{num_classes}-{digest_of(vars(config))}", config)


def resolve_data(flags: Any) -> str:
    """The path of the data, as DESIGN 4 orders it, saying where it came from when the user did not."""
    if flags.data:
        return str(flags.data)
    platform_path = os.environ.get("DATASET_PATH") or nsml.DATASET_PATH
    if platform_path:
        print(f"data: {platform_path} (NSML's DATASET_PATH)")
        return platform_path
    if flags.debug and Path(flags.debug_data).exists():
        print(f"data: {flags.debug_data} (--debug_data)")
        return str(flags.debug_data)
    path = draw(None, 40 if flags.debug else 100, seed=0)
    print(f"data: {path} (drawn products; pass --data for your own)")
    return str(path)


def load(flags: Any) -> DataSet:
    return load_dataset(resolve_data(flags), flags.query_split)


def dev_split(images: ImageList, config: RunConfig) -> tuple[ImageList, ImageList]:
    """(train, dev), class-disjoint; dev is empty at --dev_percent=0."""
    if not config.dev_percent:
        return images, images.take([], skipped=())
    return split_classes(images, config.dev_percent, config.dev_split, config.seed)


def evaluation_lists(data: DataSet, config: RunConfig | None) -> tuple[ImageList, ImageList, str]:
    """(query, gallery, what they are): the data's own; else the dev classes of the run; else each image against all others."""
    if len(data.query) and len(data.gallery):
        return data.query, data.gallery, "queries and gallery of the data"
    if len(data.query) or len(data.gallery):
        which = "gallery" if len(data.query) else "query"
        raise ValueError(f"{data.name}: the data have no {which} images; add them, or give class folders alone.")
    if config is not None and config.dev_percent:
        _, dev = dev_split(data.train, config)
        query, gallery = query_and_gallery(dev, config.dev_querynum, config.dev_referencenum, config.seed)
        return query, gallery, f"dev split ({config.dev_split}, {config.dev_percent:g} of the classes)"
    return data.train, data.train, "each training image against all others"
