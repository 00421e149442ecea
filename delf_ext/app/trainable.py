"""Check that every part of a recipe can be trained."""

from __future__ import annotations

import dataclasses

from data_io.augmentation import AUGMENTATIONS, Changes
from data_io.changes.mixing import MIXINGS
from delf_ext.app.evaluators import require_evaluator
from delf_ext.config import UsageError, require
from delf_ext.features.query_copies import require_known_copies, scaled_px
from delf_ext.features.reductions.build import fit
from delf_ext.recipes import schema
from delf_ext.recipes.part import NotBuilt, Part, snake_case
from delf_ext.reranking.chain import parse_chain


def require_trainable(recipe: schema.Recipe) -> None:
    """Raise UsageError if a part of the recipe is unknown or not built yet. Reads no image."""
    from delf_ext.models.embedding_model import EmbeddingModel
    from delf_ext.training.objective import Objective
    from delf_ext.training.optimizers import build_optimizer
    from delf_ext.training.schedules import learning_rate

    require_evaluator(recipe.task, recipe.validation)
    built = (*AUGMENTATIONS, *MIXINGS)
    unknown = [name for name in augmentations(recipe.input) if name not in built]
    if unknown:
        raise UsageError(f"augmentation {unknown[0]} is not built yet. Built: {', '.join(built)}.")
    require_known_copies(recipe.test_time.copies)
    for scale in recipe.test_time.scales:
        scaled_px(recipe.final_size_px, scale)
    parse_chain(recipe.ranking)
    require_reduction(recipe)
    # These constructors check their part of the recipe. The layers get no variables here.
    Objective(EmbeddingModel(recipe.model, num_classes=2), recipe.losses, images_per_class=(1, 1))
    schedule = learning_rate(recipe.optimizer.lr, recipe.stages, steps_per_epoch=1)
    build_optimizer(recipe.optimizer, schedule)
    if recipe.limits.max_gmac:
        _require_cheap(recipe)


def require_reduction(recipe: schema.Recipe) -> None:
    """Raise UsageError if the reduction of the recipe is not built, or cannot be chosen."""
    config = recipe.reduction
    if isinstance(config, schema.Chosen):
        require(
            recipe.validation is not None,
            f"{recipe.name}: the reduction Chosen is chosen on the dev split, but validation is "
            "None. Give the recipe a validation (--set validation=StratifiedFolds), or name the "
            "reduction (--set reduction=Lda).",
        )
    require_built_reduction(config)


def require_built_reduction(config: Part | None) -> None:
    """Raise UsageError if a reduction is not built yet."""
    is_known = config is None or isinstance(config, schema.Chosen)
    if config is not None and not is_known and fit.dispatch(type(config)) is fit.dispatch(Part):
        raise NotBuilt(config, fit)


def _require_cheap(recipe: schema.Recipe) -> None:
    """Raise UsageError if the model needs more multiply-accumulates than the recipe allows."""
    from delf_ext.models.cost import model_cost
    from delf_ext.models.embedding_model import EmbeddingModel

    size_px = max(recipe.sizes_px)
    # 1,000 classes instead of two would add 0.002 GMac to a ResNet-50.
    # NFNet-F0 of the zoo cannot be built while it is traced.
    model = EmbeddingModel(recipe.model, num_classes=2).build_variables()
    cost = model_cost(model, size_px)
    if cost.gmac > recipe.limits.max_gmac:
        raise UsageError(
            f"limits.max_gmac={recipe.limits.max_gmac:g}: the model needs {cost} for an image of "
            f"{size_px} px. Choose a smaller model.trunk or input.size_px, or raise the limit."
        )


def augmentations(config: schema.Input) -> Changes:
    """Return the augmentations as name -> parameters of `data_io.augmentation` and `mixing`."""
    return {
        snake_case(type(part).__name__): {
            field.name: getattr(part, field.name) for field in dataclasses.fields(part)
        }
        for part in config.augment
    }
