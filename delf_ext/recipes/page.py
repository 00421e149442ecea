"""docs/recipes.md, made from the registry."""

from __future__ import annotations

from delf_ext.recipes.part import Part
from delf_ext.recipes.registry import RECIPES, overview
from delf_ext.recipes.schema import Recipe


def as_markdown() -> str:
    """Return docs/recipes.md; `python -m delf_ext.recipes.page > docs/recipes.md` writes it."""
    lines = [
        "# Recipes",
        "",
        "The systems that mandoo trains. This page is made from the registry: "
        "`python -m delf_ext.recipes.page > docs/recipes.md`.",
        "",
        "A recipe is a record over shared parts (`delf_ext/recipes/schema.py`). `mandoo recipes --recipe=NAME` prints one as",
        "JSON, `--recipe=FILE` trains from such a file, and `--set PATH=VALUE` changes any value of it:",
        "",
        "```",
        "mandoo --recipe=mandoo_block3 --set optimizer.lr=1e-3 --set stages.0.epochs=20 --data=photos/ --run_dir=runs/block3",
        "```",
    ]
    for name, about in overview().items():
        lines += ["", f"## {name}", "", about.summary, ""]
        lines += [
            f"- source: {about.source}",
            f"- command: `{about.command}`",
            f"- cost: {about.cost}",
        ]
        lines += [f"- expected: {about.expected}"]
        recipe = RECIPES.get(name)
        if isinstance(recipe, Recipe):
            lines += [
                "",
                "| part | setting |",
                "|---|---|",
                *(f"| {what} | {text} |" for what, text in _parts(recipe)),
            ]
    return "\n".join(lines) + "\n"


def _parts(recipe: Recipe) -> list[tuple[str, str]]:
    trunk = recipe.model.trunk
    schedule = ", ".join(
        f"{stage.epochs} epochs, {_named(stage.schedule)}" for stage in recipe.stages
    )
    return [
        ("trunk", f"{trunk.name}/{trunk.end_point} ({trunk.source}), {recipe.input.size_px} px"),
        ("heads", ", ".join(f"{head.name} ({_named(head.pool)})" for head in recipe.model.heads)),
        ("embedding", ", ".join(recipe.model.embedding)),
        ("losses", ", ".join(f"{_named(term.loss)} on {term.head}" for term in recipe.losses)),
        ("optimizer", f"{_named(recipe.optimizer)}, lr {recipe.optimizer.lr:g}"),
        ("stages", schedule),
        ("sampling", f"{_named(recipe.sampling)}, batches of {recipe.batch_size}"),
        ("validation", _named(recipe.validation) if recipe.validation else "none"),
        ("augmentation", ", ".join(map(_named, recipe.input.augment)) or "none"),
    ]


def _named(part: Part) -> str:
    return type(part).__name__


if __name__ == "__main__":
    print(as_markdown(), end="")
