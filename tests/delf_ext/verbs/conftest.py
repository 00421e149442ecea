from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from data_io.synthetic import DrawConfig, draw_dataset
from delf_ext.models.backbones import Backbone
from pretrained.convert import write_checkpoint


@pytest.fixture(scope="session")
def make_place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[DrawConfig], Path]:
    """A folder with products/, drawn as a challenge tree, and trunk.ckpt, a trunk cut after its first block."""

    def make(config: DrawConfig) -> Path:
        folder = tmp_path_factory.mktemp("place")
        draw_dataset(folder / "products", config, progress=False)
        trunk = Backbone("resnet_v1_50/block1")
        trunk(tf.zeros([1, 32, 32, 3]))
        write_checkpoint(folder / "trunk.ckpt", {variable.name.split(":")[0]: variable.numpy() for variable in trunk.variables})
        return folder

    return make
