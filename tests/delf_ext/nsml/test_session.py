from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from data_io.files.artifacts import read_json
from delf_ext.nsml import checkpoints, curves, records, session, store

QUERIES = ["query_0", "query_1"]
REFERENCES = ["refer_0", "refer_1", "refer_2"]
ENTRY = """
import os, sys, threading, time
import numpy as np
import nsml
from nsml import DATASET_PATH

def save(dir_name): open(dir_name + "/model", "w").write("weights")
def load(file_path): print("loaded", open(file_path).read())
def infer(queries, db):
    names = [path.split("/")[-1].split(".")[0] for path in queries]
    references = [path.split("/")[-1].split(".")[0] for path in db]
{infer}
    return list(zip(range(len(names)), {{name: references for name in names}}.items()))

nsml.bind(save=save, load=load, infer=infer)
try:
    nsml.paused(scope=locals())
except BaseException:
    pass
print("training continues")
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Create a session with a checkpoint 7; return the environment variables of its process."""
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path))
    monkeypatch.setenv("MANDOO_USER", "you")
    dataset = store.dataset_folder("ir_ph1_v2")
    for kind, names in (("query", QUERIES), ("reference", REFERENCES)):
        (dataset / "test" / "test_data" / kind).mkdir(parents=True)
        for name in (*names, ".hidden"):
            (dataset / "test" / "test_data" / kind / f"{name}.jpg").touch()
    name = records.create(records.Session("", "ir_ph1_v2", "main.py", ())).name
    above = store.session_folder(name) / "checkpoints"
    checkpoints.write(above, "7", lambda folder: Path(folder, "model").write_text("of 7"), {})
    variables = {
        "NSML_SESSION_DIR": store.session_folder(name),
        "NSML_SESSION_NAME": name,
        "NSML_GPU_NUM": 2,
    }
    variables |= {"NSML_DATASET_PATH": dataset, "NSML_DATASET_NAME": "ir_ph1_v2"}
    return {key: str(value) for key, value in variables.items()}


def started(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the module as a new process with these variables would."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("session_of_a_test", session.__file__)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def nsml(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return started(environment, monkeypatch)


def submit(
    environment: dict[str, str], infer: str = "", limit_s: float = 60
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run a submission with these lines in `infer`; return its process and answer file."""
    folder = Path(environment["NSML_SESSION_DIR"])
    (folder / "main.py").write_text(
        ENTRY.format(infer="\n".join(f"    {line}" for line in infer.splitlines()))
    )
    more = {
        "NSML_CHECKPOINT_DIR": str(folder / "checkpoints" / "7" / "model"),
        "NSML_ANSWER": str(folder / "answer.json"),
    }
    more |= {"NSML_DEADLINE": str(time.time() + limit_s)}
    shim = Path(session.__file__).with_name("shim")
    root = Path(session.__file__).parents[2]
    env = {**os.environ, **environment, **more, "PYTHONPATH": f"{shim}{os.pathsep}{root}"}
    process = subprocess.run(
        [sys.executable, "main.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=60
    )
    return process, folder / "answer.json"


# --- outside a session, and constants of a session


def test_functions_do_nothing_outside_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NSML_SESSION_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    nsml = started({}, monkeypatch)
    assert nsml.IS_ON_NSML is False
    assert nsml.HAS_DATASET is False
    assert nsml.DATASET_PATH == ""
    assert nsml.SESSION_NAME == ""
    nsml.bind(save=print, load=print, infer=print)
    nsml.save(1)
    nsml.load(1)
    nsml.report(summary=True, scope=locals(), loss=1)
    nsml.cache(pytest.fail, output_path=["a"])
    nsml.paused(scope=locals())
    assert list(tmp_path.iterdir()) == [] and nsml.time_left_s() == math.inf


def test_constants_describe_the_session(nsml: ModuleType) -> None:
    assert (nsml.IS_ON_NSML, nsml.HAS_DATASET, nsml.GPU_NUM) == (True, True, 2)
    assert Path(nsml.DATASET_PATH) == store.dataset_folder("ir_ph1_v2")
    assert nsml.DATASET_NAME == "ir_ph1_v2"
    assert nsml.SESSION_NAME == "you/ir_ph1_v2/1" and nsml.time_left_s() == math.inf


def test_time_left_ends_at_zero(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSML_DEADLINE", str(time.time() + 60))
    nsml = started(environment, monkeypatch)
    assert nsml.time_left_s() == pytest.approx(60, abs=5)
    monkeypatch.setenv("NSML_DEADLINE", str(time.time() - 40))
    assert nsml.time_left_s() == 0


# --- save, load, report, cache


def test_save_and_load_use_the_bound_functions(nsml: ModuleType) -> None:
    loaded: list[str] = []
    nsml.report(summary=True, epoch=1, loss=0.5)
    nsml.report(step=9)
    nsml.bind(
        save=lambda folder: Path(folder, "w").write_text("8"),
        load=lambda folder: loaded.append(Path(folder, "w").read_text()),
    )
    nsml.save(8)
    nsml.load(8)
    assert loaded == ["8"] and store.checkpoint_names(nsml.SESSION_NAME) == ["7", "8"]
    folder = store.checkpoint_folder(nsml.SESSION_NAME, "8")
    assert read_json(folder / "checkpoint.json")["summary"] == {"epoch": 1, "loss": 0.5}


def test_functions_given_at_the_call_replace_the_bound_ones(nsml: ModuleType) -> None:
    used: list[str] = []
    nsml.bind(save=pytest.fail, load=pytest.fail)
    nsml.save(None, save_fn=lambda folder: used.append("save"))
    nsml.load(
        "7",
        load_fn=lambda folder: used.append(Path(folder, "model").read_text()),
        session="you/ir_ph1_v2/1",
    )
    assert used == ["save", "of 7"]
    assert time.strptime(store.checkpoint_names(nsml.SESSION_NAME)[-1], "%Y%m%d_%H%M%S")


def test_error_for_a_missing_checkpoint_lists_the_others(nsml: ModuleType) -> None:
    with pytest.raises(ValueError, match="^you/ir_ph1_v2/1 has no checkpoint '9'. It has: 7.$"):
        nsml.load(9, load_fn=print)
    with pytest.raises(ValueError, match="^no session you/ir_ph1_v2/2"):
        nsml.load(7, load_fn=print, session="you/ir_ph1_v2/2")


def test_error_shows_the_function_that_is_not_bound(nsml: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"no `save` is bound; call nsml.bind\(save=...\) first"):
        nsml.save(1)
    nsml.bind(save=print, use_nsml_legacy=False)
    with pytest.raises(ValueError, match="no `load` is bound"):
        nsml.load(7)


def test_report_warns_if_the_disk_is_full(
    nsml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(curves, "_append", full)
    with pytest.warns(
        UserWarning, match="nsml.report: the values cannot be stored .*No space left"
    ):
        nsml.report(summary=True, loss=1)


@pytest.mark.parametrize(
    ("given", "files"),
    [
        ({}, ["processed"]),
        ({"output_path": "one.pkl"}, ["one.pkl"]),
        ({"output_path": ["./one.pkl", "./two.pkl"]}, ["one.pkl", "two.pkl"]),
    ],
)
def test_cache_passes_all_arguments(
    nsml: ModuleType, tmp_path: Path, monkeypatch, given: dict, files: list[str]
) -> None:
    def preprocess(output_path: str | list[str], data_path: str, img_size: tuple[int, int]) -> None:
        for path in [output_path] if isinstance(output_path, str) else output_path:
            Path(path).write_text(f"{data_path} {img_size}")

    monkeypatch.chdir(tmp_path)
    nsml.cache(preprocess, data_path="train", img_size=(224, 224), **given)
    assert [Path(path).read_text() for path in files] == ["train (224, 224)"] * len(files)


# --- paused


def test_paused_does_nothing_without_a_checkpoint(nsml: ModuleType) -> None:
    nsml.bind(load=pytest.fail)
    nsml.paused(scope=locals())


def test_paused_loads_the_checkpoint_of_a_fork(
    nsml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setenv(
        "NSML_CHECKPOINT_DIR", str(store.checkpoint_folder(nsml.SESSION_NAME, "7") / "model")
    )
    nsml.bind(load=lambda dir_name: loaded.append(Path(dir_name, "model").read_text()))
    nsml.paused(scope=locals())
    assert loaded == ["of 7"]


def test_paused_answers_a_submission_and_exits(environment: dict[str, str]) -> None:
    process, answer = submit(environment)
    assert (process.returncode, process.stdout, process.stderr) == (0, "loaded of 7\n", "")
    assert json.loads(answer.read_text()) == [
        [row, [query, REFERENCES]] for row, query in enumerate(QUERIES)
    ]


def test_answer_may_contain_numbers_and_strings_of_numpy(environment: dict[str, str]) -> None:
    process, answer = submit(
        environment, "return [(np.int64(0), (np.str_('query_0'), list(np.array(references))))]"
    )
    assert process.returncode == 0
    assert json.loads(answer.read_text()) == [[0, ["query_0", REFERENCES]]]


def test_the_number_of_an_item_may_be_anything(environment: dict[str, str]) -> None:
    items = "[(np.float32(1.5), ('query_0', references)), (None, ('query_1', references))]"
    process, answer = submit(environment, f"return {items}")
    assert process.returncode == 0
    assert json.loads(answer.read_text()) == [
        ["1.5", ["query_0", REFERENCES]],
        ["None", ["query_1", REFERENCES]],
    ]


@pytest.mark.parametrize("value", [None, "text", {"query_0": ["refer_0"]}, []])
def test_answer_of_another_form_is_written_unchanged(
    environment: dict[str, str], value: object
) -> None:
    process, answer = submit(environment, f"return {value!r}")
    assert process.returncode == 0 and json.loads(answer.read_text()) == value


@pytest.mark.parametrize(
    ("infer", "message"),
    [
        ("raise ValueError('no images')", "ValueError: no images"),
        ("sys.exit(0)", "SystemExit: 0"),
        (
            "return [(0, ('query_0', references)), (1, ('query_1', np.zeros(3)))]",
            "item 1 of the answer.*ndarray.*neither text nor an integer",
        ),
        ("return [(0, {('query_0', 1): references})]", "item 0 of the answer.*keys must be str"),
        (
            "return zip(names, names)",
            "it must be a list\\).*zip.*neither text nor an integer",
        ),
    ],
)
def test_failing_infer_prints_a_traceback_and_writes_no_answer(
    environment: dict[str, str], infer: str, message: str
) -> None:
    process, answer = submit(environment, infer)
    last = process.stderr.splitlines()[-1]
    assert process.returncode == 1 and "Traceback" in process.stderr and re.search(message, last), (
        process.stderr
    )
    assert "training continues" not in process.stdout and not answer.exists()


def test_only_the_process_that_called_bind_answers(environment: dict[str, str]) -> None:
    infer = "child = os.fork() == 0\nif child: names = ['of the child']\nelse: time.sleep(0.5)"
    process, answer = submit(environment, infer)
    assert process.returncode == 0
    assert [item[1][0] for item in json.loads(answer.read_text())] == QUERIES
    assert "training continues" not in process.stdout and process.stderr == ""
    answer.unlink()
    process, answer = submit(environment, "if os.fork(): time.sleep(0.5); os._exit(0)")
    assert not answer.exists()


def test_remaining_threads_do_not_delay_the_exit(environment: dict[str, str]) -> None:
    process, answer = submit(
        environment, "threading.Thread(target=time.sleep, args=(300,)).start()\nprint('x' * 100)"
    )
    assert process.returncode == 0 and answer.exists() and process.stdout.endswith("x\n")
