from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from delf_ext.nsml import processes
from delf_ext.nsml.processes import Outcome, watch

linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc")
LEAVE_AN_ORPHAN = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("orphan", "w").write(str(os.getpid()))
        time.sleep(60)
    os._exit(0)
os.wait()
while not os.path.exists("orphan") or not open("orphan").read():
    time.sleep(0.01)
"""


def watched(code: str, folder: Path, limit_s: float | None = None, log: str = "log") -> Outcome:
    return watch([sys.executable, "-u", "-c", code], folder, os.environ, folder / log, limit_s)


def test_watch_appends_the_output_unchanged(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    outcome = watched(
        "import sys; print('out', flush=True); print('err', file=sys.stderr);"
        "sys.stdout.write('half')",
        tmp_path,
    )
    assert (tmp_path / "log").read_text() == "before\nout\nerr\nhalf"
    assert outcome == Outcome(0, "", outcome.seconds) and outcome.seconds > 0


@pytest.mark.parametrize(
    ("code", "exit_code", "reason"),
    [
        ("raise ValueError('first\\nsecond')", 1, "ValueError: first"),
        (
            "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise OSError(28, 'No space')",
            1,
            "OSError: [Errno 28] No space",
        ),
        ("print('epoch 1'); raise SystemExit('error: no such flag')", 1, "error: no such flag"),
        ("raise SystemExit(3)", 3, "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", -9, "signal 9 (out of memory?)"),
        ("import os; os.kill(os.getpid(), 7)", -7, "signal 7 (Bus error: is a disk full?)"),
        ("raise ValueError('\x1b[2J red')", 1, "ValueError: ?[2J red"),
        ("import os; os.abort()", -6, "signal 6 (Aborted)"),
    ],
)
def test_failure_has_a_reason_in_one_line(
    tmp_path: Path, code: str, exit_code: int, reason: str
) -> None:
    outcome = watched(code, tmp_path)
    assert (outcome.exit_code, outcome.reason) == (exit_code, reason)


def test_watch_kills_the_command_at_the_limit(tmp_path: Path) -> None:
    outcome = watched(
        "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)",
        tmp_path,
        limit_s=0.2,
    )
    assert outcome.exit_code == -9
    assert outcome.reason == "not finished at the limit of 0.2 s"
    assert 0.2 <= outcome.seconds < 10


@linux
@pytest.mark.parametrize("ending", ["", "time.sleep(60)"])
def test_watch_ends_orphans_of_the_command_and_no_other_process(
    tmp_path: Path, ending: str
) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    outcome = watched(LEAVE_AN_ORPHAN + ending, tmp_path, limit_s=1.0)
    assert outcome.reason == ("not finished at the limit of 1 s" if ending else "")
    orphan = int((tmp_path / "orphan").read_text())
    # The orphan had become a child of this process.
    assert os.waitpid(orphan, 0) == (orphan, signal.SIGKILL)
    assert other.poll() is None
    other.communicate(b"\n")


def test_full_log_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 2**20)
    outcome = watched(
        "for _ in range(300): print('x' * 9999)\n"
        "print('last line', flush=True); raise SystemExit(1)",
        tmp_path,
    )
    log = (tmp_path / "log").read_text()
    assert log[: 2**20].count("x") > 0.99 * 2**20
    assert log[2**20 :] == "\n[nsml] the log ends here: its limit is 1 MB.\n"
    assert outcome.reason == "last line"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk needs /dev/full")
def test_full_disk_does_not_stop_the_run(tmp_path: Path) -> None:
    outcome = watched("print('x' * 10**6); raise SystemExit('done')", tmp_path, log="/dev/full")
    assert outcome.reason == "done"


@pytest.mark.parametrize(
    ("on_term", "printed"), [("raise SystemExit(print('saved'))", "saved\n"), ("None", "")]
)
def test_interrupted_command_gets_time_to_end(
    root: Path, tmp_path: Path, on_term: str, printed: str
) -> None:
    log = tmp_path / "log"
    log.touch()
    (tmp_path / "entry.py").write_text(
        f"import os, signal, time\ndef end(*_):\n    {on_term}\n"
        "signal.signal(15, end)\nprint('pid', os.getpid(), flush=True)\n"
        "while True: time.sleep(60)"
    )
    # In a process of its own: an interrupt that comes too late would end the tests. Background
    # processes of a script ignore SIGINT.
    code = (
        "import os, signal, sys\nfrom delf_ext.nsml import processes\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"processes.GRACE_S = {5.0 if printed else 0.3}\n"
        f"os.chdir({str(tmp_path)!r})\n"
        "processes.watch([sys.executable, '-u', 'entry.py'], '.', os.environ, 'log')"
    )
    watcher = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stderr=subprocess.PIPE, text=True
    )
    give_up = time.monotonic() + 60
    while "\n" not in log.read_text() and time.monotonic() < give_up:
        time.sleep(0.02)
    watcher.send_signal(signal.SIGINT)
    _, errors = watcher.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    _, pid, rest = (tmp_path / "log").read_text().replace("\n", " ", 1).split(" ", 2)
    assert rest == printed
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
