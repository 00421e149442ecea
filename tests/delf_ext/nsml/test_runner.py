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

TELL = "import os, sys; print(os.getcwd(), sys.argv[1:], os.environ.get('NSML_CHECKPOINT_DIR'))\n"
RUN_ON = "import os, time; print('pid', os.getpid())\nwhile True: time.sleep(0.05)\n"


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a main.py that tells how it was called; a store with the data set `toy`."""
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("MANDOO_USER", "you")
    (tmp_path / "store/datasets/toy").mkdir(parents=True)
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    Path("main.py").write_text(TELL)
    yield Path()
    for name in store.session_names():
        if records.is_running(name):
            runner.stop(name)


def log_at_end(name: str) -> str:
    return b"".join(runner.read_log(name, follow=True)).decode()


def eventually(condition: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + 20
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.02)
    return condition()


def running(code: str = RUN_ON) -> tuple[str, int]:
    """A session that runs on, and its entry's process."""
    Path("main.py").write_text(code)
    name = runner.run("toy", "main.py").name
    assert eventually(lambda: b"\n" in b"".join(runner.read_log(name)))
    return name, int(b"".join(runner.read_log(name)).split()[1])


def add_checkpoint(session: str, *names: str) -> None:
    """As `save` leaves them."""
    for name in names:
        folder = store.checkpoint_folder(session, name)
        (folder / "model").mkdir(parents=True)
        (folder / "checkpoint.json").write_text("{}")


def test_a_session_runs_the_code_as_it_was(code: Path) -> None:
    session = runner.run("toy", "./main.py", ("--epochs=3", "two words"), gpus=2, memo="first")
    Path("main.py").write_text("raise SystemExit('edited')")
    folder = store.session_folder("you/toy/1")
    assert log_at_end(session.name) == f"{folder / 'code'} ['--epochs=3', 'two words'] None\n"
    assert records.read_session("you/toy/1") == session and (
        session.entry,
        session.gpus,
        session.memo,
    ) == ("main.py", 2, "first")
    state = records.read_state("you/toy/1")
    assert (state.status, state.exit_code, state.reason) == (
        "exited",
        0,
        "",
    ) and session.created < state.started < state.ended


def test_a_failed_session_says_why(code: Path) -> None:
    Path("main.py").write_text("import nowhere")
    name = runner.run("toy", "main.py").name
    assert "Traceback" in log_at_end(name)
    state = records.read_state(name)
    assert (state.status, state.exit_code, state.reason) == (
        "failed",
        1,
        "ModuleNotFoundError: No module named 'nowhere'",
    )


@pytest.mark.parametrize(
    ("dataset", "entry", "message"),
    [
        ("other", "main.py", r"no data set other \(known: toy\)"),
        ("toy", "other.py", "no such entry file"),
        ("../toy", "main.py", "data set"),
    ],
)
def test_what_cannot_run_leaves_nothing(code: Path, dataset: str, entry: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        runner.run(dataset, entry)
    assert not (store.home() / "sessions").exists()


def test_a_disk_that_is_full_while_code_is_copied_leaves_nothing(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left"):
        runner.run("toy", "main.py")
    assert not list((store.home() / "sessions/you/toy").iterdir())


def test_two_at_once_are_two(code: Path) -> None:
    with ThreadPoolExecutor() as pool:
        sessions = list(pool.map(lambda arg: runner.run("toy", "main.py", (arg,)), ["--a", "--b"]))
    assert {session.name for session in sessions} == {"you/toy/1", "you/toy/2"}
    assert all(str(list(session.args)) in log_at_end(session.name) for session in sessions)


def test_stop_lets_it_end_on_its_own(code: Path) -> None:
    name, pid = running(
        "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(print('saved')))\n" + RUN_ON
    )
    with pytest.raises(ValueError, match=f"{name} still runs: `nsml stop {name}` first"):
        runner.remove(name)
    runner.stop(name)
    assert log_at_end(name) == f"pid {pid}\nsaved\n" and _has_ended(pid)
    assert records.read_state(name).status == "stopped"
    with pytest.raises(ValueError, match=rf"{name} does not run \(stopped\)"):
        runner.stop(name)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_a_session_whose_supervisor_is_killed_ends_with_it_and_can_be_removed(code: Path) -> None:
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


def test_a_supervisor_that_does_not_answer_is_killed(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, pid = running()
    supervisor = records.read_state(name).pid
    os.kill(supervisor, signal.SIGSTOP)
    monkeypatch.setattr(runner, "GRACE_S", 0.1)
    runner.stop(name)
    os.waitpid(supervisor, 0)
    state = records.read_state(name)
    assert (state.status, state.reason) == (
        "stopped",
        "its supervisor did not answer",
    ) and not records.is_running(name)
    assert sys.platform != "linux" or eventually(lambda: _has_ended(pid))


def test_a_fork_goes_on_from_a_checkpoint_with_the_code_of_its_parent(code: Path) -> None:
    parent = runner.run("toy", "main.py", ("--lr=1",), gpus=3, memo="first").name
    log_at_end(parent)
    add_checkpoint(parent, "10", "20")
    Path("main.py").write_text("raise SystemExit('edited')")
    fork = runner.fork(parent, "10", ("--lr=2",))
    model = store.checkpoint_folder(parent, "10") / "model"
    assert log_at_end(fork.name).endswith(
        f"['--lr=1', '--lr=2', '--pause=1', '--iteration=10'] {model}\n"
    )
    assert (fork.name, fork.parent, fork.checkpoint, fork.gpus, fork.memo) == (
        "you/toy/2",
        parent,
        "10",
        3,
        "first",
    )
    assert runner.fork(parent, gpus=0).checkpoint == "20"


def test_a_resumed_session_goes_on_in_its_place(code: Path) -> None:
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


def test_what_runs_is_not_resumed(code: Path) -> None:
    name, _ = running()
    add_checkpoint(name, "1")
    with pytest.raises(ValueError, match=f"{name} still runs"):
        runner.resume(name)


def test_a_checkpoint_that_is_not_there_lists_those_that_are(code: Path) -> None:
    first, second = (records.create("toy", "main.py", ()).name for _ in range(2))
    add_checkpoint(first, "10", "20")
    assert store.find_checkpoint(first) == "20" and store.find_checkpoint(first, "10") == "10"
    for use in (runner.fork, runner.resume, store.find_checkpoint):
        with pytest.raises(ValueError, match=rf"{first} has no checkpoint '30'. It has: 10, 20."):
            use(first, "30")
        with pytest.raises(ValueError, match=f"{second} has saved no checkpoint"):
            use(second, "10")  # of another session
        with pytest.raises(ValueError, match="no session you/toy/9"):
            use("you/toy/9", "10")


def test_a_supervisor_that_does_not_start_is_told(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(
        ValueError,
        match="you/toy/1: its supervisor did not start; see `nsml logs you/toy/1` for the reason",
    ):
        runner.run("toy", "main.py")
    assert records.read_state("you/toy/1").status == "failed" and not records.is_running(
        "you/toy/1"
    )


def _has_ended(pid: int) -> bool:
    """Also where nobody has asked for its exit code yet."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_an_entry_may_be_named_by_its_whole_path(code: Path) -> None:
    assert runner.run("toy", str(Path("main.py").absolute())).entry == "main.py"
