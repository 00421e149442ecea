from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.models.trunks.slim import SlimTrunk
from pretrained.convert import write_checkpoint


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder: each test has one, so that no embeddings of another are in it."""
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def write_trunk() -> Callable[..., Path]:
    """(path, end point) -> a checkpoint with random weights of a trunk that is cut there."""

    def write(path: Path, endpoint: str = "resnet_v1_50/block1") -> Path:
        trunk = SlimTrunk(endpoint)
        trunk(tf.zeros([1, 32, 32, 3]))
        variables = {one.name.removesuffix(":0"): one.numpy() for one in trunk.variables}
        write_checkpoint(path, variables)
        return path

    return write


@pytest.fixture(scope="session")
def make_place(
    tmp_path_factory: pytest.TempPathFactory,
    write_trunk: Callable[..., Path],
) -> Callable[[DrawConfig], Path]:
    """A folder with products/, drawn as a challenge tree, and trunk.ckpt, cut after block1."""

    def make(config: DrawConfig) -> Path:
        folder = tmp_path_factory.mktemp("place")
        draw_dataset(folder / "products", config, progress=False)
        write_trunk(folder / "trunk.ckpt")
        return folder

    return make
