"""Test the demo with tiny networks: table, page, and a second call that continues."""

from __future__ import annotations

from pathlib import Path

import dual_main
from data_io.synthetic.dataset import DrawConfig
from delf_ext.recipes.codec import with_settings
from delf_ext.verbs import demo


def test_demo_writes_table_and_page_and_a_second_call_gives_the_same_table(
    tmp_path: Path,
    monkeypatch,
    capsys,
) -> None:
    tiny = DrawConfig(num_classes=8, num_train=32, num_queries=3, num_gallery=6, image_size_px=48)
    settings = [
        "model.trunk.end_point=block1/unit_1/bottleneck_v1",
        "input.size_px=32",
        "stages.0.epochs=1",
        "validation=None",
    ]
    monkeypatch.setattr(demo, "PRODUCTS", tiny)
    monkeypatch.setattr(demo.demo, "RECIPE", with_settings(demo.demo.RECIPE, settings))
    monkeypatch.setattr(demo, "BASELINE", {"epochs": 1, "batch_size": 16, "image_size": 32})
    dual_main.main(["demo", f"--out={tmp_path}"])
    first = capsys.readouterr().out
    page = tmp_path / "seed0" / "report" / "index.html"
    assert f"report: {page}" in first and page.is_file()
    sheet = tmp_path / "seed0" / "results.jpg"
    assert f"picture: {sheet}" in first and sheet.is_file()
    table = first[first.index("mAP - first") :]
    assert table.index("keras_baseline baseline") < table.index("demo ours (last-1)")
    assert table.count(" + geometric:50") == 2

    dual_main.main(["demo", f"--out={tmp_path}"])
    again = capsys.readouterr().out
    assert "continuing at step 1 of 1" in again
    assert again[again.index("mAP - first") :] == table
