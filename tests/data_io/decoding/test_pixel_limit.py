from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dual_main
from data_io.decoding import pixel_limit
from data_io.decoding.pixel_limit import MAX_PIXELS, max_pixels, set_max_pixels
from data_io.images import ImageError, decode_image, load_image
from delf_ext.verbs.verb_table import VERBS


@pytest.fixture(autouse=True)
def own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo `set_max_pixels` after each test."""
    monkeypatch.setenv("MANDOO_MAX_PIXELS", "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_the_limit_holds_in_threads_and_in_other_processes(path: Path) -> None:
    assert max_pixels() == MAX_PIXELS
    expected = load_image(path, 8)
    set_max_pixels(1199)
    with pytest.raises(ImageError, match="40 x 30 pixels, over the limit of 1,199"):
        load_image(path, 8)
    with ThreadPoolExecutor(1) as pool, pytest.raises(ImageError, match="1,199"):
        pool.submit(decode_image, path).result()
    code = f"from data_io.images import decode_image; decode_image({str(path)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "over the limit of 1,199; --max_pixels raises it" in run.stderr
    set_max_pixels(1200)
    np.testing.assert_array_equal(load_image(path, 8), expected)


def test_large_images_are_decoded_one_at_a_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_limit, "LARGE_PIXELS", 1200)
    at_once = []

    class Counting:
        num = 0

        def __enter__(self) -> None:
            self.num += 1
            at_once.append(self.num)

        def __exit__(self, *_: object) -> None:
            self.num -= 1

    monkeypatch.setattr(pixel_limit, "_large_image", Counting())
    decode_image(path)
    assert at_once == [1]
    monkeypatch.setattr(pixel_limit, "LARGE_PIXELS", 1201)
    decode_image(path)
    assert at_once == [1]


NO_IMAGES = ("export", "recipes", "draw", "demo")


def test_every_verb_that_decodes_images_has_the_flag() -> None:
    for name, verb in VERBS.items():
        assert ("max_pixels" in verb.flags) == (name not in NO_IMAGES)


def test_the_flag_raises_the_limit(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2")
    command = ["match", f"--image={path}", f"--candidate={path}", "--local_features=sift"]
    out = path.with_name("match.png")
    with pytest.raises(SystemExit) as ended:
        dual_main.main([*command, f"--out={out}", "--max_pixels=1199"])
    assert ended.value.code == 1
    message = f"{path}: 40 x 30 pixels, over the limit of 1,199; --max_pixels raises it"
    assert message in capsys.readouterr().err
    dual_main.main([*command, f"--out={out}", "--max_pixels=1200"])
    assert out.exists()
