from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from data_io.files.locks import in_turn
from delf_ext.nsml import cli, datasets, records, runner, store, submission
from delf_ext.nsml.records import State


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("MANDOO_USER", "you")
    (tmp_path / "store/datasets/toy").mkdir(parents=True)
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")


def nsml(capsys: pytest.CaptureFixture[str], command: str, status: int = 0) -> str:
    """Run a command; return its output, or the last line of its error if it must fail."""
    try:
        ended = cli.main(shlex.split(command))
    except SystemExit as error:
        # Raised by argparse.
        ended = int(error.code or 0)
    out, err = capsys.readouterr()
    assert ended == status, err
    assert "Traceback" not in err
    return err.strip().splitlines()[-1] if status else out


def add_session(state: State, *args: str, **others: Any) -> str:
    name = records.create(records.Session("", "toy", "main.py", args, **others)).name
    records.write_state(name, state)
    (store.session_folder(name) / "log").write_text("line 1\nline 2\n")
    return name


def add_checkpoint(session: str, name: str, note: str) -> None:
    folder = store.checkpoint_folder(session, name)
    (folder / "model").mkdir(parents=True)
    (folder / "model/weights").write_text(name)
    (folder / "checkpoint.json").write_text(note)


def test_session_can_be_run_listed_and_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("main.py").write_text(
        "import sys; print(sys.argv[1:]); sys.exit(' '.join(sys.argv[2:]) or 0)"
    )
    assert (
        nsml(capsys, "run -d toy -i -a --only-one")
        == "Session you/toy/1 started.\n['--only-one']\n"
    )
    failed = "Session you/toy/2 failed. too bad"
    assert nsml(capsys, "run -d toy -m 시도 -i -v --args '--first too bad'", status=1) == failed
    assert nsml(capsys, "logs -f you/toy/2") == "['--first', 'too', 'bad']\ntoo bad\n"
    assert nsml(capsys, "ps").count("\n") == 1
    assert [line.split() for line in nsml(capsys, "ps -a").splitlines()] == [
        ["Name", "Created", "Args", "Status", "Summary", "Description"],
        ["you/toy/1", "just", "now", "--only-one", "exited"],
        ["you/toy/2", "just", "now", "--first", "too", "bad", "failed", "too", "bad;", "시도"],
    ]
    assert (
        nsml(capsys, "rm you/toy/1 you/toy/2")
        == "Session you/toy/1 deleted.\nSession you/toy/2 deleted.\n"
    )
    assert nsml(capsys, "ps -a").count("\n") == 1


def test_ps_shows_reported_values_and_damaged_sessions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged = add_session(State("exited"))
    name = add_session(State("starting"), memo="first")
    (store.session_folder(damaged) / "session.json").write_text("{")
    values = {"epoch": 3, "epoch_total": 10, "loss": 0.25}
    (store.session_folder(name) / "report.jsonl").write_text(
        json.dumps({"summary": True, "values": values}) + "\n"
    )
    with in_turn(store.session_folder(name) / records.RUNNING_LOCK):
        # The supervisor of a running session holds this lock.
        _, first, second = nsml(capsys, "ps").splitlines()
    assert first.split()[:4] == [damaged, "damaged", "session.json:", "damaged"]
    assert second == f"{name}  just now        starting  epoch 3/10, loss 0.25  first"


def test_checkpoints_can_be_listed_pulled_and_deleted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = add_session(State("exited"))
    note = {
        "iteration": "10",
        "saved": 0,
        "seconds": 2.25,
        "summary": {"loss": 0.5},
        "bytes": 3 * 2**20,
    }
    add_checkpoint(name, "10", json.dumps(note))
    add_checkpoint(name, "20", "{")
    header, first, second = nsml(capsys, f"model ls {name}").splitlines()
    assert header.split("  ")[0] == "Checkpoint" and second.split() == ["20", "damaged"]
    assert first.split()[0] == "10" and first.endswith("days ago  2.2 s    loss 0.5  3.0 MB")
    nsml(capsys, f"model pull {name} 10 {tmp_path / 'new/pulled'}")
    assert (tmp_path / "new/pulled/weights").read_text() == "10"
    assert os.listdir(tmp_path / "new") == ["pulled"]
    assert "exists: give the path of a new folder" in nsml(
        capsys, f"model pull {name} 10 {tmp_path}", status=1
    )
    nsml(capsys, f"model rm {name} 10")
    assert store.checkpoint_names(name) == ["20"]
    assert os.listdir(store.session_folder(name) / "checkpoints") == ["20"]
    assert (
        nsml(capsys, f"model rm {name} 10", status=1)
        == f"error: {name} has no checkpoint '10'. It has: 20."
    )


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("", 2, "COMMAND"),
        ("fly", 2, "invalid choice: 'fly'"),
        ("run -e main.py", 2, "-d/--dataset"),
        ("run -d toy -g -1", 2, "--gpus: the value must be at least 0 and at most 64. Received -1"),
        ("run -d toy -g many", 2, "must be a whole number. Received 'many'"),
        ('run -d toy -a "it\'s"', 2, "usage error: --args: No closing quotation"),
        ("dataset push toy", 2, "usage error: give either a PATH or --draw"),
        ("dataset push toy photos --draw", 2, "usage error: give either a PATH or --draw"),
        (
            "dataset push toy photos --seed 1",
            2,
            "usage error: --classes and --seed need --draw",
        ),
        ("run -d other", 1, "error: no data set other (known: toy)"),
        ("run -d toy -e nowhere.py", 1, "no such entry file"),
        ("logs you/toy/1", 1, "error: no session you/toy/1: `nsml ps -a` lists all."),
        ("stop toy", 1, "error: 'toy' is not the name of a session: use USER/DATASET/N"),
        ("model ls you/toy/1", 1, "error: no session you/toy/1"),
        ("submit you/toy/1", 1, "error: no session you/toy/1"),
        ("dataset push other nowhere", 1, "error: "),
        ("leaderboard other", 1, "error: no data set other"),
    ],
)
def test_errors_are_printed_on_one_line(
    capsys: pytest.CaptureFixture[str], command: str, status: int, message: str
) -> None:
    assert message in nsml(capsys, command, status)


def test_run_and_fork_parse_the_commands_of_the_challenge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[Any, ...]] = []

    def remember(*values: Any) -> records.Session:
        calls.append(values)
        return records.Session(
            "you/ir_ph1_v2/1", *values[:3], parent="you/ir_ph1_v2/3", checkpoint="20"
        )

    monkeypatch.setattr(runner, "run", remember)
    monkeypatch.setattr(runner, "fork", remember)
    args = "--batch_size=128 --dev_percent=0.05 --train_logits"
    nsml(capsys, f'run -d ir_ph1_v2 -e dual_main.py --args "{args}"')
    nsml(capsys, "run -d ir_ph1_v2 -a --train_logits -g 2 -m memo")
    nsml(capsys, "fork you/ir_ph1_v2/3 20 -a --lr=1")
    nsml(capsys, "fork you/ir_ph1_v2/3")
    assert calls == [
        (
            "ir_ph1_v2",
            "dual_main.py",
            ("--batch_size=128", "--dev_percent=0.05", "--train_logits"),
            1,
            "",
        ),
        ("ir_ph1_v2", "main.py", ("--train_logits",), 2, "memo"),
        ("you/ir_ph1_v2/3", "20", ("--lr=1",), None),
        ("you/ir_ph1_v2/3", "", (), None),
    ]


@pytest.mark.parametrize("status", ["scored", "failed"])
def test_submit_prints_its_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    def answer(*values: Any) -> submission.Result:
        assert values == ("you/toy/1", "10", 60.0, True, False)
        metrics = {"mAP@1000": 0.25} if status == "scored" else {}
        return submission.Result(
            "you/toy/1", "10", 4, True, status, "why", metrics, 1.25, 60.0, 0.0, ""
        )

    monkeypatch.setattr(submission, "submit", answer)
    output = nsml(capsys, "submit -t --limit 60 you/toy/1 10", status=int(status == "failed"))
    if status == "failed":
        assert output == f"its output: {store.session_folder('you/toy/1')}/submissions/4/log"
    else:
        first = "Submission 4 of you/toy/1, checkpoint 10: scored, 1.2 s of 60 s.\n"
        assert output == first + "  mAP@1000             0.2500\n"


def test_data_sets_can_be_pushed_listed_and_deleted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []
    listed = datasets.Contents("toy", 30, 4, 2, 5, True, 0.0)
    pushed = listed._replace(
        skipped=(("a.jpg", "damaged"),), notes=("no labels",), read_as="folder per class: 30 images"
    )
    monkeypatch.setattr(datasets, "push", lambda *values: calls.append(values) or pushed)
    monkeypatch.setattr(datasets, "draw", lambda *values: calls.append(values) or pushed)
    monkeypatch.setattr(datasets, "listing", lambda: [listed])
    assert nsml(capsys, "dataset push covers photos --overwrite") == (
        "data: folder per class: 30 images\n"
        "Data set covers: 30 training images of 4 classes, 2 queries, 5 references.\n"
        "skipped: a.jpg: damaged\n"
        "note: no labels\n"
    )
    nsml(capsys, "dataset push drawn --draw --seed 7")
    assert calls == [("covers", "photos", True, False, "auto"), ("drawn", 1000, 7, False)]
    assert nsml(capsys, "dataset ls").splitlines()[1].split()[:6] == [
        "toy",
        "30",
        "4",
        "2",
        "5",
        "yes",
    ]
    assert nsml(capsys, "dataset rm toy") == "Data set toy deleted.\n"
    assert not store.dataset_folder("toy").exists()


@pytest.mark.parametrize("verb", ["dataset board", "leaderboard"])
def test_leaderboard_has_two_commands(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    header, counts = nsml(capsys, f"{verb} toy --full --json x").splitlines()
    assert header.startswith("Rank  Session") and "mAP@R" in header
    assert counts == "0 scored, 0 failed"
    assert json.loads(Path("x").read_text()) == []
    assert "mAP@R" not in nsml(capsys, f"{verb} toy")


def test_help_shows_examples_and_loads_no_tensorflow(root: Path) -> None:
    code = "import sys; from delf_ext.nsml import cli; cli.build_parser().print_help()"
    code += "; print('tensorflow' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert output.endswith("\nFalse\n")
    assert "nsml dataset push ir_ph1_v2 --draw" in output


@pytest.mark.parametrize("module", ["delf_ext.nsml", "delf_ext.nsml.cli"])
def test_package_and_module_print_the_help(root: Path, module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert process.stdout.startswith("usage: nsml [-h] COMMAND ...")


def test_output_into_a_closed_pipe_gives_no_error(root: Path) -> None:
    name = add_session(State("exited"))
    (store.session_folder(name) / "log").write_text("line\n" * 100_000)
    command = f"{sys.executable} -m delf_ext.nsml logs {name} | head -n 1"
    process = subprocess.run(
        command, shell=True, cwd=root, capture_output=True, text=True, check=True
    )
    assert (process.stdout, process.stderr) == ("line\n", "")


def test_ps_ignores_damaged_lines_of_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    name = add_session(State("exited"))
    good = json.dumps({"summary": True, "values": {"loss": 0.5}})
    damaged = [
        "[1]",
        "3",
        '{"summary": 1}',
        '{"summary": 1, "values": 3}',
        '{"values": {}}',
        '{"sum',
    ]
    report = "\n".join([good, *damaged])
    (store.session_folder(name) / "report.jsonl").write_text(report)
    assert nsml(capsys, "ps -a").splitlines()[1].split("  ")[-1] == "loss 0.5"


def test_ps_shows_the_reason_of_a_failure_before_the_memo(
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_session(State("failed", reason="no such layer"), memo="메모 " * 50)
    assert "  no such layer; 메모 " in nsml(capsys, "ps -a")


def test_full_disk_error_says_how_to_free_space(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*values: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runner, "run", full)
    remedy = f"Free space in {store.home()} with `nsml rm` or `nsml model rm`."
    assert nsml(capsys, "run -d toy", 1) == f"error: [Errno 28] No space left on device. {remedy}"


def test_ps_works_without_stdout_and_with_an_ascii_terminal(root: Path) -> None:
    add_session(State("exited"), memo="첫 시도")
    command = f"PYTHONIOENCODING=ascii {sys.executable} -m delf_ext.nsml ps -a"
    process = subprocess.run(
        command, shell=True, cwd=root, capture_output=True, text=True, check=True
    )
    assert process.stdout.endswith(r"\uccab \uc2dc\ub3c4" + "\n")
    assert process.stderr == ""
    assert (
        subprocess.run(
            f"{command} >&-", shell=True, cwd=root, capture_output=True, check=True
        ).stderr
        == b""
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_submission_ends_its_process(
    root: Path, tmp_path: Path, number: signal.Signals
) -> None:
    for image in ("query/q.jpg", "reference/r.jpg"):
        (tmp_path / "store/datasets/toy/test/test_data" / image).parent.mkdir(parents=True)
        (tmp_path / "store/datasets/toy/test/test_data" / image).touch()
    (tmp_path / "store/datasets/toy/train/train_data").mkdir(parents=True)
    name = add_session(State("exited"))
    add_checkpoint(name, "1", "{}")
    (store.session_folder(name) / "code").mkdir()
    entry = store.session_folder(name) / "code/main.py"
    entry.write_text("import time; open('../pid', 'w').write('.'); time.sleep(60)")
    # These tests may run under `nohup`, which ignores SIGHUP.
    reset_signal = partial(signal.signal, number, signal.SIG_DFL)
    submitting = subprocess.Popen(
        [sys.executable, "-m", "delf_ext.nsml", "submit", name], cwd=root, preexec_fn=reset_signal
    )
    folder = store.session_folder(name) / "submissions/1"
    give_up = time.monotonic() + 20
    while not (folder / "pid").exists() and time.monotonic() < give_up:
        time.sleep(0.02)
    submitting.send_signal(number)
    assert submitting.wait(10) == 130 and sorted(os.listdir(folder)) == ["log", "pid"]
