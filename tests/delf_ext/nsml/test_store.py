from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from delf_ext.nsml import records, store


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path))
    monkeypatch.setenv("MANDOO_USER", "you")
    return tmp_path


def new_session(dataset: str = "ir_ph1_v2") -> records.Session:
    return records.create(dataset, "dual_main.py", ("--epochs=1",))


def test_a_session_is_read_as_it_was_made() -> None:
    session = records.create(
        "ir_ph1_v2", "main.py", ("--lr", "0.1"), gpus=2, memo="a try", parent="you/ir_ph1_v2/7"
    )
    assert session.name == "you/ir_ph1_v2/1" and session.created > 0
    assert records.read_session(session.name) == session
    with open(store.session_folder(session.name) / "log", "ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)  # as its supervisor
        assert records.read_state(session.name) == records.State()


def test_numbers_go_on_and_are_each_data_sets_own() -> None:
    assert [new_session().name, new_session().name, new_session("other").name] == [
        "you/ir_ph1_v2/1",
        "you/ir_ph1_v2/2",
        "you/other/1",
    ]


def test_sessions_made_at_once_get_a_number_each() -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: new_session().name, range(24)))
    assert sorted(names) == sorted(f"you/ir_ph1_v2/{number}" for number in range(1, 25))


def test_sessions_are_listed_by_number(home: Path) -> None:
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


def test_the_users_name_is_made_a_files_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANDOO_USER", "김 you/x")
    assert store.user() == "__you_x"


@pytest.mark.parametrize(
    "name", ["", "..", ".hidden", "-x", "a/b", "a b", "x" * 101, "../up", "a\n"]
)
def test_names_that_cannot_be_files_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="^data set .*letters, digits"):
        store.dataset_folder(name)
    with pytest.raises(ValueError, match="^checkpoint"):
        store.checkpoint_folder("you/x/1", name)


@pytest.mark.parametrize(
    "name", ["", "you/x", "you/x/y", "you/../1", "a/you/x/1", "you/x/-1", "you/x/²"]
)
def test_names_that_are_no_session_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="use USER/DATASET/N"):
        store.session_folder(name)


def test_a_session_that_is_not_there_and_a_damaged_one_are_named() -> None:
    with pytest.raises(ValueError, match="^no session you/x/9: `nsml ps -a` lists all"):
        records.read_session("you/x/9")
    name = new_session().name
    for content in ("{}", "[]", '{"name": 1', '{"args": [], "more": 1}'):
        (store.session_folder(name) / "session.json").write_text(content)
        with pytest.raises(ValueError, match="session.json: (damaged|not readable)"):
            records.read_session(name)
    for content in ("[]", '{"more": 1}'):
        (store.session_folder(name) / "state.json").write_text(content)
        with pytest.raises(ValueError, match="state.json: damaged"):
            records.read_state(name)


def test_a_session_that_nobody_watches_was_killed() -> None:
    name = new_session().name
    for status in ("starting", "running"):
        records.write_state(name, records.State(status, os.getpid(), 1.0))
        with open(store.session_folder(name) / "log", "ab") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            assert records.is_running(name) and records.read_state(name).status == status
        assert records.read_state(name) == records.State(
            "killed", os.getpid(), 1.0, reason="its process does not run any more"
        )
    ended = records.State("exited", os.getpid(), 1.0, ended=2.0)
    records.write_state(name, ended)
    assert records.read_state(name) == ended


def test_a_full_disk_leaves_no_half_of_a_session(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_json", full)
        with pytest.raises(OSError, match="No space left"):
            new_session()
    assert list((home / "sessions" / "you" / "ir_ph1_v2").iterdir()) == []
    assert new_session().name == "you/ir_ph1_v2/1"


def test_checkpoints_are_listed_as_they_came_and_only_whole_ones() -> None:
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


def test_a_damaged_record_names_its_remedy_and_what_is_wrong() -> None:
    name = new_session().name
    for content in ('{"status": 5}', '{"pid": "1"}', '{"ended": null}', "{"):
        (store.session_folder(name) / "state.json").write_text(content)
        with pytest.raises(
            ValueError, match=f"state.json: damaged [(].*[)]; `nsml rm {name}` deletes the session"
        ):
            records.read_state(name)


def test_without_a_home_folder_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MANDOO_HOME")
    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(ValueError, match="set MANDOO_HOME"):
        store.home()
