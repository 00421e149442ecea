"""Numbered checkpoints: what is kept, and what a kill, a copy or a damaged note does to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_io.checkpoint_folder import CheckpointFolder, readable_prefix

STRANGE = "[2024] w*?"


def writes(text: str = "weights") -> Callable[[str], None]:
    """As tf.train.Checkpoint.write: two files below the path prefix."""

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
    assert checkpoints.numbers() == [] and checkpoints.facts() == {}
    assert checkpoints.newest() is None
    assert not folder.exists()


def test_the_newest_are_kept_and_the_newest_of_all_is_found(folder: Path) -> None:
    checkpoints = CheckpointFolder(folder, "last", keep=2)
    for number in (5, 10, 15):
        checkpoints.save(number, writes(str(number)), step=number)
    assert checkpoints.numbers() == [10, 15] and checkpoints.facts() == {"step": 15}
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
    assert checkpoints.numbers() == [2, 1] and checkpoints.facts() == {"mAP": 0.2}
    assert [file.read_text() for file in checkpoints.files(1)] == ["new", "new"]


def test_checkpoints_of_other_names_and_longer_numbers_are_left_alone(folder: Path) -> None:
    best, last = CheckpointFolder(folder, "best", keep=1), CheckpointFolder(folder, "last", keep=1)
    best.save(1, writes())
    last.save(1, writes())
    last.save(10, writes())
    last.save(2, writes())
    assert (best.numbers(), last.numbers()) == ([1], [2])
    assert [file.name for file in best.files(1)] == ["best-1.data-00000-of-00001", "best-1.index"]
    assert len(names(folder)) == 2 * 3


class Killed(Exception):
    pass


def test_a_kill_while_writing_leaves_the_ones_before(folder: Path) -> None:
    checkpoints = CheckpointFolder(folder, "last", keep=2)
    checkpoints.save(1, writes("one"), step=1)
    checkpoints.save(2, writes("two"), step=2)

    def half(prefix: str) -> None:
        Path(f"{prefix}.index").write_text("half")
        raise Killed

    with pytest.raises(Killed):
        checkpoints.save(3, half, step=3)
    assert checkpoints.numbers() == [1, 2] and checkpoints.facts() == {"step": 2}
    assert checkpoints.newest() == folder / "last-2"
    assert all(file.is_file() for number in (1, 2) for file in checkpoints.files(number))
    checkpoints.save(3, writes("three"), step=3)
    assert checkpoints.numbers() == [2, 3]
    assert [file.read_text() for file in checkpoints.files(3)] == ["three", "three"]


def test_a_kill_between_writing_and_noting_leaves_the_ones_before(
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
    again = CheckpointFolder(folder, "last", keep=1)
    assert again.newest() == folder / "last-1" and len(again.files(1)) == 2
    again.save(2, writes("again"), step=2)
    assert again.numbers() == [2] and again.files(1) == []


def test_the_newest_is_copied_to_another_folder(folder: Path, tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(folder, "last", keep=2)
    checkpoints.save(1, writes("one"))
    checkpoints.save(2, writes("two"), step=2)
    to = tmp_path / "copy [1]" / "checkpoint"
    checkpoints.copy_newest(to)
    copied = CheckpointFolder(to, "last")
    assert copied.newest() == to / "last-2" and copied.facts() == {"step": 2}
    assert names(to) == ["last-2.data-00000-of-00001", "last-2.index", "last.json"]
    copied.save(3, writes())  # such a run does not touch the original
    copied.save(4, writes())
    assert copied.numbers() == [3, 4] and checkpoints.numbers() == [1, 2]
    assert len(checkpoints.files(2)) == 2


def test_a_moved_folder_is_read_where_it_is(folder: Path, tmp_path: Path) -> None:
    CheckpointFolder(folder, "last").save(1, writes())
    moved = folder.rename(tmp_path / "moved")
    newest = CheckpointFolder(moved, "last").newest()
    assert newest == moved / "last-1" and str(tmp_path) not in (moved / "last.json").read_text()


def test_nothing_to_copy_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        CheckpointFolder(folder, "last").copy_newest(tmp_path / "to")
    assert str(caught.value) == f"{folder}: no checkpoint in it." and not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    "note",
    ["[]", "{}", '{"checkpoints": 3}', '{"checkpoints": ["1"]}', "null"],
)
def test_a_damaged_note_is_refused(tmp_path: Path, note: str) -> None:
    (tmp_path / "last.json").write_text(note)
    checkpoints = CheckpointFolder(tmp_path, "last")
    for read in (checkpoints.numbers, checkpoints.newest, checkpoints.facts):
        with pytest.raises(ValueError) as caught:
            read()
        assert str(caught.value) == f"{tmp_path / 'last.json'}: not a list of checkpoints."


def test_a_half_written_note_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.json").write_text('{"checkpoints": [')
    with pytest.raises(
        ValueError,
        match=r"last\.json: not readable as JSON \(.*delete it and run again\.",
    ):
        CheckpointFolder(tmp_path, "last").newest()


@given(numbers=st.lists(st.integers(0, 30), max_size=12), keep=st.integers(1, 4))
def test_whatever_is_saved_the_last_few_are_there(
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


# --- what TensorFlow can read


def test_a_plain_path_is_read_as_it_is(tmp_path: Path) -> None:
    assert readable_prefix(tmp_path / "last-1") == str(tmp_path / "last-1")
    assert readable_prefix("[none]/last-1") == "[none]/last-1"


@pytest.mark.parametrize("name", [STRANGE, "a [1]", "back\\slash"])
@pytest.mark.parametrize("checkpoint", ["last-1", "last [1]"])
def test_a_path_that_looks_like_a_pattern_is_read_through_links(
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


@pytest.mark.parametrize("name", [STRANGE, "a [1]"])
def test_tensorflow_reads_what_it_has_written_there(tmp_path: Path, name: str) -> None:
    import tensorflow as tf

    checkpoints = CheckpointFolder(tmp_path / name, "last")
    checkpoints.save(1, tf.train.Checkpoint(value=tf.Variable(3.0)).write)
    value = tf.Variable(0.0)
    prefix = readable_prefix(checkpoints.path(1))
    tf.train.Checkpoint(value=value).read(prefix).assert_existing_objects_matched()
    assert value.numpy() == 3.0
