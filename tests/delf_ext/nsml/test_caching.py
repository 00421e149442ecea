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
    """A data set; the working directory is a session's, and nothing has been called yet."""
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


def in_another_session() -> None:
    for path in Path.cwd().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_the_second_call_copies_what_the_first_wrote(dataset: Path) -> None:
    cached(dataset)
    in_another_session()
    cached(dataset)
    assert (
        calls == ["doubled"]
        and Path("a.pkl").read_text() == Path("below/b.pkl").read_text() == "42"
    )


def test_a_copy_may_be_changed_without_harm(dataset: Path) -> None:
    cached(dataset)
    Path("a.pkl").write_text("changed")
    cached(dataset)
    assert Path("a.pkl").read_text() == "42"


def test_other_arguments_another_data_set_and_another_function_are_other_calls(
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
    (dataset / "train").mkdir()  # pushed again: its folder is new
    cached(dataset)
    assert len(calls) == 3 and Path("a.pkl").read_text() == "42"


def test_what_cannot_be_told_from_other_calls_is_called_with_a_warning(dataset: Path) -> None:
    for _ in range(2):
        with pytest.warns(UserWarning, match="the call is not cached"):
            caching.cached(
                doubled,
                ["a"],
                dataset,
                {"output_path": ["a"], "number": 1, "data_path": lambda: None},
            )
    assert len(calls) == 2 and not (store.home() / "cache").exists()


def test_a_file_that_was_not_written_is_named(dataset: Path) -> None:
    def forgets(output_path: list[str], number: int) -> None:
        Path(output_path[0]).touch()

    with pytest.raises(ValueError, match="^nsml.cache: forgets did not write below/b.pkl.$"):
        cached(dataset, function=forgets)
    assert not (store.home() / "cache").exists()


def test_a_full_disk_costs_a_warning(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.shutil, "copyfile", full)
    with pytest.warns(UserWarning, match="the files cannot be kept .*No space left"):
        cached(dataset)
    assert Path("a.pkl").read_text() == "42" and list((store.home() / "cache").iterdir()) == []
