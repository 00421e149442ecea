"""Run the examples on drawn products. Settings make the networks small."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from data_io.synthetic.dataset import DrawConfig, draw_dataset

SMALL = (
    "model.trunk.end_point=block1/unit_1/bottleneck_v1",
    "input.size_px=32",
    "stages.0.epochs=1",
    "validation=null",
)


def test_examples_train_compare_and_search(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = draw_dataset(tmp_path / "products", DrawConfig(16, 64, 4, 12, 48), progress=False)
    arguments = [str(drawn), str(tmp_path / "runs"), *SMALL]
    monkeypatch.setattr(sys, "argv", ["train_and_compare.py", *arguments])
    runpy.run_path(str(root / "examples" / "train_and_compare.py"))
    table = capsys.readouterr().out
    assert "mandoo_dual mandoo_dual (last-" in table and "4 queries scored." in table

    photo = next((drawn / "test" / "test_data" / "query").glob("*.jpg"))
    gallery = drawn / "test" / "test_data" / "reference"
    run_dir = tmp_path / "runs" / "mandoo_triplet"
    monkeypatch.setattr(sys, "argv", ["search.py", str(run_dir), str(photo), str(gallery)])
    runpy.run_path(str(root / "examples" / "search.py"))
    assert capsys.readouterr().out.count(".jpg") == 1 + 10


@pytest.mark.parametrize("name", ["search.py", "train_and_compare.py"])
def test_example_has_at_most_fifteen_lines(root: Path, name: str) -> None:
    assert len((root / "examples" / name).read_text().splitlines()) <= 15
