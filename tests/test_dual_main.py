"""Test dual_main.py: exit codes, one-line errors, and the files that each verb writes."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import dual_main
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.runs.recipe_run import recipe_of
from delf_ext.runs.run_directory import read_run

ENDPOINT = "resnet_v1_50/block1/unit_1/bottleneck_v1"
TINY = [f"--resnet_type={ENDPOINT}", "--image_size=32", "--batch_size=8", "--mixed_precision=off"]


def shell(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "dual_main.py"), *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def fails(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    """Run a command that must fail with the exit status; return its last line of stderr."""
    with pytest.raises(SystemExit) as ended:
        dual_main.main(list(arguments))
    assert ended.value.code == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(lines)
    return lines[-1]


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = DrawConfig(num_classes=6, num_train=24, num_queries=3, num_gallery=9, image_size_px=48)
    return draw_dataset(tmp_path_factory.mktemp("products") / "drawn", config, progress=False)


@pytest.fixture(scope="module")
def trained(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run with the first command of the README and small sizes."""
    run_dir = tmp_path_factory.mktemp("runs") / "first"
    flags = [
        "--train_logits",
        "--train_sim",
        "--stop_gradient_sim",
        "--epochs=1",
        "--dev_percent=0.34",
        f"--data={products}",
    ]
    dual_main.main([*flags, f"--run_dir={run_dir}", *TINY])
    return run_dir


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--run_dir=x", "-h"]])
def test_help_exits_0_and_prints_no_warning(root: Path, arguments: list[str]) -> None:
    result = shell(root, *arguments)
    assert result.returncode == 0 and result.stderr == ""
    assert "examples:" in result.stdout or "start here:" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bogus=1"], "'bogus'"),
        (["fly"], "unknown verb 'fly'. Verbs: train, evaluate"),
        (["--epochs=many"], "--epochs must be a whole number. Received 'many'."),
        (
            ["--train_sim", "--batch_size=1", "--data=x"],
            "--batch_size must be even and at least 4. Received 1",
        ),
        (["--data=x"], "nothing to train: pass at least one of --train_logits"),
        (["--train_sim", "--crop"], "--crop has no effect without --augmentation"),
        (["--resume"], "pass its directory with --run_dir"),
        (["--train_logits", "--layout=round"], "--layout must be auto, slim, keras, v1.5, "),
        (["search"], "--image=PHOTO"),
    ],
)
def test_a_usage_error_exits_2_and_names_the_flag(
    arguments: list[str], message: str, capsys
) -> None:
    assert message in fails(capsys, 2, *arguments)


def test_a_data_error_exits_1_with_one_line(tmp_path: Path, capsys) -> None:
    line = fails(capsys, 1, "--train_logits", f"--data={tmp_path}/nowhere")
    assert "not found. Give a folder" in line
    (tmp_path / "empty").mkdir()
    line = fails(capsys, 1, "--train_logits", f"--data={tmp_path}/empty")
    assert "no image found" in line
    (tmp_path / "bad.csv").write_text("path,label\na.jpg,cat\n")
    line = fails(capsys, 1, "--train_logits", f"--data={tmp_path}/bad.csv")
    assert "no column split" in line
    line = fails(capsys, 1, "--resume", f"--run_dir={tmp_path}/none")
    assert "recipe.json: not found" in line


def test_a_full_disk_in_tensorflow_is_reported_in_one_line(monkeypatch, capsys) -> None:
    # TensorFlow 2.15 printed this message on a full disk.
    node = "{{function_node __wrapped__SaveV2_device_/job:localhost/task:0/device:CPU:0}}"
    message = f"{node} last-5_temp/part; No space left on device [Op:SaveV2] name: \nstack"
    full = tf.errors.ResourceExhaustedError(None, None, message)

    def run(flags: object) -> None:
        raise full

    monkeypatch.setattr("delf_ext.verbs.train.run", run)
    assert fails(capsys, 1, "--train_sim") == "error: last-5_temp/part; No space left on device"


@pytest.mark.parametrize(
    ("name", "content"),
    [("recipe.json", '{"format": 2, "ki'), ("config.json", '{"system": "dual_h')],
    ids=["of this version", "of the first format"],
)
def test_a_half_written_run_is_refused_and_named(
    products: Path, tmp_path: Path, name: str, content: str, capsys
) -> None:
    (tmp_path / name).write_text(content)
    run = [f"--data={products}", f"--run_dir={tmp_path}"]
    line = fails(capsys, 1, "evaluate", *run)
    assert str(tmp_path / name) in line and "half-written" in line
    line = fails(capsys, 1, "--train_sim", *run)
    assert line.startswith(f"error: {tmp_path}: holds a run already. Continue it with --resume")


def test_weights_of_another_network_are_refused_and_no_run_is_written(
    products: Path, trained: Path, tmp_path: Path, capsys
) -> None:
    foreign = next((trained / "checkpoint").glob("last-*.index")).with_suffix("")
    place = [f"--data={products}", f"--pretrained_model={foreign}", f"--run_dir={tmp_path}/r"]
    with pytest.raises(SystemExit) as ended:
        dual_main.main(["--train_logits", *place, *TINY])
    assert ended.value.code == 1
    reason = "was saved by tf.train.Checkpoint or a Keras model, not by tf.train.Saver. Of a run of"
    assert f"{foreign} {reason}" in capsys.readouterr().err
    assert not list((tmp_path / "r").glob("*.json"))


def test_training_writes_a_complete_run_with_figures(trained: Path, products: Path) -> None:
    (figures,) = (trained / "metrics").iterdir()
    name = figures.stem
    assert name.startswith(f"{products.name}-")
    for made in ("recipe.json", "facts.json", f"ranking/{name}.npz", f"report/{name}/index.html"):
        assert (trained / made).is_file(), made
    assert list(trained.glob("events.*")) and list((trained / "features").rglob("*.npz"))
    kept = {path.name for path in (trained / "checkpoint").glob("*.json")}
    assert kept == {"best.json", "last.json"}
    assert json.loads(figures.read_text())["num_queries"] == 3


def test_evaluate_keeps_the_results_of_other_data_and_methods(
    trained: Path, products: Path, tmp_path: Path
) -> None:
    run_dir = shutil.copytree(trained, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (run_dir / "metrics").iterdir()}
    run = [f"--run_dir={run_dir}", "--noreport"]
    dual_main.main(["evaluate", f"--data={products}", *run, "--method=aqe:2"])
    dual_main.main(["evaluate", f"--data={products}/train/train_data", *run])
    names = {path.stem for path in (run_dir / "metrics").iterdir()}
    (first,) = (Path(name).stem for name in before)
    assert names == {first, f"{first}-aqe-2@0", *(n for n in names if n.startswith("train_data-"))}
    assert len(names) == 3
    assert {path.stem for path in (run_dir / "ranking").iterdir()} == names
    after = {path.name: path.read_bytes() for path in (run_dir / "metrics").iterdir()}
    assert before.items() <= after.items()


def test_evaluate_on_the_training_data_uses_the_held_out_classes(
    trained: Path, products: Path, capsys
) -> None:
    photos = f"--data={products}/train/train_data"
    dual_main.main(["evaluate", photos, f"--run_dir={trained}", "--noreport"])
    assert ": dev split (block, 0.34 of the classes)" in capsys.readouterr().out


def test_evaluate_writes_the_documented_figures_first(
    trained: Path, products: Path, tmp_path: Path
) -> None:
    out = tmp_path / "figures.json"
    dual_main.main(
        [
            "evaluate",
            f"--data={products}",
            f"--run_dir={trained}",
            f"--json={out}",
            "--batch_size=8",
        ]
    )
    figures = json.loads(out.read_text())
    main = [
        "mAP",
        "mAP_ci95",
        "recall_at_1",
        "recall_at_5",
        "recall_at_10",
        "num_queries",
        "num_gallery",
        "num_skipped",
    ]
    documented = [*main, "model", "data", "seed"]
    assert list(figures)[: len(documented)] == documented
    assert figures["num_queries"] == 3
    assert figures["num_gallery"] == 9
    assert figures["num_skipped"] == 0
    low, high = figures["mAP_ci95"]
    assert 0 <= low <= figures["mAP"] <= high <= 1


def test_evaluate_on_a_csv_counts_a_bad_file_and_reports_groups(
    trained: Path, products: Path, tmp_path: Path
) -> None:
    labels = dict(csv.reader((products / "test" / "test_labels.csv").open()))
    rows = [("path", "label", "split", "group")]
    for split, folder in (("query", "query"), ("gallery", "reference")):
        files = sorted((products / "test" / "test_data" / folder).glob("*.jpg"))
        rows += [
            (str(file), labels[file.stem], split, "phone" if i % 2 else "camera")
            for i, file in enumerate(files)
        ]
    (tmp_path / "broken.jpg").write_bytes(b"")
    rows.append(("broken.jpg", "1", "gallery", ""))
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    dual_main.main(
        [
            "evaluate",
            f"--data={tmp_path}/x.csv",
            f"--run_dir={trained}",
            f"--json={tmp_path}/f.json",
            "--batch_size=8",
        ]
    )
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["num_skipped"] == 1 and figures["skipped"] == [
        [str(tmp_path / "broken.jpg"), "empty file"],
    ]
    assert set(figures["groups"]) == {"camera", "phone"}


def test_infer_writes_the_format_of_the_challenge(
    trained: Path, products: Path, tmp_path: Path
) -> None:
    dual_main.main(
        [
            "infer",
            f"--data={products}",
            f"--run_dir={trained}",
            f"--out={tmp_path}/answer.json",
            "--batch_size=8",
        ]
    )
    answer = literal_eval((tmp_path / "answer.txt").read_text())
    assert [index for index, _ in answer] == [0, 1, 2]
    for _, (query, references) in answer:
        assert isinstance(query, str) and "." not in query
        assert sorted(references) == sorted(f"refer_{i}" for i in range(9))
    assert json.loads((tmp_path / "answer.json").read_text()) == [
        [i, [query, references]] for i, (query, references) in answer
    ]


def test_search_finds_an_image_in_its_own_folder(trained: Path, products: Path, capsys) -> None:
    folder = products / "test" / "test_data" / "reference"
    photo = sorted(folder.glob("*.jpg"))[4]
    capsys.readouterr()
    dual_main.main(
        [
            "search",
            f"--data={folder}",
            f"--image={photo}",
            f"--run_dir={trained}",
            "--top_k=3",
            "--batch_size=8",
        ]
    )
    first = next(line for line in capsys.readouterr().out.splitlines() if " 1. " in line)
    assert first.split()[1:] == ["1.0000", str(photo)]


def test_extract_skips_and_names_a_bad_file(trained: Path, tmp_path: Path, capsys) -> None:
    Image.fromarray(np.full((40, 40, 3), 99, np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    dual_main.main(
        [
            "extract",
            f"--data={tmp_path}",
            f"--out={tmp_path}/out",
            f"--run_dir={trained}",
            "--batch_size=8",
        ]
    )
    printed = capsys.readouterr().out
    assert "1 embeddings of 2048 numbers; 1 skipped" in printed and "bad.jpg" in printed


def test_compare_writes_figures_and_page_of_two_runs(
    trained: Path, products: Path, tmp_path: Path, capsys
) -> None:
    runs = f"--runs={trained},{trained}"
    dual_main.main(
        [
            "compare",
            f"--data={products}",
            runs,
            f"--out={tmp_path}",
            f"--json={tmp_path}/c.json",
            "--batch_size=8",
        ]
    )
    assert capsys.readouterr().out.count("mandoo_dual first") >= 2
    first, second = json.loads((tmp_path / "c.json").read_text())
    assert first["mAP"] == second["mAP"]
    assert "<html" in (tmp_path / "index.html").read_text()


def test_debug_command_of_the_original(products: Path, tmp_path: Path) -> None:
    # The command of the original with small sizes and without weights.
    arguments = [
        "--debug",
        "--batch_size=32",
        "--dev_percent=0.05",
        "--train_logits",
        "--train_sim",
        "--stop_gradient_sim",
    ]
    nsml = ["--mode=train", "--iteration=0", "--pause=0"]
    cache = f"--pixel_cache={tmp_path}/pixels"
    place = [f"--debug_data={products}", f"--run_dir={tmp_path}/r", cache]
    dual_main.main([*arguments, *nsml, *place, *TINY])
    assert len(list((tmp_path / "pixels").rglob("*.rgb"))) >= 20
    run = read_run(tmp_path / "r")
    recipe = recipe_of(run)
    assert recipe.epochs == 2 and recipe.validation.every_steps == 5
    assert run.facts.settings["max_images"] == 240


def saved_step(record: Path) -> int:
    """Return the step of the newest checkpoint; 0 if there is none."""
    return json.loads(record.read_text())["checkpoints"][-1] if record.exists() else 0


@pytest.mark.slow
def test_resume_continues_at_the_last_checkpoint_after_kill_9(
    root: Path, products: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    command = [
        sys.executable,
        str(root / "dual_main.py"),
        "--train_logits",
        "--train_sim",
        "--epochs=200",
        f"--data={products}",
    ]
    command += [f"--run_dir={run_dir}", "--checkpoint_every_steps=2", "--dev_percent=0", *TINY]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    # A checkpoint counts as soon as this file lists it.
    record = run_dir / "checkpoint" / "last.json"
    while not saved_step(record) and time.monotonic() < deadline:
        assert process.poll() is None, "training ended before its first checkpoint"
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = saved_step(record)
    # Three steps are one epoch: train one to two epochs more.
    epochs = saved // 3 + 2
    result = shell(root, "--resume", f"--run_dir={run_dir}", f"--epochs={epochs}")
    assert result.returncode == 0, result.stderr[-2000:]
    assert f"continuing at step {saved} of {epochs * 3}" in result.stdout
    assert list((run_dir / "metrics").glob("*.json"))


# --- the terminal and the keyboard


@pytest.mark.parametrize("arguments", ["recipes", "--help", "train --help"])
def test_a_closed_pipe_ends_quietly(root: Path, arguments: str) -> None:
    command = f"{sys.executable} {root}/dual_main.py {arguments} | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.stderr == "" and result.stdout == "141\n"


def test_an_error_of_a_pipe_exits_141_without_a_word(monkeypatch, capsys) -> None:
    def run(flags: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("delf_ext.verbs.recipes.run", run)
    with pytest.raises(SystemExit) as ended:
        dual_main.main(["recipes"])
    assert ended.value.code == 141 and capsys.readouterr().err == ""


def test_help_on_a_full_disk_is_an_error_of_one_line(monkeypatch, capsys) -> None:
    def help_text(verb: str | None) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(dual_main, "help_text", help_text)
    assert fails(capsys, 1, "--help").startswith("error: no space left on device")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train_sim", "--run_dir=a b"], "To continue: mandoo --resume --run_dir='a b'."),
        (["--train_sim"], "To continue: mandoo --resume --run_dir=RUN (RUN: the newest folder"),
        (["extract"], "the same command continues."),
        (["search"], "The embeddings so far are stored: the same command continues."),
        (["search", "--nostore_features"], "Nothing was written. Start the command again."),
        (["adapt"], "The embeddings so far are stored: the same command continues."),
        (["adapt", "--nostore_features"], "Nothing was written. Start the command again."),
        (["export"], "Nothing was written. Start the command again."),
    ],
)
def test_ctrl_c_says_how_to_continue(arguments: list[str], message: str, monkeypatch, capsys):
    def run(flags: object) -> None:
        raise KeyboardInterrupt

    verb = arguments[0] if arguments[0][0] != "-" else "train"
    monkeypatch.setattr(f"delf_ext.verbs.{verb}.run", run)
    assert message in fails(capsys, 130, *arguments)


def test_an_error_of_the_disk_names_the_file_and_the_remedy(monkeypatch, capsys) -> None:
    def run(flags: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "big.json")

    monkeypatch.setattr("delf_ext.verbs.recipes.run", run)
    line = fails(capsys, 1, "recipes")
    assert line.startswith("error: big.json: no space left on device: free space on that disk")
