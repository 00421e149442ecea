"""Test which files of operating and storage systems are left out, and how equal stems are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_io.datasets import list_images, load_dataset
from data_io.datasets.data_set import distinct_ids
from data_io.files.system_files import is_system_file

JUNK = (
    *(".DS_Store", "._1.jpg", "__MACOSX", "Thumbs.db", "THUMBS.DB", "ehthumbs_vista.db"),
    *("desktop.ini", "Desktop.ini", "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "FOUND.000"),
    *("System Volume Information", "lost+found", ".Trash-1000", ".Trashes", ".thumbnails"),
    *("@eaDir", "#recycle", "@Recycle", ".@__thumb", "~snapshot", ".ipynb_checkpoints", ".git"),
    *(".Spotlight-V100", ".fseventsd", "~$list.jpg", "a.jpg@SynoEAStream", ".picasaoriginals"),
)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize("name", JUNK)
def test_system_files_are_known(name: str) -> None:
    assert is_system_file(name)


@pytest.mark.parametrize("name", ["a.jpg", "_a.jpg", "#1.jpg", "@home.jpg", "$5.jpg", "~"])
def test_photographs_with_special_characters_are_not_system_files(name: str) -> None:
    assert not is_system_file(name)


def test_every_reader_leaves_out_system_files(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", *(f"a/{name}/1.jpg" for name in JUNK))
    touch(tmp_path, *(f"{name}/s/1.jpg" for name in JUNK))
    data = load_dataset(tmp_path)
    assert data.class_names == ("a", "b")
    assert (data.train.ids.tolist(), data.skipped) == (["a/1", "b/1"], ())
    assert list_images(tmp_path).ids.tolist() == ["a/1", "b/1"]


def test_thumbnails_beside_photographs_are_listed_but_not_read(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/thumbs/1.jpg", "b/1.jpg", "b/Thumbnails/1.jpg", "thumbs/1.jpg")
    data = load_dataset(tmp_path)
    # A class may be named so.
    assert data.class_names == ("a", "b", "thumbs")
    reason = "thumbnails of the photographs beside it"
    assert [(Path(path).name, text) for path, text in data.skipped] == [
        ("thumbs", reason),
        ("Thumbnails", reason),
    ]


def test_hidden_photographs_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/.2.jpg", "..b/1.jpg", ".gitignore")
    hidden = "hidden: its name begins with a dot"
    assert load_dataset(tmp_path).skipped == (
        (f"{tmp_path / '..b'}/", hidden),
        (str(tmp_path / "a/.2.jpg"), hidden),
    )


def test_ids_keep_their_endings_only_where_stems_are_equal() -> None:
    paths = ["a.jpg", "a.png", "a.jpg.png", "b.jpg", "c", "c.jpg"]
    stems = ["a", "a", "a.jpg", "b", "c", "c"]
    assert distinct_ids(stems, paths) == ["a.jpg", "a.png", "a.jpg.png", "b", "c", "c.jpg"]


@pytest.mark.parametrize("second", ["query_1.png", "query_1.JPG", "sub/query_1.jpg"])
def test_the_challenge_refuses_two_files_of_one_stem(tmp_path: Path, second: str) -> None:
    query = tmp_path / "test" / "test_data" / "query"
    touch(query, "query_1.jpg", "query_0.jpg", second)
    with pytest.raises(ValueError, match="has the same name apart from its ending") as error:
        load_dataset(tmp_path)
    assert str(query / second) in str(error.value)
    assert str(query / "query_1.jpg") in str(error.value)


def test_the_challenge_trains_on_two_files_of_one_stem(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "train_data", "9/1.jpg", "9/1.png", "8/1.jpg")
    touch(tmp_path / "test" / "test_data", "query/a.jpg", "reference/a.jpg")
    data = load_dataset(tmp_path)
    assert data.train.ids.tolist() == ["8/1", "9/1.jpg", "9/1.png"]
    assert (data.query.ids.tolist(), data.gallery.ids.tolist()) == (["a"], ["a"])
