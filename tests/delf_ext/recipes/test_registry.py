"""Test how recipes are found by name or file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from delf_ext import recipes
from delf_ext.config import UsageError
from delf_ext.recipes import schema
from delf_ext.recipes.codec import to_json, with_settings
from delf_ext.recipes.registry import OTHER_SYSTEMS, RECIPES, find_recipe, overview


def test_find_recipe_by_name() -> None:
    assert find_recipe("mandoo_dual") is RECIPES["mandoo_dual"]
    assert all(name == recipe.name for name, recipe in RECIPES.items())


def test_find_recipe_in_a_json_file(tmp_path: Path) -> None:
    mine = with_settings(RECIPES["mandoo_dual"], ["optimizer.lr=1", "name=mine"])
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(to_json(mine)))
    assert find_recipe(str(path)) == mine


def test_find_ensemble_in_a_json_file(tmp_path: Path) -> None:
    members = tuple(schema.Member(name, RECIPES["demo"]) for name in "ab")
    ensemble = schema.EnsembleRecipe("two", members)
    (tmp_path / "two.json").write_text(json.dumps(to_json(ensemble)))
    assert find_recipe(str(tmp_path / "two.json")) == ensemble


def error_message(name_or_path: str | Path) -> str:
    with pytest.raises(UsageError) as caught:
        find_recipe(str(name_or_path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_error_for_unknown_name_lists_known_recipes(tmp_path: Path) -> None:
    known = f"Known: {', '.join(RECIPES)}. Or pass the path of a JSON file."
    assert error_message("mandoo_duel") == f"unknown recipe 'mandoo_duel'. {known}"
    assert error_message("") == f"unknown recipe ''. {known}"
    assert error_message(tmp_path) == f"unknown recipe {str(tmp_path)!r}. {known}"


def test_error_for_the_baseline_names_its_command() -> None:
    command = "python -m baseline_keras --data=photos/"
    assert (
        error_message("keras_baseline") == f"keras_baseline has its own training command: {command}"
    )


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"recipe"])
def test_file_that_is_not_json_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    assert error_message(path).startswith(f"{path}: not readable as JSON (")


def test_error_in_a_file_names_the_file_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    values = to_json(RECIPES["mandoo_dual"])
    values["optimizer"]["lr"] = "fast"
    path.write_text(json.dumps(values))
    assert error_message(path) == f"{path}.optimizer: Adam.lr must be a number. Received 'fast'."
    path.write_text("[]")
    wanted = '"type": "Recipe" or "EnsembleRecipe"'
    assert error_message(path) == f"{path}: must be an object with {wanted}. Received list."


def test_overview_describes_every_system() -> None:
    described = overview()
    assert [*described] == [*RECIPES, *OTHER_SYSTEMS]
    for about in described.values():
        assert about.summary and about.source and about.command and about.cost and about.expected


def test_package_exports_the_registry() -> None:
    assert recipes.RECIPES is RECIPES and recipes.find_recipe is find_recipe
    with pytest.raises(AttributeError, match="has no attribute 'find_recipi'"):
        recipes.find_recipi  # noqa: B018
