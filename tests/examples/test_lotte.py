"""Run the Lotte example on a tiny drawn competition: train two networks, write a submission."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_io.synthetic.dataset import draw_dataset
from data_io.synthetic.lotte import LotteConfig

EXAMPLE = "examples/lotte"
# A part of lite0 with random weights, since its package may not be installed.
TINY = ("--trunk=efficientnet_lite0/block1", "--image_size=32", "--epochs=1")
SMALL_BATCHES = ("--set=sampling.batch_size=4", "--set=validation.folds=2")
CELLS_OF_THE_NOTEBOOK = 6


@pytest.fixture(scope="module")
def competition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data/, as the competition gave it, and truth.csv beside it."""
    config = LotteConfig(num_classes=3, train_per_class=4, test_per_class=2, image_size_px=32)
    return draw_dataset(tmp_path_factory.mktemp("lotte"), config, progress=False)


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs run.py with arguments."""

    def started(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        runpy.run_path(str(root / EXAMPLE / "src" / "run.py"), run_name="__main__")

    return started


def cells(root: Path) -> list[str]:
    """Return the code of each cell of the notebook."""
    notebook = json.loads((root / EXAMPLE / "notebook" / "infer.ipynb").read_text("utf-8"))
    assert all(cell["cell_type"] == "code" for cell in notebook["cells"])
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def test_two_networks_are_trained_and_write_a_submission(
    root: Path,
    competition: Path,
    run: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [f"--data={competition / 'data'}", f"--model={competition / 'model'}", *TINY]
    for name in ("conf_1", "conf_2_nf0"):
        run("-C", name, *flags, *SMALL_BATCHES)
    recipes = {
        path.parent.name: json.loads(path.read_text())["recipe"]
        for path in (competition / "model").glob("*/recipe.json")
    }
    folds = {name: recipe["validation"]["fold"] for name, recipe in recipes.items()}
    assert folds == {"conf_1": 0, "conf_2_nf0": 1}
    capsys.readouterr()
    for other in (
        "--image_size=64",
        "--trunk=lite1",
        "--weights=other.pth",
        "--set=task=Retrieval",
    ):
        with pytest.raises(SystemExit) as ended:
            run("-C", "conf_1", *flags[:2], other)
        last = capsys.readouterr().err.splitlines()[-1]
        assert ended.value.code == 2 and "conf_1 was started with other settings (" in last
    run("-C", "conf_1", *flags[:2], "--epochs=2")
    assert "continuing at step" in capsys.readouterr().out

    (competition / "notebook").mkdir()
    monkeypatch.chdir(competition / "notebook")
    names: dict[str, object] = {}
    for source in cells(root):
        exec(compile(source, "infer.ipynb", "exec"), names)

    with open("submission.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with open("../data/sample.csv", newline="", encoding="utf-8") as file:
        samples = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [list(row) for row in samples]
    assert [row["filename"] for row in rows] == [row["filename"] for row in samples]
    assert {row["prediction"] for row in rows} <= {"0", "1", "2"} and len(rows) == 6


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-C", "conf_6"], 2, "invalid choice: 'conf_6'"),
        (["-C", "conf_1", "--data=nowhere", *TINY], 1, "error: nowhere: not found."),
        (["-C", "conf_1", "--image_size=31"], 2, "usage error: --set input.size_px=31"),
        (["-C", "conf_1", "--image_size=0"], 2, "usage error: --set input.size_px=0"),
        (["-C", "conf_1", "--epochs=0"], 2, "usage error: --epochs must be above 0"),
    ],
)
def test_a_wrong_argument_is_one_line(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    run: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments, f"--model={tmp_path}")
    last = capsys.readouterr().err.splitlines()[-1]
    assert (ended.value.code, message in last) == (status, True), last


def test_the_notebook_has_six_cells_without_output(root: Path) -> None:
    path = root / EXAMPLE / "notebook" / "infer.ipynb"
    notebook = json.loads(path.read_text("utf-8"))
    assert len(cells(root)) == CELLS_OF_THE_NOTEBOOK
    assert all(cell["outputs"] == [] for cell in notebook["cells"])
