"""The names that a notebook imports: lazy, documented, typed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import delf_ext


@pytest.mark.parametrize("name", delf_ext.EXPORTS)
def test_a_name_is_exported_and_documented(name: str) -> None:
    found = getattr(delf_ext, name)
    assert name in dir(delf_ext) and inspect.getdoc(found)
    if inspect.isfunction(found):
        assert "Args:" in found.__doc__ or len(inspect.signature(found).parameters) <= 2
        hints = inspect.signature(found)
        assert all(
            one.annotation is not inspect.Parameter.empty for one in hints.parameters.values()
        )


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(
        AttributeError, match="has no attribute 'serch'. It has: Embedder, UsageError, compare, "
    ):
        _ = delf_ext.serch


def test_importing_the_package_imports_nothing_else(root: Path) -> None:
    code = (
        "import sys, delf_ext; print(*({'numpy', 'tensorflow', 'PIL', 'absl'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_the_package_says_that_it_is_typed(root: Path) -> None:
    assert (root / "delf_ext" / "py.typed").is_file() and '"delf_ext": ["py.typed"]' in (
        root / "setup.py"
    ).read_text()
