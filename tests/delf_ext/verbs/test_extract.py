"""Test `extract` of embeddings with a tiny network: uninterrupted, killed, in shards."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import dual_main
from data_io.files.artifacts import load_record
from data_io.records import GlobalFeatures, ImageList
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.app.extraction import write_skipped
from delf_ext.config import UsageError
from delf_ext.features import extraction_job
from delf_ext.verbs.extract import shard_of

ENDPOINT = "resnet_v1_50/block1/unit_1/bottleneck_v1"
TINY = [f"--resnet_type={ENDPOINT}", "--image_size=32", "--batch_size=4", "--layout=slim"]
TINY += ["--mixed_precision=off"]

# A program that waits in the middle of writing its third part, to be killed there.
HANGS = """
import sys, time
import data_io.stores.embedding_parts
import dual_main
from data_io.files.artifacts import atomic_path, write_npz
from delf_ext.features import extraction_job

extraction_job.PART_IMAGES = 4
written = []

def save(path, **columns):
    if len(written) == 2:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half a part")
            print("in the middle", flush=True)
            time.sleep(600)
    written.append(write_npz(path, **columns))

data_io.stores.embedding_parts.write_npz = save
dual_main.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, write_trunk: Callable[..., Path]) -> Path:
    """Make photos/ (17 images, one broken file), trunk.ckpt, and out/ of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("place")
    config = DrawConfig(num_classes=3, num_train=17, num_queries=3, num_gallery=3, image_size_px=48)
    drawn = draw_dataset(folder / "products", config, progress=False)
    shutil.copytree(drawn / "train" / "train_data", folder / "photos")
    (folder / "photos" / "!bad.jpg").write_bytes(b"\xff\xd8\xff")
    write_trunk(folder / "trunk.ckpt", ENDPOINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANDOO_CACHE", str(folder / "cache"))
        patch.setattr(extraction_job, "PART_IMAGES", 4)
        extract(folder, folder / "out")
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction_job, "PART_IMAGES", 4)


def arguments(place: Path, out: Path, *flags: str) -> list[str]:
    return [
        "extract",
        f"--data={place}/photos",
        f"--out={out}",
        f"--pretrained_model={place}/trunk.ckpt",
        *TINY,
        *flags,
    ]


def extract(place: Path, out: Path, *flags: str) -> None:
    dual_main.main(arguments(place, out, *flags))


def results(out: Path) -> dict[str, bytes]:
    """Return the bytes of all results, parts included."""
    files = [path for path in out.rglob("*") if path.suffix in (".npz", ".csv")]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_extract_writes_embeddings_images_skipped_files_and_parts(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    extract(place, tmp_path)
    features = load_record(tmp_path / "features.npz", GlobalFeatures)
    images = load_record(tmp_path / "images.npz", ImageList)
    assert features.ids.tolist() == images.ids.tolist()
    assert features.embeddings.shape == (17, 256)
    with open(tmp_path / "skipped.csv", newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["path", "reason"], *map(list, images.skipped)]
    assert [path for path, _ in images.skipped] == [f"{place}/photos/!bad.jpg"]
    printed = capsys.readouterr().out
    assert f"{tmp_path}/features.npz: 17 embeddings of 256 numbers; 1 skipped" in printed
    assert f"skipped {place}/photos/!bad.jpg: " in printed
    assert len(results(tmp_path)) == 3 + 5 and results(tmp_path) == results(place / "out")


def test_a_killed_extraction_continues_and_gives_the_same_bytes(
    place: Path,
    tmp_path: Path,
    root: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    command = [sys.executable, "-c", HANGS, *arguments(place, tmp_path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=root,
    ) as process:
        assert process.stdout is not None
        assert any(line == "in the middle\n" for line in process.stdout)
        with pytest.raises(SystemExit):
            extract(place, tmp_path)
        process.send_signal(signal.SIGKILL)
    assert (
        f"process {process.pid} is extracting shard 1/1; wait until it ends."
        in capsys.readouterr().err
    )
    names = [path.name for path in tmp_path.rglob("*.npz*")]
    assert len(names) == 3 and sum(name.startswith(".") for name in names) == 1
    extract(place, tmp_path)
    # Two parts of four images; one of these is the broken file.
    assert "7 of 18 images are already embedded" in capsys.readouterr().out
    assert results(tmp_path) == results(place / "out")
    assert not [path for path in tmp_path.rglob(".*") if ".npz" in path.name]


def test_two_shards_give_the_same_bytes_as_one_process(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    extract(place, tmp_path, "--shard=2/2")
    assert "3 of 5 parts are still missing" in capsys.readouterr().out
    assert not (tmp_path / "features.npz").exists()
    extract(place, tmp_path, "--shard=1/2")
    assert results(tmp_path) == results(place / "out")


def test_another_model_needs_overwrite(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    extract(place, tmp_path, "--pooling=gem")
    with pytest.raises(SystemExit) as ended:
        extract(place, tmp_path)
    error = capsys.readouterr().err
    assert ended.value.code == 1
    assert error.count("\n") == 1
    assert "features.parts was made by model " in error
    assert error.endswith(". Pass --overwrite (overwrite=True).\n")
    extract(place, tmp_path, "--overwrite")
    assert results(tmp_path) == results(place / "out")


def test_a_file_name_that_is_not_utf8_is_escaped_in_the_csv(tmp_path: Path) -> None:
    write_skipped(tmp_path / "skipped.csv", ((os.fsdecode(b"p/\xff, 1.jpg"), "empty file"),))
    assert (tmp_path / "skipped.csv").read_text() == 'path,reason\n"p/\\xff, 1.jpg",empty file\n'


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/2/3", "a/b", "-1/2", "1/0", "٢/٢"])
def test_a_shard_that_is_not_i_of_n_is_refused(text: str) -> None:
    message = "--shard takes i/n, the i-th of n shares, such as 1/2 and 2/2."
    with pytest.raises(UsageError, match=rf"^{re.escape(message)} Received '{text}'\.$"):
        shard_of(text)
    assert shard_of("2/3") == (2, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shard=5/2"], "--shard takes i/n, the i-th of n shares"),
        (
            ["--copies=mirror", "--local_features=sift"],
            "--copies works for embeddings only: leave it out for local features.",
        ),
        (
            ["--shard=1/2", "--local_features=sift"],
            "--shard works for embeddings only: leave it out to store local features.",
        ),
    ],
)
def test_usage_errors(
    place: Path,
    tmp_path: Path,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture,
) -> None:
    with pytest.raises(SystemExit) as ended:
        extract(place, tmp_path, *flags)
    assert ended.value.code == 2 and message in capsys.readouterr().err
