"""Test the verb adapt: a head on a tiny trunk, used by other verbs, and usage errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dual_main
from data_io.files.artifacts import load_record
from data_io.records import GlobalFeatures


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write three photographs of each of two products."""
    rng = np.random.default_rng(0)
    for label in range(2):
        folder = tmp_path / "photos" / f"product{label}"
        folder.mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(100 * label, 100 * label + 60, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_a_head_is_written_and_used_by_other_verbs(
    photos: Path, onnx_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = tmp_path / "my head"
    network = f"--onnx_model={onnx_model}"
    dual_main.main(
        [
            "adapt",
            f"--data={photos}",
            network,
            "--for=seen_classes",
            f"--out={head}",
            "--copies=flip",
        ]
    )
    text = capsys.readouterr().out
    assert "adapt: 6 photographs of 2 classes" in text and "\nchosen: " in text
    assert f"next: mandoo search --data=PHOTOS --run_dir='{head}' --image=PHOTO" in text
    query = photos / "product0" / "0.png"
    dual_main.main(["search", f"--data={photos}", f"--run_dir={head}", f"--image={query}"])
    assert "1. 1.0000" in capsys.readouterr().out
    dual_main.main(["extract", f"--data={photos}", f"--run_dir={head}", f"--out={tmp_path / 'x'}"])
    assert len(load_record(tmp_path / "x" / "features.npz", GlobalFeatures)) == 6


def test_usage_errors_come_before_the_work(
    refused: Callable[..., str], photos: Path, onnx_model: Path, tmp_path: Path
) -> None:
    model = f"--onnx_model={onnx_model}"
    data = f"--data={photos}"
    out = f"--out={tmp_path / 'head'}"
    both = "pass --for=seen_classes (new photographs of the labelled products) or --for=unseen_"
    assert both in refused(2, "adapt", data, model, out)
    assert both in refused(2, "adapt", data, model, out, "--for=seen")
    assert "pass both" in refused(2, "adapt", data, model, "--for=seen_classes")
    message = refused(2, "adapt", data, model, out, "--for=seen_classes", "--copies=turn30")
    assert "unknown copy 'turn30'" in message
    message = refused(1, "adapt", data, out, "--for=unseen_classes", model)
    assert "at least 4 classes with two photographs. Received 2" in message
    assert not (tmp_path / "head").exists()
