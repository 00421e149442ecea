from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data_io.files.locks import in_turn
from delf_ext.nsml import records, store


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path))
    monkeypatch.setenv("MANDOO_USER", "you")
    return tmp_path


def new_session(dataset: str = "ir_ph1_v2") -> records.Session:
    return records.create(records.Session("", dataset, "dual_main.py", ("--epochs=1",)))


def test_read_session_returns_what_create_wrote() -> None:
    session = records.create(
        records.Session(
            "",
            "ir_ph1_v2",
            "main.py",
            ("--lr", "0.1"),
            gpus=2,
            memo="a try",
            parent="you/ir_ph1_v2/7",
        )
    )
    assert session.name == "you/ir_ph1_v2/1" and session.created > 0
    assert records.read_session(session.name) == session
    with in_turn(store.session_folder(session.name) / records.RUNNING_LOCK):
        # The supervisor of a running session holds this lock.
        assert records.read_state(session.name) == records.State()


def test_sessions_are_numbered_per_data_set() -> None:
    assert [new_session().name, new_session().name, new_session("other").name] == [
        "you/ir_ph1_v2/1",
        "you/ir_ph1_v2/2",
        "you/other/1",
    ]


def test_sessions_created_at_once_get_different_numbers() -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: new_session().name, range(24)))
    assert sorted(names) == sorted(f"you/ir_ph1_v2/{number}" for number in range(1, 25))


def test_missing_and_damaged_sessions_are_errors() -> None:
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


def test_session_without_a_supervisor_has_status_killed() -> None:
    name = new_session().name
    for status in ("starting", "running"):
        records.write_state(name, records.State(status, os.getpid(), 1.0))
        with in_turn(store.session_folder(name) / records.RUNNING_LOCK):
            assert records.is_running(name) and records.read_state(name).status == status
        assert records.read_state(name) == records.State(
            "killed", os.getpid(), 1.0, reason="its process does not run any more"
        )
    ended = records.State("exited", os.getpid(), 1.0, ended=2.0)
    records.write_state(name, ended)
    assert records.read_state(name) == ended


def test_full_disk_leaves_no_part_of_a_session(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_json", full)
        with pytest.raises(OSError, match="No space left"):
            new_session()
    assert list((home / "sessions" / "you" / "ir_ph1_v2").iterdir()) == []
    assert new_session().name == "you/ir_ph1_v2/1"


def test_error_for_a_damaged_record_says_what_to_do() -> None:
    name = new_session().name
    for content in ('{"status": 5}', '{"pid": "1"}', '{"ended": null}', "{"):
        (store.session_folder(name) / "state.json").write_text(content)
        with pytest.raises(
            ValueError, match=f"state.json: damaged [(].*[)]; `nsml rm {name}` deletes the session"
        ):
            records.read_state(name)
