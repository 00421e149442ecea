"""Test that outputs are checked before the work, and that nothing foreign is replaced."""

from __future__ import annotations

import errno
import json
import os
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dual_main
from data_io.files.artifacts import write_json, write_npz
from data_io.files.marks import KEY, MARK, is_ours, mark_beside, marked, png_mark
from data_io.synthetic.dataset import DrawConfig
from delf_ext.config import UsageError
from delf_ext.verbs import printing
from delf_ext.verbs.flag_table import FLAGS, PATH_FLAGS
from delf_ext.verbs.outputs import checked_outputs
from delf_ext.verbs.verb_table import VERBS


def check(*arguments: str) -> None:
    """Run only the check of outputs, as `main` does before it imports the verb."""
    verb, values = dual_main.parse(list(arguments))
    with checked_outputs(verb, values):
        pass


def message(*arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        check(*arguments)
    return str(caught.value)


@pytest.fixture(scope="module")
def place(make_place: Callable[[DrawConfig], Path]) -> Path:
    return make_place(
        DrawConfig(num_classes=4, num_train=8, num_queries=6, num_gallery=16, image_size_px=64)
    )


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- home and empty paths


def test_home_is_expanded_in_every_path_flag(here: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    for verb in VERBS:
        for name in set(PATH_FLAGS) & set(VERBS[verb].flags):
            _, values = dual_main.parse([verb, f"--{name}=~/a"])
            assert values[name].value in (f"{here}/a", [f"{here}/a"]), (verb, name)
    _, values = dual_main.parse(["compare", "--runs=~/a,b", "--out=~/c/"])
    assert values.runs == [f"{here}/a", "b"] and values.out == f"{here}/c/"


def test_a_printed_name_that_is_not_utf8_can_be_passed_back(here: Path) -> None:
    name = os.fsdecode(b"run\xbb")
    (here / name).mkdir()
    _, values = dual_main.parse(["evaluate", r"--run_dir=run\xbb", r"--json=x\xbb"])
    assert values.run_dir == name and values.json == r"x\xbb"


def test_every_flag_whose_help_names_a_file_or_folder_is_a_path() -> None:
    named = {
        name
        for name, flag in FLAGS.items()
        if flag.default in (None, [])
        and not flag.choices
        and re.search("older|ile|run director", flag.help)
    }
    assert named - set(PATH_FLAGS) == set()


def test_an_empty_path_is_refused(refused) -> None:
    assert "--json is empty: pass a path, or leave it out." in refused(2, "evaluate", "--json=")


# --- what cannot be written


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["evaluate", "--json=folder"], "--json=folder is a folder: give the file in it a name."),
        (["evaluate", "--json=new/"], "--json=new/ is a folder: give the file in it a name."),
        (["evaluate", "--json=file/x.json"], "file is a file, but must be a folder."),
        (["extract", "--out=file/x"], "file is a file, but must be a folder."),
        (["extract", "--out=file"], "file is a file, but must be a folder."),
        (["--train_sim", "--run_dir=file/run"], "file is a file, but must be a folder."),
        (["--train_sim", "--run_dir=folder", "--data=folder"], "--run_dir and --data are both fol"),
        (["--train_sim", "--pixel_cache=file"], "file is a file, but must be a folder."),
        (["extract", "--out=-"], "--out=-: this verb writes a folder; pass the path of one."),
        (["match", f"--out={'x' * 300}"], "too long"),
        (["match", f"--out=new/{'x' * 300}/y"], "a name in this path is too long"),
        (["evaluate", "--json=circle"], "the link leads in a circle"),
        (["evaluate", "--json=data.csv", "--data=data.csv"], "--json and --data are both data.csv"),
        (["extract", "--out=folder", "--data=folder"], "--out and --data are both folder"),
        (["evaluate", "--json=w.ckpt.index", "--pretrained_model=w.ckpt"], "would replace the in"),
        (["evaluate", "--json=a", "--out=./a"], "--json and --out are the same: pass two paths."),
        (["infer", "--out=answer.txt"], "use another ending here, such as .json."),
        (["evaluate", "--json=/proc/x.json"], "--json=/proc/x.json cannot be written: /proc: "),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(
    here: Path, arguments: list[str], expected: str
) -> None:
    (here / "folder").mkdir()
    for name in ("file", "data.csv", "w.ckpt.index"):
        (here / name).write_text("something")
    (here / "circle").symlink_to("circle")
    before = sorted(path.name for path in here.iterdir())
    assert expected in message(*arguments)
    assert sorted(path.name for path in here.iterdir()) == before


def test_the_check_comes_before_the_verb_is_imported(monkeypatch, refused) -> None:
    monkeypatch.setattr(dual_main.importlib, "import_module", lambda name: pytest.fail(name))
    os.mkdir("folder")
    assert "--json=folder is a folder" in refused(2, "evaluate", "--json=folder", "--run_dir=r")


# --- what others wrote


def marked_file(path: Path) -> None:
    """Write a file as the program writes files of this ending."""
    if path.suffix == ".png":
        Image.new("RGB", (2, 2)).save(path, pnginfo=png_mark())
    elif path.suffix == ".npz":
        write_npz(path, **{KEY: MARK}, mean=np.zeros(2))
    elif path.suffix == ".json":
        write_json(path, marked([{"mAP": 1.0}]))
    else:
        path.write_text("text")
        mark_beside(path)


def foreign_file(path: Path) -> None:
    if path.suffix == ".png":
        Image.new("RGB", (2, 2)).save(path)
    elif path.suffix == ".npz":
        np.savez(path, mean=np.zeros(2))
    else:
        path.write_text('{"mAP": 1.0}')


@pytest.mark.parametrize("name", ["x.json", "x.png", "x.npz", "x.csv"])
def test_only_a_marked_or_empty_file_is_ours(here: Path, name: str) -> None:
    path = here / name
    path.touch()
    assert is_ours(path)
    marked_file(path)
    assert is_ours(path)
    if name == "x.csv":
        path.write_text("edited")
        assert not is_ours(path)
    foreign_file(path)
    assert not is_ours(path)


@pytest.mark.parametrize(
    ("verb", "flag", "name"),
    [
        ("evaluate", "json", "x.json"),
        ("infer", "out", "x.json"),
        ("match", "out", "x.png"),
        ("whiten", "out", "x.npz"),
        ("export", "out", "x.h5"),
    ],
)
def test_a_foreign_file_is_replaced_only_with_overwrite(
    here: Path, verb: str, flag: str, name: str
) -> None:
    foreign_file(here / name)
    text = message(verb, f"--{flag}={name}")
    assert text.startswith(f"--{flag}={name}: this file exists, and mandoo did not write it")
    assert text.endswith("Pass another path or --overwrite to replace it.")
    check(verb, f"--{flag}={name}", "--overwrite")
    marked_file(here / name)
    if name != "x.h5" and verb != "infer":
        check(verb, f"--{flag}={name}")


def test_the_text_beside_an_answer_is_checked_too(here: Path) -> None:
    (here / "answer.txt").write_text("my notes")
    assert "answer.txt: this file exists" in message("infer", "--run_dir=.")
    assert "answer.txt: this file exists" in message("infer", "--pretrained_model=w")


def test_a_folder_with_something_else_needs_overwrite(here: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "log.txt").write_text("of tee")
    check("rerank", "--out=out")
    (here / "other").mkdir()
    (here / "other" / "photo.jpg").touch()
    assert "this folder holds photo.jpg, which mandoo did not write" in message(
        "rerank", "--out=other"
    )
    check("rerank", "--out=other", "--overwrite")
    check("rerank", "--out=other")


def test_an_empty_folder_does_not_stay(here: Path) -> None:
    check("extract", "--out=new")
    assert not (here / "new").exists()


def test_a_run_that_cannot_be_written_costs_only_what_it_would_keep(monkeypatch, capsys) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "run/metrics")

    monkeypatch.setattr(printing, "write_to_run", refuse)
    printing.keep_in_run(Any, Namespace(final=None, figures={}), Any)
    line = capsys.readouterr().out
    assert line.startswith("the figures are not kept in the run: run/metrics: permission denied")


# --- streams


@pytest.mark.parametrize("path", ["-", "/dev/stdout", "/dev/fd/1"])
def test_the_log_leaves_stdout_if_an_output_goes_there(path: str, capfd) -> None:
    verb, values = dual_main.parse(["evaluate", f"--json={path}"])
    with checked_outputs(verb, values):
        print("a line of the log")
        write_json(path, {"mAP": 1.0})
    captured = capfd.readouterr()
    assert json.loads(captured.out) == {"mAP": 1.0} and captured.err == "a line of the log\n"


def test_two_outputs_may_go_to_dev_null(here: Path) -> None:
    os.mkfifo(here / "pipe")
    check("evaluate", "--json=pipe")
    check("evaluate", "--json=/dev/null")
    check("infer", "--out=/dev/null")


def test_match_and_evaluate_write_marked_outputs(place: Path, run_verb: Any, here: Path) -> None:
    run_verb(place, "evaluate", f"--json={here}/x.json", f"--out={here}/o", "--noreport")
    run_verb(place, "evaluate", f"--json={here}/x.json", f"--out={here}/o", "--noreport")
    assert is_ours(here / "x.json")
    run_verb(place, "infer", f"--out={here}/a.json")
    run_verb(place, "infer", f"--out={here}/a.json")
    assert is_ours(here / "a.json") and is_ours(here / "a.txt")
