"""Start a training run from the weights of another run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_io.progress import Log
from delf_ext.recipes import schema
from delf_ext.recipes.changes import changed_settings
from delf_ext.runs.recipe_run import load_model, recipe_of
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import read_run

if TYPE_CHECKING:
    from delf_ext.models.embedding_model import EmbeddingModel

NUM_SHOWN_VARIABLES = 5


def parent_recipe(from_run: str | Path) -> schema.Recipe:
    """Return the recipe of the run that a new run starts from.

    Args:
        from_run: a run directory.

    Returns:
        Its recipe.

    Raises:
        ValueError: if there is no run, or it was not trained from one recipe.
    """
    run = read_run(from_run)
    recipe = recipe_of(run) if run.kind == "recipe" else None
    if not isinstance(recipe, schema.Recipe):
        raise ValueError(
            f"{run.path}: holds a run of kind {run.kind!r}. A run can start only from a run that "
            "was trained from a recipe."
        )
    return recipe


def in_layout_of(from_run: str | Path, trunk: schema.Trunk) -> schema.Trunk:
    """Return a trunk with the layout of the run that it starts from, if it names none.

    Weights of another layout may fit the variables, but give useless embeddings.

    Args:
        from_run: a run directory.
        trunk: of the new recipe.

    Returns:
        The trunk; unchanged if the run has another one.
    """
    parent = parent_recipe(from_run).model.trunk
    is_alike = parent.name == trunk.name or parent.source == trunk.source == "slim"
    if trunk.layout != "auto" or not is_alike:
        return trunk
    return dataclasses.replace(trunk, layout=parent.layout)


def copy_weights(
    run: Run,
    model: EmbeddingModel,
    recipe: schema.Recipe,
    class_names: Sequence[str],
    log: Log,
) -> list[str]:
    """Copy the weights of a run into a model, by name and shape.

    If the run has as many classes but other ones, rows of classifiers follow their class.

    Args:
        run: the run to copy from.
        model: the new model; it is changed.
        recipe: the recipe of the new model.
        class_names: classes of the new model, by row.
        log: called with each line of the result.

    Returns:
        Lines for the history of the new run: which weights were copied, and which settings differ.

    Raises:
        ValueError: if no weight of the trunk fits.
    """
    from delf_ext.models.class_rows import with_classes
    from delf_ext.models.embedding_model import EmbeddingModel

    old_model, checkpoint_name = load_model(run)
    old_classes = run.facts.class_names
    if len(old_classes) == len(class_names) and old_classes != tuple(class_names):
        old_config = old_model.config

        def build(num_classes: int) -> EmbeddingModel:
            return EmbeddingModel(old_config, num_classes).build_variables()

        old_model = with_classes(old_model, build, old_classes, class_names)
    old_variables = old_model.named_variables()
    variables = model.named_variables()
    fitting = [
        name
        for name, variable in variables.items()
        if name in old_variables and old_variables[name].shape == variable.shape
    ]
    for name in fitting:
        variables[name].assign(old_variables[name])
    trunk_names = {
        parameter.name for parameter in model.parameters() if parameter.group.startswith("trunk/")
    }
    if trunk_names.isdisjoint(fitting):
        old = old_model.config.trunk
        end_point = f"/{old.end_point}" if old.end_point else ""
        raise ValueError(
            f"{run.path}: no weight of its trunk {old.name} fits the trunk "
            f"{recipe.model.trunk.name} of {recipe.name}. Pass "
            f"--resnet_type={old.name}{end_point}, or choose another run to start from."
        )
    lines = [
        f"starts from {run.path} ({checkpoint_name}): {len(fitting)} of {len(variables)} variables"
    ]
    random = [name for name in variables if name not in fitting]
    if random:
        shown = ", ".join(random[:NUM_SHOWN_VARIABLES])
        num_more = len(random) - NUM_SHOWN_VARIABLES
        more = f" and {num_more} more" if num_more > 0 else ""
        lines.append(f"random weights, not copied: {shown}{more}")
    lines += changed_settings(parent_recipe(run.path), recipe)
    for line in lines:
        log(line)
    return lines
