"""Test that docs/recipes.md is generated from the registry."""

from __future__ import annotations

from pathlib import Path

from delf_ext.recipes.page import as_markdown
from delf_ext.recipes.registry import RECIPES


def test_recipes_page_is_up_to_date(root: Path) -> None:
    page = (root / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert page == as_markdown(), "run: python -m delf_ext.recipes.page > docs/recipes.md"
    assert all(f"## {name}\n" in page for name in RECIPES)
