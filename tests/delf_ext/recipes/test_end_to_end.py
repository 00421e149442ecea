"""Train, open and evaluate a small version of every recipe on drawn products."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from data_io.datasets import DataSet, load_dataset
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.app.evaluation import evaluate
from delf_ext.app.training import train
from delf_ext.app.training_settings import Settings
from delf_ext.recipes import schema
from delf_ext.recipes.codec import AnyRecipe
from delf_ext.recipes.registry import RECIPES
from delf_ext.runs.opening import open_model
from delf_ext.runs.sources import Runtime

SIZE_PX = 64
SETTINGS = Settings(mixed_precision="off")
FIRST_UNIT = "block1/unit_1/bottleneck_v1"
# The parameter groups of a trunk that ends in its first unit.
GROUPS = ("trunk", "trunk/stem", "trunk/block1")
DATA = DrawConfig(num_classes=6, num_train=24, num_queries=3, num_gallery=9, image_size_px=SIZE_PX)


def small(recipe: AnyRecipe) -> AnyRecipe:
    """Return the recipe with all its parts, each as small as training allows."""
    if isinstance(recipe, schema.EnsembleRecipe):
        members = tuple(
            dataclasses.replace(member, recipe=_small(member.recipe), folds=min(member.folds, 2))
            for member in recipe.members[: 1 if recipe.members[0].folds else 2]
            if member.recipe is not None
        )
        weighted = isinstance(recipe.join, schema.Concatenate) and recipe.join.weights
        join = schema.Concatenate(recipe.join.weights[:2]) if weighted else recipe.join
        return dataclasses.replace(recipe, members=members, join=join)
    return _small(recipe)


def _small(recipe: schema.Recipe) -> schema.Recipe:
    model, optimizer = recipe.model, recipe.optimizer
    if model.trunk.source == "slim" and model.trunk.name.startswith("resnet_v1"):
        first = {
            "name": "resnet_v1_50",
            "end_point": FIRST_UNIT,
            "frozen": _remaining(model.trunk.frozen),
            "weights": "",
        }
        heads = tuple(
            dataclasses.replace(head, after=head.after and FIRST_UNIT) for head in model.heads
        )
        trunk = dataclasses.replace(model.trunk, **first)
        model = dataclasses.replace(model, trunk=trunk, heads=heads)
    if model.trunk.source in ("zoo", "lite"):
        # The packages of these trunks and weights may not be installed.
        first = {"name": "efficientnet_lite0", "source": "lite", "end_point": "block1"}
        first |= {"frozen": _remaining(model.trunk.frozen), "weights": ""}
        model = dataclasses.replace(model, trunk=dataclasses.replace(model.trunk, **first))
    factors = tuple(factor for factor in optimizer.factors if _remaining((factor.group,)))
    return dataclasses.replace(
        recipe,
        model=model,
        optimizer=dataclasses.replace(optimizer, factors=factors),
        stages=tuple(_stage(stage) for stage in recipe.stages),
        input=dataclasses.replace(recipe.input, size_px=SIZE_PX),
        sampling=_sampling(recipe.sampling),
        validation=_validation(recipe.validation),
    )


def _remaining(groups: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in groups if not name.startswith("trunk") or name in GROUPS)


def _stage(stage: schema.Stage) -> schema.Stage:
    size_px = SIZE_PX if stage.size_px else 0
    return dataclasses.replace(stage, epochs=1, trains=_remaining(stage.trains), size_px=size_px)


def _sampling(sampling: schema.Sampling) -> schema.Sampling:
    if isinstance(sampling, schema.PxK):
        return schema.PxK(2, min(sampling.images, 4))
    return dataclasses.replace(sampling, batch_size=8)


def _validation(validation: schema.Validation | None) -> schema.Validation | None:
    if isinstance(validation, schema.HeldOutClasses):
        return dataclasses.replace(validation, share=0.34)
    if isinstance(validation, schema.StratifiedFolds):
        return dataclasses.replace(validation, folds=2, fold=validation.fold % 2)
    return validation


def different(key: Callable[[AnyRecipe], object]) -> list[str]:
    """Return the names of recipes, without those whose key an earlier one has."""
    names: dict[object, str] = {}
    for name, recipe in RECIPES.items():
        names.setdefault(key(recipe), name)
    return list(names.values())


def trained_alike(recipe: AnyRecipe) -> AnyRecipe:
    """Return the small recipe without its names."""
    made = small(recipe)
    if isinstance(made, schema.EnsembleRecipe):
        members = tuple(
            dataclasses.replace(one, name="m", recipe=one.recipe and trained_alike(one.recipe))
            for one in made.members
        )
        made = dataclasses.replace(made, members=members)
    return dataclasses.replace(made, name="x", about=schema.About())


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("products")
    return load_dataset(draw_dataset(folder, DATA, progress=False))


@pytest.mark.parametrize("name", different(trained_alike))
def test_recipe_trains_opens_and_evaluates(
    name: str,
    products: DataSet,
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    trained = train(small(RECIPES[name]), products, run_dir, settings=SETTINGS)
    evaluation = evaluate(open_model(run_dir, Runtime(mixed_precision="off")), products)
    for member in trained.members or (trained,):
        assert member.losses["loss"] > 0 and all(map(math.isfinite, member.losses.values()))
    assert 0 < evaluation["mAP"] <= 1 and evaluation["num_skipped"] == 0
    assert (evaluation["num_queries"], evaluation["num_gallery"]) == (3, 9)


def models_of(recipe: AnyRecipe) -> tuple[schema.Model, ...]:
    """Return the models that training builds."""
    if isinstance(recipe, schema.Recipe):
        return (recipe.model,)
    return tuple(member.recipe.model for member in recipe.members if member.recipe is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", different(models_of))
def test_full_size_model_of_each_recipe_can_be_built(name: str) -> None:
    from delf_ext.models.embedding_model import EmbeddingModel

    for model in models_of(RECIPES[name]):
        if model.trunk.source == "zoo":
            pytest.importorskip("keras_cv_attention_models")
        built = EmbeddingModel(model, 3).build_variables()
        assert len(built.named_variables()) > 10
