"""Fixtures: a small drawn data set, a tiny recipe, and a run that was trained with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from data_io.datasets import DataSet, load_dataset
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.app.training import Trained, train
from delf_ext.app.training_settings import Settings
from delf_ext.recipes.mandoo_dual import from_flags
from delf_ext.recipes.schema import Recipe

SIZE_PX = 32
SETTINGS = Settings(seed=3, mixed_precision="off")
DRAWN = DrawConfig(num_classes=6, num_train=24, num_queries=3, num_gallery=9, image_size_px=SIZE_PX)


class TrainedOnce(NamedTuple):
    """A run that many tests share, and the lines of its log."""

    run_dir: Path
    result: Trained
    lines: list[str]


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set a temporary cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANDOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw 6 training classes, and 3 queries and 9 gallery images of another class."""
    folder = tmp_path_factory.mktemp("drawn") / "products"
    return draw_dataset(folder, DRAWN, progress=False)


@pytest.fixture(scope="session")
def data(products: Path) -> DataSet:
    return load_dataset(products)


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Draw three classes of queries and gallery images."""
    config = DrawConfig(
        num_classes=6, num_train=24, num_queries=6, num_gallery=18, image_size_px=SIZE_PX
    )
    folder = tmp_path_factory.mktemp("several") / "products"
    return load_dataset(draw_dataset(folder, config, progress=False))


@pytest.fixture(scope="session")
def only_train(data: DataSet) -> DataSet:
    """Return the data set without queries and gallery."""
    no_images = data.train.take([], skipped=())
    return dataclasses.replace(data, query=no_images, gallery=no_images)


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    """Return a recipe with one unit of a ResNet and logits; 2 of 6 classes are held out."""
    return from_flags(
        {
            "train_logits": True,
            "resnet_type": "resnet_v1_50/block1/unit_1/bottleneck_v1",
            "image_size": SIZE_PX,
            "batch_size": 8,
            "epochs": 1,
            "dev_percent": 0.34,
            "eval_every_steps": 100,
        },
    )


@pytest.fixture(scope="session")
def trained(tiny: Recipe, products: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedOnce:
    """Train the tiny recipe for one epoch. A test that changes the run must copy it first."""
    run_dir = tmp_path_factory.mktemp("runs") / "[2024] w*?"
    lines: list[str] = []
    infer = {"method": "aqe:2", "batch_size": 4}
    result = train(tiny, products, run_dir, settings=SETTINGS, infer=infer, log=lines.append)
    return TrainedOnce(run_dir, result, lines)
