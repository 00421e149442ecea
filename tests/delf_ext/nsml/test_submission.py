"""Submit entries in real processes that import our `nsml`."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_io.files.artifacts import write_json
from data_io.synthetic.shots import QUERY, REFERENCE, TRAIN
from delf_ext.config import UsageError
from delf_ext.nsml import datasets, records, store, submission
from delf_ext.nsml.submission import Result, submit

LABELS = {"query_0": "a", "query_1": "b", "refer_0": "b", "refer_1": "a", "refer_2": "a"}
HEAD = "import argparse, os, sys, time, nsml\n"
TAIL = """
parser = argparse.ArgumentParser()
for flag in ("--mode", "--iteration", "--pause", "--lr"):
    parser.add_argument(flag)
flags = parser.parse_args()
def load(folder):
    print("loaded", os.listdir(folder))
nsml.bind(save=lambda folder: None, load=load, infer=infer)
if flags.pause:
    nsml.paused(scope=locals())
"""
GOOD = """
def infer(queries, references):
    names = [os.path.splitext(os.path.basename(path))[0] for path in queries]
    answer = [os.path.splitext(os.path.basename(path))[0] for path in references]
    return list(zip(range(len(queries)), {name: answer for name in names}.items()))
"""

MakeSession = Callable[..., str]


@pytest.fixture
def make_session(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSession:
    """Return a function that creates a session with a checkpoint `best` from `infer`'s source."""
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(root))
    names = (
        f"{TRAIN}/a/1.png",
        *(f"{QUERY if name[0] == 'q' else REFERENCE}/{name}.png" for name in LABELS),
    )
    for gray, name in enumerate(names):
        (tmp_path / "products" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (gray, gray, gray)).save(tmp_path / "products" / name)

    def make(infer: str = GOOD, labelled: bool = True, tail: str = TAIL) -> str:
        if labelled:
            lines = ["id,label", *map(",".join, LABELS.items())]
            (tmp_path / "products" / "test" / "test_labels.csv").write_text("\n".join(lines))
        datasets.push("products", tmp_path / "products", overwrite=True)
        name = records.create(records.Session("", "products", "main.py", ("--lr=0.1",))).name
        code = store.session_folder(name) / "code"
        code.mkdir()
        (code / "main.py").write_text(HEAD + infer + tail)
        model = store.checkpoint_folder(name, "best") / "model"
        model.mkdir(parents=True)
        (model / "weights.txt").write_text("0.5")
        write_json(model.parent / "checkpoint.json", {"iteration": "best"})
        return name

    return make


def log_of(result: Result) -> str:
    return (
        store.session_folder(result.session) / "submissions" / str(result.number) / "log"
    ).read_text()


# --- scored


def test_submission_is_scored_and_recorded(make_session: MakeSession) -> None:
    result = submit(make_session(), "best")
    assert result.status == "scored"
    assert result.reason == ""
    assert result.number == 1
    assert result.checkpoint == "best"
    # Both queries get refer_0, refer_1, refer_2. For query_0 the second and third are relevant,
    # for query_1 the first.
    assert result.metrics["mAP@1000"] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)
    assert result.metrics["recall_at_1"] == 0.5 and 0 < result.seconds < result.limit_s == 3600
    folder = store.session_folder(result.session) / "submissions" / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["answer.json", "log", "result.json"]
    assert Result(**json.loads((folder / "result.json").read_text())) == result
    assert log_of(result) == "loaded ['weights.txt']\n"


def test_a_copy_of_the_query_is_left_out_of_its_ranking(
    make_session: MakeSession, tmp_path: Path
) -> None:
    session = make_session()
    test_data = Path(datasets.existing("products"), "test", "test_data")
    shutil.copyfile(test_data / "query" / "query_0.png", test_data / "reference" / "refer_1.png")
    result = submit(session, "best")
    # query_0 gets refer_0 and refer_2, the second is relevant; for query_1 nothing changes.
    assert result.metrics["mAP@1000"] == pytest.approx((1 / 2 + 1) / 2)
    assert result.notes[0].startswith(
        "1 query has a copy in the gallery: these copies are left out"
    )
    stored = store.session_folder(session) / "submissions" / "1" / "result.json"
    assert Result(**json.loads(stored.read_text())) == result


def test_process_gets_command_and_environment(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    call: dict[str, Any] = {}

    def watch(
        command: list[str], cwd: Path, env: dict[str, str], log_path: Path, limit_s: float
    ) -> submission.Outcome:
        call.update(env, command=command, cwd=cwd, limit_s=limit_s)
        return submission.Outcome(0, "", 1.0)

    monkeypatch.setattr(submission, "watch", watch)
    name = make_session()
    before = time.time()
    submit(name, "best", limit_s=60)
    assert call["command"] == [
        sys.executable,
        "main.py",
        "--lr=0.1",
        "--mode=test",
        "--iteration=best",
        "--pause=1",
    ]
    assert call["cwd"] == store.session_folder(name) / "submissions" / "1" / "code"
    assert call["limit_s"] == 60
    assert call["NSML_CHECKPOINT_DIR"] == str(store.checkpoint_folder(name, "best") / "model")
    assert call["NSML_ANSWER"] == str(
        store.session_folder(name) / "submissions" / "1" / "answer.json"
    )
    assert before + 60 <= float(call["NSML_DEADLINE"]) <= time.time() + 60


WRITES = """references):
    assert not os.path.exists("db_infer.pkl"), "features of another checkpoint"
    os.makedirs("__pycache__", exist_ok=True)
    for name in ("db_infer.pkl", "__pycache__/main.f-1.nbi"):
        open(name, "w").close()
"""


def test_submission_keeps_only_numba_files_of_its_copy(make_session: MakeSession) -> None:
    name = make_session(GOOD.replace("references):\n", WRITES))
    assert [submit(name, "best").reason for _ in range(2)] == ["", ""]
    code = store.session_folder(name) / "code"
    assert {path.relative_to(code).as_posix() for path in code.rglob("*.*")} == {
        "main.py",
        "__pycache__/main.f-1.nbi",
    }
    assert not list(store.session_folder(name).glob("submissions/*/code"))


def test_trial_is_checked_but_not_scored(make_session: MakeSession) -> None:
    result = submit(make_session(), "best", test=True)
    assert (result.test, result.status, result.metrics, result.answers) == (True, "valid", {}, "")


def test_answer_is_only_checked_without_test_labels(make_session: MakeSession) -> None:
    result = submit(make_session(labelled=False), "best")
    assert (result.status, result.metrics) == ("valid", {})


def test_verbose_submission_of_the_newest_checkpoint_prints_its_log(
    make_session: MakeSession, capfdbinary: Any
) -> None:
    assert submit(make_session(), "", verbose=True).checkpoint == "best"
    assert capfdbinary.readouterr().out == b"loaded ['weights.txt']\n"


def test_submissions_at_once_get_different_numbers(make_session: MakeSession) -> None:
    code = "from delf_ext.nsml.submission import submit"
    code += f"; print(submit({make_session()!r}, 'best').number)"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert sorted(process.communicate(timeout=60)[0] for process in both) == ["1\n", "2\n"]


# --- failed submissions


@pytest.mark.parametrize(
    ("infer", "reason"),
    [
        (
            "def infer(queries, references):\n    raise KeyError('no such layer')",
            "KeyError: 'no such layer'",
        ),
        ("def infer(queries, references):\n    sys.exit(3)", "SystemExit: 3"),
        (
            "def infer(queries, references):\n    os.kill(os.getpid(), 9)",
            "signal 9 (out of memory?)",
        ),
        (
            "def infer(queries, references):\n    return dict.fromkeys(queries)",
            "the answer must have the form [(0, ('query_0',",
        ),
        (
            "def infer(queries, references):\n    return [(0, (queries[0], references))]",
            "the answer must have the form [(0, ",
        ),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
    ],
    ids=["raises", "exits", "killed", "a dict", "paths", "import"],
)
def test_failing_infer_fails_with_a_reason(
    make_session: MakeSession, infer: str, reason: str
) -> None:
    result = submit(make_session(infer), "best")
    assert result.status == "failed" and result.reason.startswith(reason) and result.metrics == {}
    stored = store.session_folder(result.session) / "submissions" / "1" / "result.json"
    assert json.loads(stored.read_text())["reason"] == result.reason


def test_reason_contains_every_broken_rule(make_session: MakeSession) -> None:
    result = submit(
        make_session("def infer(queries, references):\n    return [(0, (queries[0], references))]"),
        "best",
    )
    assert (
        "- each query must be named without folder and extension. Violations (1): '"
        in result.reason
    )
    assert "- every query must be answered. Violations (2): 'query_0', 'query_1'" in result.reason


def test_hanging_submission_fails_at_the_limit(make_session: MakeSession) -> None:
    result = submit(
        make_session("def infer(queries, references):\n    time.sleep(600)"), "best", limit_s=2
    )
    assert result.status == "failed"
    assert result.reason == "not finished at the limit of 2 s"
    assert 2 <= result.seconds < 10


def test_submission_may_print_megabytes(make_session: MakeSession) -> None:
    noisy = GOOD.replace(
        "    names", "    for _ in range(20):\n        print('x' * 2**20)\n    names", 1
    )
    result = submit(make_session(noisy), "best")
    assert result.status == "scored" and 20 * 2**20 < len(log_of(result)) < 70 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to the watcher")
def test_forking_submission_answers_once_and_its_child_is_killed(
    make_session: MakeSession, tmp_path: Path
) -> None:
    forks = f"""
    if os.fork() == 0:
        open({str(tmp_path / "child")!r}, "w").write(str(os.getpid()))
        time.sleep(600)
    while not os.path.exists({str(tmp_path / "child")!r}):
        time.sleep(0.01)
"""
    result = submit(
        make_session(GOOD.replace("    names", forks.lstrip("\n") + "    names", 1)),
        "best",
        limit_s=60,
    )
    assert result.status == "scored" and result.seconds < 60
    # Orphans become children of this process: PR_SET_CHILD_SUBREAPER in prctl(2).
    pid, status = os.waitpid(int((tmp_path / "child").read_text()), os.WNOHANG)
    assert pid and os.WTERMSIG(status) == signal.SIGKILL


def test_entry_that_does_not_call_paused_fails(make_session: MakeSession) -> None:
    result = submit(make_session(tail=""), "best")
    assert result.status == "failed"
    assert "must accept --mode=test, --iteration and --pause=1" in result.reason


def test_unreadable_or_large_answer_files_fail(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = "open(os.environ['NSML_ANSWER'], 'w').write({})\nos._exit(0)"
    half = submit(make_session(by_hand.format("'[[0, '")), "best")
    assert half.status == "failed" and "answer.json: not readable as JSON" in half.reason
    nested = submit(make_session(by_hand.format("'[' * 10**6")), "best")
    assert nested.status == "failed" and "recursion" in nested.reason
    monkeypatch.setattr(submission, "MAX_ANSWER_BYTES", 10)
    large = submit(make_session(), "best")
    assert large.status == "failed"
    assert "at most 2 GB are allowed: shorten its lists of references" in large.reason


# --- refused submissions


def test_submit_refuses_unknown_names_and_bad_limits(
    make_session: MakeSession, tmp_path: Path
) -> None:
    name = make_session()
    other = make_session()
    (store.checkpoint_folder(other, "best")).rename(store.checkpoint_folder(other, "later"))
    with pytest.raises(ValueError, match=f"{name} has no checkpoint 'later'. It has: best"):
        submit(name, "later")
    with pytest.raises(ValueError, match="no session .*/9: `nsml ps -a` lists all"):
        submit(name.rpartition("/")[0] + "/9", "best")
    for limit_s in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="--limit must be a number of seconds above 0"):
            submit(name, "best", limit_s=limit_s)
    # A checkpoint without this file is not complete.
    (store.checkpoint_folder(name, "best") / "checkpoint.json").unlink()
    with pytest.raises(ValueError, match="has saved no checkpoint"):
        submit(name, "best")
    for image in (tmp_path / "products" / REFERENCE).iterdir():
        image.unlink()
    datasets.push("products", tmp_path / "products", overwrite=True)
    with pytest.raises(
        ValueError,
        match="data set products has no queries or no references: there is nothing to answer",
    ):
        submit(other, "later")
    datasets.remove("products")
    with pytest.raises(ValueError, match="no data set products"):
        submit(other, "later")
    assert not list((tmp_path / "home").glob("sessions/*/*/*/submissions"))


def test_full_disk_leaves_the_store_readable(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    name = make_session()
    with monkeypatch.context() as patch:
        patch.setattr(submission, "write_json", full)
        with pytest.raises(OSError, match="No space left on device"):
            submit(name, "best")
    assert not list(store.session_folder(name).glob("submissions/*/result.json"))
    assert submit(name, "best").number == 2
