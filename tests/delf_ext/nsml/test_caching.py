from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from delf_ext.nsml import caching, store

calls: list[str] = []


def doubled(output_path: list[str], number: int, data_path: str = "") -> None:
    calls.append("doubled")
    for path in output_path:
        Path(path).write_text(str(2 * number))


@pytest.fixture(autouse=True)
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a data set and the working directory of a session."""
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path / "home"))
    for folder in ("session", "pushed"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "session")
    calls.clear()
    return tmp_path / "pushed"


def cached(dataset: Path, number: int = 21, function: Callable[..., object] = doubled) -> None:
    files = ["a.pkl", "below/b.pkl"]
    Path("below").mkdir(exist_ok=True)
    caching.cached(function, files, dataset, {"output_path": files, "number": number})


def empty_working_directory() -> None:
    for path in Path.cwd().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_second_call_copies_the_files_of_the_first(dataset: Path) -> None:
    cached(dataset)
    empty_working_directory()
    cached(dataset)
    assert calls == ["doubled"]
    assert Path("a.pkl").read_text() == Path("below/b.pkl").read_text() == "42"


def test_changing_a_copy_does_not_change_the_cache(dataset: Path) -> None:
    cached(dataset)
    Path("a.pkl").write_text("changed")
    cached(dataset)
    assert Path("a.pkl").read_text() == "42"


def test_other_arguments_data_set_or_function_are_not_cached_together(
    dataset: Path,
) -> None:
    def outer(offset: int) -> Callable[..., None]:
        def added(output_path: list[str], number: int) -> None:
            for path in output_path:
                Path(path).write_text(str(number + offset))

        return added

    cached(dataset)
    cached(dataset, 22)
    assert Path("a.pkl").read_text() == "44"
    cached(dataset, function=outer(1))
    assert Path("a.pkl").read_text() == "22"
    cached(dataset, function=outer(2))
    assert Path("a.pkl").read_text() == "23"
    # A new folder changes the time of the data set, as if it was pushed again.
    (dataset / "train").mkdir()
    cached(dataset)
    assert len(calls) == 3 and Path("a.pkl").read_text() == "42"


def test_call_that_cannot_be_compared_is_not_cached(dataset: Path) -> None:
    for _ in range(2):
        with pytest.warns(UserWarning, match="the call is not cached"):
            caching.cached(
                doubled,
                ["a"],
                dataset,
                {"output_path": ["a"], "number": 1, "data_path": lambda: None},
            )
    assert len(calls) == 2 and not (store.home() / "cache").exists()


def test_error_shows_a_file_that_was_not_written(dataset: Path) -> None:
    def write_only_one(output_path: list[str], number: int) -> None:
        Path(output_path[0]).touch()

    with pytest.raises(ValueError, match="^nsml.cache: write_only_one did not write below/b.pkl.$"):
        cached(dataset, function=write_only_one)
    assert not (store.home() / "cache").exists()


def test_full_disk_gives_a_warning(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.shutil, "copyfile", full)
    with pytest.warns(UserWarning, match="the files cannot be kept .*No space left"):
        cached(dataset)
    assert Path("a.pkl").read_text() == "42" and list((store.home() / "cache").iterdir()) == []
