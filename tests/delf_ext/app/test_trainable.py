"""Test which recipes can be trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_io.datasets import DataSet
from data_io.records import ImageList
from delf_ext.app.trainable import augmentations, require_trainable
from delf_ext.app.training import train
from delf_ext.app.training_settings import Settings
from delf_ext.config import UsageError
from delf_ext.recipes import schema
from delf_ext.recipes.codec import with_settings
from delf_ext.recipes.registry import RECIPES
from delf_ext.recipes.schema import Recipe

SETTINGS = Settings(seed=3, mixed_precision="off")


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_augmentations_map_names_to_parameters() -> None:
    config = schema.Input(
        augment=(schema.Crop(0.5), schema.MirrorLeftRight(), schema.BlackPixels()),
    )
    assert augmentations(config) == {
        "crop": {"min_side_share": 0.5},
        "mirror_left_right": {},
        "black_pixels": {"max_share": 0.1},
    }
    assert augmentations(schema.Input()) == {}


@pytest.mark.parametrize(
    "setting", ["ranking=magic", "test_time.scales=[1000]", "test_time.copies=blur"]
)
def test_recipe_that_evaluation_would_refuse_is_refused_before_training(
    tiny: Recipe,
    data: DataSet,
    tmp_path: Path,
    setting: str,
) -> None:
    with pytest.raises(UsageError):
        train(with_settings(tiny, [setting]), data, tmp_path / "run", settings=SETTINGS)
    assert not (tmp_path / "run").exists()


PXK = '{"type": "PxK", "classes": 2, "images": 4}'


def loss_on_pooled(loss: str) -> list[str]:
    term = json.dumps({"type": "LossTerm", "head": "pooled", "loss": {"type": loss}})
    return [f"sampling={PXK}", f"losses=[{term}]"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["task=Classification"], "task Classification predicts trained classes, but validation "),
        (["task=LabelPaths"], "LabelPaths is not built yet. Built: Classification, Retrieval."),
        (["reduction=EncoderDecoder"], "EncoderDecoder is not built yet. Built: Lda, Pca, "),
        (["limits.max_gmac=1e-3"], "limits.max_gmac=0.001: the model needs "),
        (
            ['model.heads.logits.maps=[{"type": "SelfAttention"}]'],
            "SelfAttention is not built yet. Built: ",
        ),
        (["model.heads.logits.classifier=TreePath"], "TreePath is not built yet. Built: "),
        (["model.trunk.source=features"], 'trunk source "features" is not built yet. Built: '),
        (loss_on_pooled("NPair"), "NPair is not built yet. Built: "),
    ],
)
def test_unbuilt_part_is_refused_before_an_image_is_read(
    tiny: Recipe,
    tmp_path: Path,
    settings: list[str],
    message: str,
) -> None:
    recipe = with_settings(tiny, settings)
    nothing_there = ImageList(["a", "b"], ["/none/a.jpg", "/none/b.jpg"], [0, 1])
    data = DataSet("d", nothing_there, nothing_there, nothing_there, ("x", "y"))
    found = refusal(lambda: train(recipe, data, tmp_path / "run"))
    assert found.startswith(message) and not (tmp_path / "run").exists()


def test_model_within_the_limit_of_multiply_accumulates_is_accepted(tiny: Recipe) -> None:
    require_trainable(with_settings(tiny, ["limits.max_gmac=1"]))


def test_limit_of_multiply_accumulates_counts_the_largest_stage(tiny: Recipe) -> None:
    stage = {"type": "Stage", "epochs": 1}
    stages = [stage, {**stage, "schedule": None, "size_px": 320}, {**stage, "size_px": 64}]
    settings = ["limits.max_gmac=1", f"stages={json.dumps(stages)}"]
    message = refusal(lambda: require_trainable(with_settings(tiny, settings)))
    assert "for an image of 320 px." in message


def test_every_registered_recipe_can_be_trained() -> None:
    for recipe in RECIPES.values():
        if isinstance(recipe, Recipe):
            require_trainable(recipe)


def test_unbuilt_reduction_raises_usage_error(tiny: Recipe, data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        train(dataclasses.replace(tiny, reduction=schema.EncoderDecoder()), data, tmp_path / "run")
