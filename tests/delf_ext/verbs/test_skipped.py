"""Test that every verb counts skipped files alike, and ends with a warning if they are many."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dual_main

ENDPOINT = "resnet_v1_50/block1/unit_1/bottleneck_v1"
NUM_USED = 6
BAD = ("text.jpg", "0001", "empty.png", "cut.heic", "half.jpg")
WARNING = "warning: 5 of 11 files were skipped, most of them in "


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, write_trunk: Callable[..., Path]) -> Path:
    """Make photos/ with 6 photographs, 5 bad files and one README, photos.csv, and trunk.ckpt."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(NUM_USED):
        # One photograph of class b; the files that cannot be read are beside it.
        path = folder / "photos" / ("ab"[number == 5]) / f"{number}.jfif"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(path, "JPEG", quality=90)
        rows.append(path)
    whole = rows[0].read_bytes()
    for name in BAD:
        path = folder / "photos" / "b" / name
        path.write_bytes(
            {"empty.png": b"", "half.jpg": whole[: len(whole) // 2]}.get(name, b"a text")
        )
        rows.append(path)
    (folder / "photos" / "b" / "README.txt").write_text("no photograph")
    (folder / "photos" / "c").mkdir()
    lines = [
        f"{path.relative_to(folder)},{path.parent.name},{'query' if number < 2 else 'gallery'}\n"
        for number, path in enumerate(rows)
    ]
    (folder / "photos.csv").write_text("path,label,split\n" + "".join(lines))
    write_trunk(folder / "trunk.ckpt", ENDPOINT)
    return folder


def run(place: Path, capsys: pytest.CaptureFixture[str], verb: str, *flags: str) -> list[str]:
    """Run a verb and return the lines that it printed."""
    model = [f"--pretrained_model={place}/trunk.ckpt", f"--resnet_type={ENDPOINT}"]
    tiny = ["--image_size=32", "--batch_size=4", "--layout=slim", "--mixed_precision=off"]
    dual_main.main([verb, *model, *tiny, *flags])
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("data", ["photos", "photos.csv"])
@pytest.mark.parametrize("verb", ["evaluate", "compare", "rerank"])
def test_figures_count_each_file_once(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, data: str
) -> None:
    flags = [f"--data={place}/{data}", f"--out={tmp_path}", "--noreport"]
    if verb != "evaluate":
        flags.append("--method=aqe:1")
    if verb != "rerank":
        flags.append(f"--json={tmp_path}/figures.json")
    lines = run(place, capsys, verb, *flags)
    assert lines[-1].startswith(WARNING)
    assert "photos/b (5 of 6); the usual reason: not an image" in lines[-1]
    written = json.loads(next(tmp_path.glob("*.json")).read_text())
    found = {"evaluate": lambda: [written], "compare": lambda: written}
    for figures in found.get(verb, lambda: list(written.values())[:2])():
        assert (figures["num_files_seen"], figures["num_skipped"]) == (NUM_USED + 5, 5)
        assert sorted(Path(path).name for path, _ in figures["skipped"]) == sorted(BAD)
        assert len(figures["skipped_folders"]) == (data == "photos")


def test_search_and_extract_count_each_file_once(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = place / "photos"
    lines = run(place, capsys, "search", f"--data={photos}", f"--image={photos}/a/0.jfif")
    assert lines[-1].startswith(WARNING)
    assert len([line for line in lines if re.match(r" +\d+\. ", line)]) == NUM_USED
    lines = run(place, capsys, "extract", f"--data={photos}", f"--out={tmp_path}/out")
    assert lines[-1].startswith(WARNING)
    assert any(line.endswith(f"{NUM_USED} embeddings of 256 numbers; 5 skipped") for line in lines)
    with open(tmp_path / "out" / "skipped.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert sorted(Path(path).name for path, _ in rows) == sorted(BAD)
