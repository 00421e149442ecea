"""Write docs/recipes.md from the registry: `python -m delf_ext.recipes.page > docs/recipes.md`."""

from __future__ import annotations

import dataclasses

from delf_ext.recipes.part import Part
from delf_ext.recipes.registry import RECIPES, overview
from delf_ext.recipes.schema import About, EnsembleRecipe, Member, Recipe, TestTime

INTRODUCTION = """\
# Recipes

The systems that mandoo trains. This page is generated from the registry:
`python -m delf_ext.recipes.page > docs/recipes.md`.

A recipe describes a system: its model, losses, training and evaluation. It is a record made of
parts; `delf_ext/recipes/` documents every part and its settings:

- `schema.py`: the recipe itself, and ensembles of several recipes
- `model_parts.py`: trunk, heads, pooling, classifiers
- `loss_parts.py`: losses
- `training_parts.py`: optimizers, stages, augmentation, sampling
- `evaluation_parts.py`: validation, task, limits, and the steps after training

`mandoo recipes --recipe=NAME` prints a recipe as JSON. `--recipe=FILE` trains from such a file,
and `--set PATH=VALUE` changes one value:

```
mandoo --recipe=mandoo_block3 --set stages.0.epochs=20 --data=photos/ --run_dir=runs/block3
```
"""


def as_markdown() -> str:
    """Return the text of docs/recipes.md."""
    sections = [_section(name, about) for name, about in overview().items()]
    return "\n".join([INTRODUCTION, *sections])


def _section(name: str, about: About) -> str:
    lines = [
        f"## {name}",
        "",
        about.summary,
        "",
        f"- source: {about.source}",
        f"- command: `{about.command}`",
        f"- cost: {about.cost}",
        f"- expected: {about.expected}",
    ]
    recipe = RECIPES.get(name)
    settings: list[tuple[str, str]] = []
    if isinstance(recipe, Recipe):
        settings = _settings(recipe)
    elif isinstance(recipe, EnsembleRecipe):
        settings = _settings_of_ensemble(recipe)
    if settings:
        lines += ["", "| part | setting |", "|---|---|"]
        lines += [f"| {part} | {setting} |" for part, setting in settings]
    return "\n".join(lines) + "\n"


def _settings(recipe: Recipe) -> list[tuple[str, str]]:
    trunk = recipe.model.trunk
    network = f"{trunk.name}/{trunk.end_point}".removesuffix("/")
    heads = [
        f"{head.name} ({_kind(head.pool)}{f' of {head.after}' if head.after else ''})"
        for head in recipe.model.heads
    ]
    losses = [f"{_kind(term.loss)} on {term.head}" for term in recipe.losses]
    stages = [
        f"{stage.epochs} epoch{'s' if stage.epochs > 1 else ''} at {size_px} px, "
        f"{_kind(stage.schedule) if stage.schedule else 'the same schedule'}"
        for stage, size_px in zip(recipe.stages, recipe.sizes_px, strict=True)
    ]
    augmentations = [_kind(augmentation) for augmentation in recipe.input.augment]
    rows = [
        ("trunk", f"{network} ({trunk.source})"),
        ("heads", ", ".join(heads)),
        ("embedding", ", ".join(recipe.model.embedding)),
        ("losses", ", ".join(losses)),
        ("optimizer", f"{_kind(recipe.optimizer)}, lr {recipe.optimizer.lr:g}"),
        ("stages", "; ".join(stages)),
        ("sampling", f"{_kind(recipe.sampling)}, batches of {recipe.batch_size}"),
        ("validation", _kind(recipe.validation) if recipe.validation else "none"),
        ("augmentation", ", ".join(augmentations) or "none"),
    ]
    # What most recipes do not have is listed only where it is used.
    rare: dict[str, Part | None] = {"averaging": recipe.averaging, "reduction": recipe.reduction}
    if recipe.test_time != TestTime():
        rare["test time"] = recipe.test_time
    rows += [(part, _with_settings(value)) for part, value in rare.items() if value is not None]
    if recipe.batches_per_update > 1:
        rows.append(("update", f"every {recipe.batches_per_update} batches"))
    return rows


def _settings_of_ensemble(ensemble: EnsembleRecipe) -> list[tuple[str, str]]:
    """Return the settings that all members share, and those of the ensemble."""
    recipes = [member.recipe for member in ensemble.members if member.recipe is not None]
    shared = dict(_settings(recipes[0]))
    trunks = dict.fromkeys(dict(_settings(recipe))["trunk"] for recipe in recipes)
    vote = ensemble.label
    label = "none"
    if vote is not None:
        label = (
            f"{_kind(vote)} of {vote.neighbours}, similarity^{vote.similarity_power:g} x "
            f"logit^{vote.logit_power:g}"
        )
    reduction = ensemble.reduction
    return [
        ("members", ", ".join(_member(member) for member in ensemble.members)),
        *{**shared, "trunk": "; ".join(trunks)}.items(),
        ("joined by", _kind(ensemble.join)),
        *([("reduction of the joined", _with_settings(reduction))] if reduction else []),
        ("label", label),
    ]


def _member(member: Member) -> str:
    return f"{member.name} ({member.folds} folds)" if member.folds else member.name


def _with_settings(part: Part) -> str:
    """Return the kind of a part, and its settings that are not the default."""
    changed = []
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if value != field.default:
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            changed.append(f"{field.name} {shown}")
    return f"{_kind(part)} ({', '.join(changed)})" if changed else _kind(part)


def _kind(part: Part) -> str:
    return type(part).__name__


if __name__ == "__main__":
    print(as_markdown(), end="")
