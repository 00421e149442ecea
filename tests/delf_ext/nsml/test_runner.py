from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from delf_ext.nsml import records, runner, store

PRINT_CALL = (
    "import os, sys; print(os.getcwd(), sys.argv[1:], os.environ['NSML_CHECKPOINT_DIR'] or None)\n"
)
RUN_FOREVER = "import os, time; print('pid', os.getpid())\nwhile True: time.sleep(0.05)\n"


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Create a store with the data set `toy`, and a main.py that prints how it was called."""
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("MANDOO_USER", "you")
    (tmp_path / "store/datasets/toy").mkdir(parents=True)
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    Path("main.py").write_text(PRINT_CALL)
    yield Path()
    for name in store.session_names():
        if records.is_running(name):
            runner.stop(name)


def log_at_end(name: str) -> str:
    assert eventually(lambda: not records.is_running(name))
    return log_of(name)


def log_of(name: str) -> str:
    return (store.session_folder(name) / "log").read_text()


def eventually(condition: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + 20
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.02)
    return condition()


def running(code: str = RUN_FOREVER) -> tuple[str, int]:
    """Start a session that does not end; return its name and the process id of its entry."""
    Path("main.py").write_text(code)
    name = runner.run("toy", "main.py").name
    assert eventually(lambda: "\n" in log_of(name))
    return name, int(log_of(name).split()[1])


def add_checkpoint(session: str, *names: str) -> None:
    """Write checkpoints as `save` does."""
    for name in names:
        folder = store.checkpoint_folder(session, name)
        (folder / "model").mkdir(parents=True)
        (folder / "checkpoint.json").write_text("{}")


def test_session_runs_a_copy_of_the_code(code: Path) -> None:
    session = runner.run("toy", "./main.py", ("--epochs=3", "two words"), gpus=2, memo="first")
    Path("main.py").write_text("raise SystemExit('edited')")
    folder = store.session_folder("you/toy/1")
    assert log_at_end(session.name) == f"{folder / 'code'} ['--epochs=3', 'two words'] None\n"
    assert records.read_session("you/toy/1") == session
    assert session.entry == "main.py"
    assert session.gpus == 2
    assert session.memo == "first"
    state = records.read_state("you/toy/1")
    assert state.status == "exited"
    assert state.exit_code == 0
    assert state.reason == ""
    assert session.created < state.started < state.ended


def test_failed_session_has_a_reason(code: Path) -> None:
    Path("main.py").write_text("import nowhere")
    name = runner.run("toy", "main.py").name
    assert "Traceback" in log_at_end(name)
    state = records.read_state(name)
    assert state.status == "failed"
    assert state.exit_code == 1
    assert state.reason == "ModuleNotFoundError: No module named 'nowhere'"


@pytest.mark.parametrize(
    ("dataset", "entry", "message"),
    [
        ("other", "main.py", r"no data set other \(known: toy\)"),
        ("toy", "other.py", "no such entry file"),
        ("../toy", "main.py", "data set"),
    ],
)
def test_run_that_cannot_start_creates_nothing(
    code: Path, dataset: str, entry: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        runner.run(dataset, entry)
    assert not (store.home() / "sessions").exists()


def test_full_disk_while_copying_code_leaves_nothing(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left"):
        runner.run("toy", "main.py")
    assert not list((store.home() / "sessions/you/toy").iterdir())


def test_two_runs_at_once_get_two_sessions(code: Path) -> None:
    with ThreadPoolExecutor() as pool:
        sessions = list(pool.map(lambda arg: runner.run("toy", "main.py", (arg,)), ["--a", "--b"]))
    assert {session.name for session in sessions} == {"you/toy/1", "you/toy/2"}
    assert all(str(list(session.args)) in log_at_end(session.name) for session in sessions)


def test_stop_gives_the_session_time_to_end(code: Path) -> None:
    name, pid = running(
        "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(print('saved')))\n" + RUN_FOREVER
    )
    with pytest.raises(ValueError, match=f"{name} still runs: `nsml stop {name}` first"):
        runner.remove(name)
    runner.stop(name)
    assert log_at_end(name) == f"pid {pid}\nsaved\n" and _has_ended(pid)
    assert records.read_state(name).status == "stopped"
    with pytest.raises(ValueError, match=rf"{name} does not run \(stopped\)"):
        runner.stop(name)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_session_ends_with_its_killed_supervisor_and_can_be_removed(code: Path) -> None:
    name, pid = running()
    add_checkpoint(name, "1")
    supervisor = records.read_state(name).pid
    os.kill(supervisor, signal.SIGKILL)
    os.waitpid(supervisor, 0)
    assert records.read_state(name).status == "killed"
    assert eventually(lambda: not records.is_running(name) and _has_ended(pid))
    runner.remove(name)
    assert list(store.session_names()) == [] and not store.session_folder(name).exists()
    with pytest.raises(ValueError, match=f"no session {name}"):
        runner.remove(name)


def test_stop_kills_a_supervisor_that_does_not_answer(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, pid = running()
    supervisor = records.read_state(name).pid
    os.kill(supervisor, signal.SIGSTOP)
    monkeypatch.setattr(runner, "GRACE_S", 0.1)
    runner.stop(name)
    os.waitpid(supervisor, 0)
    state = records.read_state(name)
    assert state.status == "stopped"
    assert state.reason == "its supervisor did not answer"
    assert not records.is_running(name)
    assert sys.platform != "linux" or eventually(lambda: _has_ended(pid))


def test_fork_runs_the_code_of_its_parent_with_its_checkpoint(code: Path) -> None:
    parent = runner.run("toy", "main.py", ("--lr=1",), gpus=3, memo="first").name
    log_at_end(parent)
    add_checkpoint(parent, "10", "20")
    Path("main.py").write_text("raise SystemExit('edited')")
    fork = runner.fork(parent, "10", ("--lr=2",))
    model = store.checkpoint_folder(parent, "10") / "model"
    assert log_at_end(fork.name).endswith(
        f"['--lr=1', '--lr=2', '--pause=1', '--iteration=10'] {model}\n"
    )
    assert fork.name == "you/toy/2"
    assert fork.parent == parent
    assert fork.checkpoint == "10"
    assert fork.gpus == 3
    assert fork.memo == "first"
    assert runner.fork(parent, gpus=0).checkpoint == "20"


def test_resume_continues_in_the_same_folder_and_log(code: Path) -> None:
    name = runner.run("toy", "main.py", ("--lr=1",)).name
    first = log_at_end(name)
    add_checkpoint(name, "10", "20")
    assert runner.resume(name) == "20"
    model = store.checkpoint_folder(name, "20") / "model"
    assert (
        log_at_end(name)
        == first
        + f"{store.session_folder(name)}/code ['--lr=1', '--pause=1', '--iteration=20'] {model}\n"
    )
    assert records.read_state(name).status == "exited"


def test_resume_refuses_a_running_session(code: Path) -> None:
    name, _ = running()
    add_checkpoint(name, "1")
    with pytest.raises(ValueError, match=f"{name} still runs"):
        runner.resume(name)


def test_error_for_a_missing_checkpoint_lists_the_others(code: Path) -> None:
    first, second = (
        records.create(records.Session("", "toy", "main.py", ())).name for _ in range(2)
    )
    add_checkpoint(first, "10", "20")
    assert store.find_checkpoint(first) == store.checkpoint_folder(first, "20")
    assert store.find_checkpoint(first, "10") == store.checkpoint_folder(first, "10")
    for use in (runner.fork, runner.resume, store.find_checkpoint):
        with pytest.raises(ValueError, match=rf"{first} has no checkpoint '30'. It has: 10, 20."):
            use(first, "30")
        with pytest.raises(ValueError, match=f"{second} has saved no checkpoint"):
            use(second, "10")
        with pytest.raises(ValueError, match="no session you/toy/9"):
            use("you/toy/9", "10")


def test_supervisor_that_does_not_start_is_an_error(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(
        ValueError,
        match="you/toy/1: its supervisor did not start; see `nsml logs you/toy/1` for the reason",
    ):
        runner.run("toy", "main.py")
    assert records.read_state("you/toy/1").status == "failed"
    assert not records.is_running("you/toy/1")


def _has_ended(pid: int) -> bool:
    """Return whether a process has ended; a zombie has."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_run_accepts_an_absolute_path_of_the_entry(code: Path) -> None:
    assert runner.run("toy", str(Path("main.py").absolute())).entry == "main.py"
