"""Test which checkpoints are kept, also after a kill, a copy or damage."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_io.checkpoint_folder import CheckpointFolder, readable_prefix

STRANGE = "[2024] w*?"


def writes(text: str = "weights") -> Callable[[str], None]:
    """Return a function that writes two files, as tf.train.Checkpoint.write does."""

    def write(prefix: str) -> None:
        for part in ("index", "data-00000-of-00001"):
            Path(f"{prefix}.{part}").write_text(text)

    return write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["checkpoint", STRANGE, f"{STRANGE}/checkpoint"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


def test_an_empty_folder_has_no_checkpoint(folder: Path) -> None:
    checkpoints = CheckpointFolder(folder, "last")
    assert checkpoints.numbers() == []
    assert checkpoints.facts() == {}
    assert checkpoints.newest() is None
    assert not folder.exists()


def test_the_newest_checkpoints_are_kept_and_the_last_one_is_found(folder: Path) -> None:
    checkpoints = CheckpointFolder(folder, "last", keep=2)
    for number in (5, 10, 15):
        checkpoints.save(number, writes(str(number)), step=number)
    assert checkpoints.numbers() == [10, 15]
    assert checkpoints.facts() == {"step": 15}
    assert checkpoints.newest() == folder / "last-15"
    assert names(folder) == [
        "last-10.data-00000-of-00001",
        "last-10.index",
        "last-15.data-00000-of-00001",
        "last-15.index",
        "last.json",
    ]
    assert Path(f"{checkpoints.newest()}.index").read_text() == "15"


def test_a_checkpoint_of_the_same_number_is_replaced(folder: Path) -> None:
    checkpoints = CheckpointFolder(folder, "last", keep=2)
    checkpoints.save(1, writes("old"), mAP=0.1)
    checkpoints.save(2, writes())
    checkpoints.save(1, writes("new"), mAP=0.2)
    assert checkpoints.numbers() == [2, 1]
    assert checkpoints.facts() == {"mAP": 0.2}
    assert [file.read_text() for file in checkpoints.files(1)] == ["new", "new"]


def test_checkpoints_of_other_names_and_longer_numbers_are_not_changed(folder: Path) -> None:
    best = CheckpointFolder(folder, "best", keep=1)
    last = CheckpointFolder(folder, "last", keep=1)
    best.save(1, writes())
    last.save(1, writes())
    last.save(10, writes())
    last.save(2, writes())
    assert (best.numbers(), last.numbers()) == ([1], [2])
    assert [file.name for file in best.files(1)] == ["best-1.data-00000-of-00001", "best-1.index"]
    assert len(names(folder)) == 2 * 3


class Killed(Exception):
    pass


def test_a_kill_while_writing_keeps_the_earlier_checkpoints(folder: Path) -> None:
    checkpoints = CheckpointFolder(folder, "last", keep=2)
    checkpoints.save(1, writes("one"), step=1)
    checkpoints.save(2, writes("two"), step=2)

    def half(prefix: str) -> None:
        Path(f"{prefix}.index").write_text("half")
        raise Killed

    with pytest.raises(Killed):
        checkpoints.save(3, half, step=3)
    assert checkpoints.numbers() == [1, 2]
    assert checkpoints.facts() == {"step": 2}
    assert checkpoints.newest() == folder / "last-2"
    assert all(file.is_file() for number in (1, 2) for file in checkpoints.files(number))
    checkpoints.save(3, writes("three"), step=3)
    assert checkpoints.numbers() == [2, 3]
    assert [file.read_text() for file in checkpoints.files(3)] == ["three", "three"]


def test_a_kill_between_writing_and_listing_keeps_the_earlier_checkpoints(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoints = CheckpointFolder(folder, "last", keep=1)
    checkpoints.save(1, writes("one"), step=1)

    def killed(path: Path, value: object) -> None:
        raise Killed

    monkeypatch.setattr("data_io.checkpoint_folder.write_json", killed)
    with pytest.raises(Killed):
        checkpoints.save(2, writes("two"), step=2)
    monkeypatch.undo()
    restarted = CheckpointFolder(folder, "last", keep=1)
    assert restarted.newest() == folder / "last-1"
    assert len(restarted.files(1)) == 2
    restarted.save(2, writes("two"), step=2)
    assert restarted.numbers() == [2]
    assert restarted.files(1) == []


def test_copy_newest_copies_only_the_newest_checkpoint(folder: Path, tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(folder, "last", keep=2)
    checkpoints.save(1, writes("one"))
    checkpoints.save(2, writes("two"), step=2)
    to = tmp_path / "copy [1]" / "checkpoint"
    checkpoints.copy_newest(to)
    copied = CheckpointFolder(to, "last")
    assert copied.newest() == to / "last-2"
    assert copied.facts() == {"step": 2}
    assert names(to) == ["last-2.data-00000-of-00001", "last-2.index", "last.json"]
    # Saving to the copy does not change the original.
    copied.save(3, writes())
    copied.save(4, writes())
    assert copied.numbers() == [3, 4]
    assert checkpoints.numbers() == [1, 2]
    assert len(checkpoints.files(2)) == 2


def test_a_moved_folder_is_read_at_its_new_place(folder: Path, tmp_path: Path) -> None:
    CheckpointFolder(folder, "last").save(1, writes())
    moved = folder.rename(tmp_path / "moved")
    newest = CheckpointFolder(moved, "last").newest()
    assert newest == moved / "last-1"
    assert str(tmp_path) not in (moved / "last.json").read_text()


def test_copy_newest_without_a_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        CheckpointFolder(folder, "last").copy_newest(tmp_path / "to")
    assert str(caught.value) == f"{folder}: no checkpoint in it."
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"checkpoints": 3}', '{"checkpoints": ["1"]}', "null"],
)
def test_a_damaged_list_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "last.json").write_text(content)
    checkpoints = CheckpointFolder(tmp_path, "last")
    for read in (checkpoints.numbers, checkpoints.newest, checkpoints.facts):
        with pytest.raises(ValueError) as caught:
            read()
        assert str(caught.value) == f"{tmp_path / 'last.json'}: not a list of checkpoints."


def test_a_half_written_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.json").write_text('{"checkpoints": [')
    with pytest.raises(
        ValueError,
        match=r"last\.json: not readable as JSON \(.*delete it and run again\.",
    ):
        CheckpointFolder(tmp_path, "last").newest()


@given(numbers=st.lists(st.integers(0, 30), max_size=12), keep=st.integers(1, 4))
def test_the_last_saved_checkpoints_are_kept(
    tmp_path_factory: pytest.TempPathFactory,
    numbers: list[int],
    keep: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    checkpoints = CheckpointFolder(folder, "last", keep=keep)
    for number in numbers:
        checkpoints.save(number, writes(str(number)))
    expected = list(reversed(list(dict.fromkeys(reversed(numbers)))))[-keep:]
    assert checkpoints.numbers() == expected
    found = {file.name.split(".")[0] for file in folder.glob("last-*")}
    assert found == {f"last-{number}" for number in expected}
    if numbers:
        assert json.loads((folder / "last.json").read_text())["checkpoints"] == expected


# --- paths that TensorFlow can read


def test_readable_prefix_returns_a_plain_path_unchanged(tmp_path: Path) -> None:
    assert readable_prefix(tmp_path / "last-1") == str(tmp_path / "last-1")
    assert readable_prefix("[none]/last-1") == "[none]/last-1"


@pytest.mark.parametrize("name", [STRANGE, "a [1]", "back\\slash"])
@pytest.mark.parametrize("checkpoint", ["last-1", "last [1]"])
def test_readable_prefix_links_a_path_that_looks_like_a_pattern(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    checkpoint: str,
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for ending in (".index", ".data-00000-of-00001", "0.index"):
        (folder / f"{checkpoint}{ending}").write_text(ending)
    monkeypatch.chdir(tmp_path)
    for path in (folder / checkpoint, f"{name}/{checkpoint}"):
        prefix = Path(readable_prefix(path))
        assert not set("*?[]\\") & set(str(prefix))
        found = {file.name: file.read_text() for file in prefix.parent.iterdir()}
        endings = (".index", ".data-00000-of-00001")
        assert found == {f"{prefix.name}{ending}": ending for ending in endings}


@pytest.mark.parametrize("name", [STRANGE, "a [1]", os.fsdecode(b"\xbb\xe7")])
def test_tensorflow_reads_a_checkpoint_through_readable_prefix(tmp_path: Path, name: str) -> None:
    import tensorflow as tf

    checkpoints = CheckpointFolder(tmp_path / name, "last")
    checkpoints.save(1, tf.train.Checkpoint(value=tf.Variable(3.0)).write)
    value = tf.Variable(0.0)
    prefix = readable_prefix(checkpoints.path(1))
    tf.train.Checkpoint(value=value).read(prefix).assert_existing_objects_matched()
    assert value.numpy() == 3.0
