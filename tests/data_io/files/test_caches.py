"""Test that a cache that cannot be written costs the cache, not the command."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_io.files import caches
from data_io.files.caches import cache_folder


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MANDOO_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    caches._writable_cache.cache_clear()
    yield
    caches._writable_cache.cache_clear()


def test_the_folder_comes_from_the_environment(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "mandoo"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "mandoo"
    monkeypatch.setenv("MANDOO_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", ["HOME", "XDG_CACHE_HOME", "MANDOO_CACHE"])
def test_a_temporary_folder_replaces_one_that_cannot_be_written(
    name: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "file" / "x"))
    folder = cache_folder()
    assert folder.parent == tmp_path / "tmp" and folder.stat().st_mode & 0o077 == 0
    assert cache_folder() == folder
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "cannot be written (" in captured.err and f"{folder} is used instead" in captured.err


def test_without_any_home_folder_there_is_a_cache(tmp_path: Path, monkeypatch, capsys) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    assert cache_folder().parent == tmp_path / "tmp"
    assert "no home folder is known" in capsys.readouterr().err


def test_the_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 4711)
    (tmp_path / "tmp" / "mandoo-4711").mkdir()
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "file" / "x"))
    assert cache_folder().name != "mandoo-4711"
