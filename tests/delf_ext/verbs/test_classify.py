"""Test the verb classify: its outputs, --like, and what it refuses before the work."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dual_main
from tests.delf_ext.verbs.conftest import TINY_NETWORK


@pytest.fixture
def photos(tmp_path: Path, write_trunk: Callable[..., Path]) -> Path:
    """Write photographs of three colours, a folder of new ones, and a trunk."""
    write_trunk(tmp_path / "trunk.ckpt")
    for split, per_class in (("train", 6), ("query", 2)):
        for label, colour in enumerate(((220, 30, 30), (30, 220, 30), (30, 30, 220))):
            folder = tmp_path / "photos" / split / f"=colour {label}"
            folder.mkdir(parents=True)
            for number in range(per_class):
                pixels = np.full((32, 32, 3), colour, np.uint8)
                pixels[: 4 * number + len(split)] //= 2
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def classify(photos: Path, tmp_path: Path) -> Callable[..., None]:
    def run(*flags: str) -> None:
        model = [f"--pretrained_model={tmp_path}/trunk.ckpt", *TINY_NETWORK]
        dual_main.main(["classify", f"--data={photos}", *model, *flags])

    return run


def test_labels_figures_and_picture_are_written(
    classify: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures, picture = (tmp_path / name for name in ("l.csv", "f.json", "p.png"))
    classify(f"--out={out}", f"--json={figures}", f"--picture={picture}", "--precision=.9")
    printed = capsys.readouterr().out
    assert "chosen on 3 folds of the gallery" in printed and "GAP" in printed
    with open(out, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    stored = json.loads(figures.read_text())
    assert len(rows) == 6 and len(stored["labels"]) == 6
    assert [row["true_label"] for row in rows] == [row["true_label"] for row in stored["labels"]]
    assert Image.open(picture).size[0] > 500
    # Its own files are replaced; --like chooses nothing.
    classify(f"--out={out}", f"--picture={picture}", f"--like={figures}")
    printed = capsys.readouterr()
    assert "without a choice" in printed.out and "another model" not in printed.out + printed.err
    with open(out, newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == rows
    figures.write_text(json.dumps({**stored, "model_digest": "another"}))
    classify(f"--like={figures}")
    assert "f.json was made with another model or precision" in capsys.readouterr().out


def test_new_photographs_are_listed_with_their_labels(
    classify: Callable[..., None],
    photos: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    image = photos / "query" / "=colour 1" / "0.png"
    classify(f"--image={image}", "--method=centres", f"--picture={tmp_path}/p.png", "--out=-")
    shown = capfd.readouterr()
    assert shown.out.startswith("path,label,probability,best_label,second_label")
    assert "=colour 1" in shown.out.splitlines()[1]
    assert "no picture: the photographs have no labels" in shown.err
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "classify takes labels from the photographs of --data: pass it."),
        (("--data=x", "--method=nearest"), "--method must be one of vote, centres"),
        (("--data=x", "--neighbours=0"), "--neighbours must be at least 1"),
        (("--data=x", "--neighbours=two"), "--neighbours must be a whole number. Received 'two'."),
        (("--data=x", "--precision=95"), "--precision must be above 0 and below 1"),
        (
            ("--data=x", "--choose_on=test"),
            "--choose_on must be auto, gallery, held_out or queries",
        ),
        (("--data=x", "--unknown_below=.5", "--precision=.9"), "pass one of them"),
    ],
)
def test_wrong_flags_are_refused(
    refused: Callable[..., str], flags: tuple[str, ...], message: str
) -> None:
    assert message in refused(2, "classify", *flags)


def test_a_file_without_settings_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    for text in ('{"mAP": 1}', "[]", '{"labelling": {"type": "Pca"}}', '{"labelling": {"k": 1}}'):
        file.write_text(text)
        assert str(file) in refused(1, "classify", "--data=x", f"--like={file}")


def test_what_the_model_or_the_gallery_lacks_is_refused(
    classify: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for flag, message in (
        ("--method=softmax", "needs a classifier"),
        ("--neighbours=19", "the gallery has only 18"),
    ):
        with pytest.raises(SystemExit) as ended:
            classify(flag)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
