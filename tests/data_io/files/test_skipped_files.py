from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.datasets import list_images, load_dataset
from data_io.files.skipped_files import count_skipped, mostly_skipped
from data_io.images import check_images

JPEG_NAMES = ("0.jpg", "1.jfif", "2.jpe", "3.JPG", "4.mpo", "5.heic", "6")
BAD = {"text.jpg": b"text", "empty": b"", "cut.png": b"\x89PNG\r\n\x1a\n", "7.xyz": b"text"}
NOT_SEEN = ("README.txt", "labels.csv", ".gitkeep", "clip.mp4")


def fill(folder: Path) -> None:
    """Write 7 photographs, 4 bad files, and files that are not meant as images."""
    folder.mkdir(parents=True)
    for number, name in enumerate(JPEG_NAMES):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / name, "JPEG")
    for name, content in BAD.items():
        (folder / name).write_bytes(content)
    for name in NOT_SEEN:
        (folder / name).write_text("text")


def csv_of(folder: Path) -> Path:
    """Write a table of all photographs and bad files, with one row twice and one missing file."""
    names = [*JPEG_NAMES, *BAD]
    rows = [f"data/a/{name},a,train\n" for name in (*names, names[0], "missing.jpg")]
    (folder / "table.csv").write_text("path,label,split\n" + "".join(rows))
    return folder / "table.csv"


@pytest.mark.parametrize(
    "form", ["class folders", "split folders", "challenge", "table", "plain folder"]
)
def test_skipped_files_are_files_seen_less_files_used(tmp_path: Path, form: str) -> None:
    root = tmp_path / "data"
    places = {
        "class folders": ["a", "b/c"],
        "split folders": ["train/a", "query/a", "gallery/a"],
        "challenge": ["train/train_data/a", "test/test_data/query", "test/test_data/reference"],
        "table": ["a"],
        "plain folder": [".", "deep/er"],
    }[form]
    for place in places:
        # A plain folder exists already if it is the root.
        fill(root / place if place != "." else root)
    (root / "z").mkdir()
    num_extra = 0
    if form == "table":
        path = csv_of(tmp_path)
        num_extra = 1
    else:
        path = root
    if form == "plain folder":
        lists = [check_images(list_images(path))]
    else:
        data = load_dataset(path)
        lists = [check_images(images) for images in (data.train, data.query, data.gallery)]
    used = [file for images in lists for file in images.paths.tolist()]
    left_out = count_skipped([entry for images in lists for entry in images.skipped], used)
    assert len(used) == left_out.num_used == len(JPEG_NAMES) * len(places)
    assert len(left_out.files) == len(BAD) * len(places) + num_extra
    assert left_out.num_seen == (len(JPEG_NAMES) + len(BAD)) * len(places) + num_extra
    names = {Path(file).name for file, _ in left_out.files}
    assert names == {*BAD, *(["missing.jpg"] if num_extra else [])}


def test_a_file_counts_once_under_every_spelling_and_folders_do_not_count() -> None:
    entries = [
        ("photos/a.jpg", "truncated"),
        ("photos/../photos/a.jpg", "not an image"),
        ("photos/b.jpg", "line 4: already in line 2"),
        ("photos/empty/", "empty class"),
        ("photos/empty/", "empty class"),
    ]
    found = count_skipped(entries, [str(Path.cwd() / "photos/b.jpg"), "photos/c.jpg"])
    assert found.files == (("photos/a.jpg", "truncated"),)
    assert found.folders == (("photos/empty/", "empty class"),)
    assert (found.num_seen, found.num_used) == (3, 2)


def test_rows_and_names_without_a_file_belong_to_no_folder() -> None:
    used = ["data/a/1.jpg"]
    for entry in (("data/table.csv, line 7", "no path"), ("query_7", "there is no such image")):
        assert mostly_skipped([entry], used) == ""
        assert len(count_skipped([entry], used).files) == 1


def test_a_folder_that_lost_most_of_its_files_is_named() -> None:
    used = [f"data/a/{number}.jpg" for number in range(9)]
    assert mostly_skipped([], used) == ""
    assert mostly_skipped([("data/a/9.jpg", "empty file")], used) == ""
    bad = [(f"data/b/{number}.jpg", "truncated") for number in range(2)]
    assert mostly_skipped(bad, [*used, "data/b/2.jpg"]) == (
        "warning: 2 of 12 files were skipped, most of them in data/b (2 of 3); "
        "the usual reason: truncated"
    )
    many = [(f"data/{number}/0.jpg", "truncated") for number in range(5)]
    line = mostly_skipped(many, used)
    assert "data/0 (1 of 1), data/1 (1 of 1), data/2 (1 of 1) and 2 more folders;" in line
    assert np.char.count(line, "\n") == 0
