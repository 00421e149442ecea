from __future__ import annotations

import os
from pathlib import Path

import pytest

from delf_ext.nsml import records, store


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path))
    monkeypatch.setenv("MANDOO_USER", "you")
    return tmp_path


def new_session(dataset: str = "ir_ph1_v2") -> records.Session:
    return records.create(records.Session("", dataset, "dual_main.py", ("--epochs=1",)))


def test_session_names_are_sorted_by_number(home: Path) -> None:
    for _ in range(11):
        new_session()
    new_session("other")
    (home / "sessions" / "you" / "other" / "notes").mkdir()
    assert list(store.session_names())[-3:] == [
        "you/ir_ph1_v2/10",
        "you/ir_ph1_v2/11",
        "you/other/1",
    ]
    assert list(store.session_names("other")) == ["you/other/1"]


def test_user_replaces_invalid_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANDOO_USER", "김 you/x")
    assert store.user() == "__you_x"


@pytest.mark.parametrize(
    "name", ["", "..", ".hidden", "-x", "a/b", "a b", "x" * 101, "../up", "a\n"]
)
def test_invalid_file_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="^data set .*letters, digits"):
        store.dataset_folder(name)
    with pytest.raises(ValueError, match="^checkpoint"):
        store.checkpoint_folder("you/x/1", name)


@pytest.mark.parametrize(
    "name", ["", "you/x", "you/x/y", "you/../1", "a/you/x/1", "you/x/-1", "you/x/²"]
)
def test_invalid_session_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="use USER/DATASET/N"):
        store.session_folder(name)


def test_checkpoint_names_are_sorted_by_time_and_complete() -> None:
    name = new_session().name
    for number, checkpoint in enumerate(("10", "2", "best")):
        folder = store.checkpoint_folder(name, checkpoint)
        (folder / "model").mkdir(parents=True)
        (folder / "checkpoint.json").write_text("{}")
        os.utime(folder / "checkpoint.json", (number, number))
    (store.session_folder(name) / "checkpoints" / "half" / "model").mkdir(parents=True)
    hidden = store.session_folder(name) / "checkpoints" / ".3.new"
    hidden.mkdir()
    (hidden / "checkpoint.json").write_text("{}")
    assert store.checkpoint_names(name) == ["10", "2", "best"]


def test_home_without_a_home_folder_asks_for_mandoo_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MANDOO_HOME")
    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(ValueError, match="set MANDOO_HOME"):
        store.home()
