"""Find the files of a table whatever way its path is written, through links too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data_io.datasets import DataSet, load_dataset
from data_io.datasets.file_finder import place_of
from data_io.tables.csv_rows import csv_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with real/lists/d.csv, whose images are in real/photos, and links to both."""
    for name in ("real/photos/a.jpg", "real/photos/b.jpg", "photos/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff\xd8\xff" + name.encode())
    (tmp_path / "real" / "lists").mkdir()
    rows = [("../photos/a.jpg", "cup", "gallery"), ("../photos/b.jpg", "jar", "gallery")]
    (tmp_path / "real/lists/d.csv").write_text(csv_text([("path", "label", "split"), *rows]))
    (tmp_path / "link").symlink_to(tmp_path / "real" / "lists")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.csv").symlink_to(tmp_path / "real/lists/d.csv")
    return tmp_path


def real_paths(data: DataSet) -> list[str]:
    return [os.path.realpath(path) for path in data.gallery.paths]


SPELLINGS: list[Callable[[Path], str | Path]] = [
    lambda folder: folder / "real/lists/d.csv",
    lambda folder: "real/lists/d.csv",
    lambda folder: "./real/../real/lists/d.csv",
    lambda folder: folder / "link/d.csv",
    lambda folder: "link/d.csv",
    lambda folder: "elsewhere/linked.csv",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_table_names_the_same_files_whatever_way_its_path_is_written(
    folder: Path, spelling: Callable[[Path], str | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a linked folder, `..` is the folder above the target of the link."""
    monkeypatch.chdir(folder)
    data = load_dataset(spelling(folder))
    photos = folder / "real" / "photos"
    assert real_paths(data) == [str(photos / "a.jpg"), str(photos / "b.jpg")]
    assert data.gallery.ids.tolist() == ["../photos/a", "../photos/b"]


@pytest.mark.parametrize("spelling", SPELLINGS[:5])
def test_a_file_is_listed_once_whatever_way_its_path_is_written(
    folder: Path, spelling: Callable[[Path], str | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with open(folder / "real/lists/d.csv", "a") as file:
        for path in (folder / "real/photos/a.jpg", "../lists/../photos/a.jpg"):
            file.write(f"{path},cup,gallery\n")
    data = load_dataset(spelling(folder))
    assert len(data.gallery) == 2
    reasons = [reason for _, reason in data.gallery.skipped]
    assert reasons == ["line 4: already in line 2", "line 5: already in line 2"]
    with open(folder / "real/lists/d.csv", "a") as file:
        file.write(f"{folder}/real/photos/a.jpg,pen,query\n")
    with pytest.raises(ValueError, match="has label 'cup' in line 2 and 'pen' in line 6; keep one"):
        load_dataset(spelling(folder))


def test_a_link_to_a_file_is_another_place(folder: Path) -> None:
    (folder / "real/photos/c.jpg").symlink_to("a.jpg")
    assert place_of(str(folder / "link/../photos/c.jpg")) == str(folder / "real/photos/c.jpg")
