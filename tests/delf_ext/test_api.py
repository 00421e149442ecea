"""Test the public names of the package: lazy, documented, typed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import delf_ext


@pytest.mark.parametrize("name", delf_ext.EXPORTS)
def test_public_name_is_documented_and_typed(name: str) -> None:
    exported = getattr(delf_ext, name)
    assert name in dir(delf_ext) and inspect.getdoc(exported)
    if inspect.isfunction(exported):
        parameters = inspect.signature(exported).parameters.values()
        assert "Args:" in exported.__doc__ or len(parameters) <= 2
        assert all(one.annotation is not inspect.Parameter.empty for one in parameters)


def test_unknown_name_raises_error_that_lists_the_public_names() -> None:
    with pytest.raises(
        AttributeError,
        match="has no attribute 'serch'. It has: Embedder, UsageError, adapt, classify, ",
    ):
        _ = delf_ext.serch


def test_importing_the_package_imports_no_library(root: Path) -> None:
    code = (
        "import sys, delf_ext; print(*({'numpy', 'tensorflow', 'PIL', 'absl'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_package_is_marked_as_typed(root: Path) -> None:
    assert (root / "delf_ext" / "py.typed").is_file()
    assert '"delf_ext": ["py.typed"]' in (root / "setup.py").read_text()


def test_numbers_out_of_range_are_refused_by_name() -> None:
    for numbers in ({"seed": -1}, {"seed": 2**32}, {"batch_size": 0}, {"batch_size": 10**12}):
        (name,) = numbers
        for function in (delf_ext.evaluate, delf_ext.compare):
            with pytest.raises(delf_ext.UsageError, match=f"^{name} must be at least"):
                function(object(), "nowhere", **numbers)


def test_home_is_expanded_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=f"^{tmp_path}/data: not found"):
        delf_ext.load_dataset("~/data")
    with pytest.raises(delf_ext.UsageError, match=f"^{tmp_path}/run: no run directory"):
        delf_ext.open_model("~/run")
