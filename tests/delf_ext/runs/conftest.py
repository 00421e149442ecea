"""Build a tiny model, and write runs without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data_io.checkpoint_folder import CheckpointFolder
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.recipes import codec
from delf_ext.recipes.mandoo_dual import from_flags
from delf_ext.recipes.schema import Recipe
from delf_ext.runs.records import Facts, Run
from delf_ext.runs.run_directory import write_run

SIZE_PX = 32
CLASSES = ("a", "b", "c")
FLAGS = {
    "train_logits": True,
    "train_sim": True,
    "stop_gradient_sim": True,
    "logit_concat_sim": True,
    "resnet_type": "resnet_v1_50/block1/unit_1/bottleneck_v1",
    "layout": "slim",
    "image_size": SIZE_PX,
}

WriteRun = Callable[..., Run]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    return from_flags(FLAGS)


@pytest.fixture(scope="session")
def model(tiny: Recipe) -> EmbeddingModel:
    """A model whose variables all differ, so that exchanged variables are noticed."""
    model = EmbeddingModel(tiny.model, len(CLASSES)).build_variables()
    rng = np.random.default_rng(0)
    for name, variable in model.named_variables().items():
        values = rng.normal(0.0, 0.1, variable.shape)
        variable.assign(np.abs(values) + 0.5 if "moving_variance" in name else values)
    return model


@pytest.fixture(scope="session")
def photographs() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, SIZE_PX, SIZE_PX, 3), np.uint8)


@pytest.fixture(scope="session")
def expected(model: EmbeddingModel, photographs: np.ndarray) -> np.ndarray:
    """Embeddings of the images by the model itself, [3, D]."""
    return model(tf.constant(photographs), training=False).embedding.numpy()


@pytest.fixture(scope="session")
def write_tiny_run(tiny: Recipe, model: EmbeddingModel) -> WriteRun:
    """Function that writes a run with the model's weights."""

    def write(path: Path, recipe: Recipe = tiny, kind: str = "best") -> Run:
        checkpoint = tf.train.Checkpoint(weights=model.named_variables())
        CheckpointFolder(path / "checkpoint", kind).save(5, checkpoint.write)
        facts = Facts(class_names=CLASSES, settings={"seed": 2})
        return write_run(path, "recipe", codec.to_json(recipe), facts)

    return write
