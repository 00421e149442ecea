"""List the trainings of an ensemble. Uses the standard library only."""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple

from delf_ext.config import UsageError, require
from delf_ext.recipes import schema
from delf_ext.recipes.codec import AnyRecipe

SEEDS = 2**32


class Planned(NamedTuple):
    """One model of an ensemble: a training, or a finished run.

    Attributes:
        name: of its folder below members/; "resnet", or "resnet-fold-2".
        member: row of its member in the recipe.
        recipe: recipe to train; None for a finished run.
        run: path of the finished run; "" for a training.
        seed: of the training.
        fold: number of the held-out fold, from 0; None without folds.
        title: how the log names it: "resnet, fold 2 of 5".
    """

    name: str
    member: int
    recipe: schema.Recipe | None
    run: str
    seed: int
    fold: int | None
    title: str


def planned(ensemble: schema.EnsembleRecipe, seed: int = 0) -> list[Planned]:
    """List the models of an ensemble, in the order in which their embeddings are joined.

    Fold f (from 0) of a member is trained with the seed of the ensemble plus f. All members divide
    the images with the seed of the ensemble, so that they have the same folds.

    Args:
        ensemble: the recipe.
        seed: of the ensemble.

    Returns:
        The models.
    """
    models = []
    for row, member in enumerate(ensemble.members):
        name, recipe = member.name, member.recipe
        if recipe is None or not member.folds:
            models.append(Planned(name, row, recipe, member.run, seed, None, name))
            continue
        for fold in range(member.folds):
            title = f"{name}, fold {fold + 1} of {member.folds}"
            models.append(
                Planned(
                    f"{name}-fold-{fold + 1}",
                    row,
                    _of_fold(recipe, member.folds, fold, seed),
                    "",
                    (seed + fold) % SEEDS,
                    fold,
                    title,
                )
            )
    return models


def _of_fold(recipe: schema.Recipe, folds: int, fold: int, seed: int) -> schema.Recipe:
    """Return the recipe with a fold as its validation; without one before, after each epoch."""
    old = recipe.validation
    every_steps = old.every_steps if isinstance(old, schema.StratifiedFolds) else 0
    validation = schema.StratifiedFolds(every_steps, folds, fold, seed)
    return dataclasses.replace(recipe, validation=validation)


def with_folds(recipe: AnyRecipe, folds: int) -> AnyRecipe:
    """Return an ensemble of the folds of a recipe, or of each recipe in an ensemble.

    Args:
        recipe: a recipe, or an ensemble.
        folds: number of folds; 0 returns the recipe unchanged.

    Returns:
        The ensemble.

    Raises:
        UsageError: there is one fold, or the ensemble has no recipe to train.
    """
    if not folds:
        return recipe
    require(folds >= 2, f"--folds must be 0 or at least 2. Received {folds}.")
    if isinstance(recipe, schema.Recipe):
        name = re.sub(r"\W", "_", recipe.name)
        name = name if name.isidentifier() else f"recipe_{name}"
        member = schema.Member(name, recipe, folds=folds)
        return schema.EnsembleRecipe(
            f"{recipe.name}_folds", (member,), ranking=recipe.ranking, about=recipe.about
        )
    if all(member.recipe is None for member in recipe.members):
        raise UsageError(
            f"--folds trains each recipe of an ensemble, but the members of {recipe.name} are "
            "finished runs."
        )
    members = tuple(
        member if member.recipe is None else dataclasses.replace(member, folds=folds)
        for member in recipe.members
    )
    return dataclasses.replace(recipe, members=members)


def weights_of_models(ensemble: schema.EnsembleRecipe, weights: tuple[float, ...]) -> schema.Join:
    """Return the join of the models: each fold of a member has the weight of the member.

    Args:
        ensemble: the recipe.
        weights: of its members; () leaves its join as it is.

    Returns:
        The join, with one weight for each model.
    """
    join = ensemble.join
    if not isinstance(join, schema.Concatenate):
        return join
    weights = weights or join.weights
    if not weights:
        return join
    return schema.Concatenate(tuple(weights[model.member] for model in planned(ensemble)))
