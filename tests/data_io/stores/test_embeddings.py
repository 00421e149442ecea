"""Test that a store finds embeddings by content, only of its model, and never makes a run fail."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_io.files.artifacts import StaleArtifact, write_json
from data_io.images import DECODING_VERSION
from data_io.stores.embedding_parts import FeaturePart, FeatureParts
from data_io.stores.embeddings import PARTS_FOLDER, EmbeddingStore

DIGEST = "0123456789ab"
MADE_BY = f"{DIGEST}, decoding {DECODING_VERSION}"
OWN = f"{DIGEST}-{DECODING_VERSION}"
VECTORS = np.eye(4, dtype=np.float32)


def refuse(line: str) -> None:
    raise AssertionError(f"unexpected line in the log: {line}")


def store(
    folder: Path,
    digest: str = DIGEST,
    log: Callable[[str], None] = refuse,
    extra_folder: Path | None = None,
) -> EmbeddingStore:
    return EmbeddingStore(folder, digest, log, extra_folder)


@pytest.fixture(params=["features", "[2024] w*?"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


def test_get_finds_an_embedding_by_content(folder: Path) -> None:
    first = store(folder)
    assert len(first) == 0
    assert first.get("a") is None
    assert not folder.exists()
    first.add(["a", "b"], VECTORS[:2])
    for opened in (first, store(folder)):
        assert len(opened) == 2
        assert opened.get("c") is None
        np.testing.assert_array_equal(opened.get("b"), VECTORS[1])
    assert [path.parent for path in folder.rglob("*.npz")] == [folder / OWN]


def test_get_returns_the_latest_embedding_of_a_content(folder: Path) -> None:
    opened = store(folder)
    opened.add(["a"], VECTORS[:1])
    opened.add(["a"], VECTORS[1:2])
    np.testing.assert_array_equal(opened.get("a"), VECTORS[1])
    assert len(opened) == 1


def test_a_store_that_does_not_write_keeps_embeddings_in_memory(folder: Path) -> None:
    opened = EmbeddingStore(folder, DIGEST, refuse, writes=False)
    opened.add(["a"], VECTORS[:1])
    np.testing.assert_array_equal(opened.get("a"), VECTORS[0])
    assert not folder.exists()


def test_add_of_nothing_writes_no_file(folder: Path) -> None:
    store(folder).add([], np.zeros((0, 4), np.float32))
    assert not folder.exists()


def test_embeddings_of_another_model_are_never_read(folder: Path) -> None:
    store(folder).add(["a"], VECTORS[:1])
    other = store(folder, "ba9876543210")
    assert other.get("a") is None
    (path,) = (folder / OWN).iterdir()
    moved = folder / f"ba9876543210-{DECODING_VERSION}" / path.name
    moved.parent.mkdir()
    # Even if a user copies the file to the folder of the other model.
    moved.write_bytes(path.read_bytes())
    assert store(folder, "ba9876543210").get("a") is None


def test_embeddings_of_another_decoding_version_are_never_read(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store(folder).add(["a"], VECTORS[:1])
    for module in ("embeddings", "embedding_parts"):
        name = f"data_io.stores.{module}.DECODING_VERSION"
        monkeypatch.setattr(name, DECODING_VERSION + 1)
    assert store(folder).get("a") is None


def saved(path: Path, **columns: object) -> None:
    values = {"digest": MADE_BY, "contents": ["a", "b"], "embeddings": VECTORS[:2]}
    np.savez(path, **{name: np.asarray(value) for name, value in {**values, **columns}.items()})


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_text(path: Path) -> None:
    path.write_text("no archive")


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def damage_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(bytes(content))


def damage_number(path: Path) -> None:
    saved(path, contents=["a", "b", "c"])


def damage_shape(path: Path) -> None:
    saved(path, embeddings=VECTORS[0][:2])


def damage_columns(path: Path) -> None:
    np.savez(path, digest=np.asarray(MADE_BY))


def damage_pickle(path: Path) -> None:
    saved(path, contents=np.array([{}, {}], object))


DAMAGES = [value for name, value in globals().items() if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_logged_and_ignored(
    folder: Path,
    damage: Callable[[Path], None],
) -> None:
    store(folder).add(["a", "b"], VECTORS[:2])
    (bad,) = (folder / OWN).iterdir()
    store(folder).add(["c"], VECTORS[2:3])
    damage(bad)
    messages: list[str] = []
    opened = store(folder, log=messages.append)
    assert opened.get("a") is None
    assert opened.get("c") is not None
    (line,) = messages
    assert line.startswith(f"{bad}: damaged file of embeddings (")
    assert "\n" not in line
    assert line.endswith("); its images are embedded again")
    opened.add(["a"], VECTORS[:1])
    assert opened.get("a") is not None


@given(data=st.data())
def test_any_bytes_in_a_file_never_raise_an_error(
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    store(folder).add(["a", "b"], VECTORS[:2])
    (path,) = (folder / OWN).iterdir()
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    messages: list[str] = []
    embedding = store(folder, log=messages.append).get("a")
    assert embedding is None or embedding.shape == (4,)


# --- a folder that the user names


def extracted(out: Path, made_by: str = MADE_BY) -> None:
    """Write what `extract` writes for three photographs; the second one cannot be read."""
    parts = FeatureParts(out / PARTS_FOLDER, made_by, np.array(["x", "y", "z"]), part_images=2)
    results = [VECTORS[0], "not an image"]
    parts.save(0, FeaturePart.of(np.array(["a", "b"]), results))
    parts.save(1, FeaturePart.of(np.array(["c"]), [VECTORS[2]]))


def test_embeddings_that_extract_wrote_are_found(folder: Path, tmp_path: Path) -> None:
    extracted(folder)
    opened = store(tmp_path / "own", extra_folder=folder)
    assert len(opened) == 2
    assert opened.get("b") is None
    np.testing.assert_array_equal(opened.get("a"), VECTORS[0])
    np.testing.assert_array_equal(opened.get("c"), VECTORS[2])
    # Only the own folder is written to.
    opened.add(["b"], VECTORS[1:2])
    assert len(list((tmp_path / "own").rglob("*.npz"))) == 1
    assert len(list(folder.rglob("*.npz"))) == 2


def test_another_store_is_read_but_not_written_to(folder: Path, tmp_path: Path) -> None:
    store(folder).add(["a"], VECTORS[:1])
    store(tmp_path / "own").add(["b"], VECTORS[1:2])
    opened = store(tmp_path / "own", extra_folder=folder)
    assert opened.get("a") is not None
    assert opened.get("b") is not None
    opened.add(["c"], VECTORS[2:3])
    assert len(list(folder.rglob("*.npz"))) == 1


def test_parts_of_another_model_are_refused_with_both_digests(folder: Path, tmp_path: Path) -> None:
    extracted(folder, "ffff, decoding 1")
    with pytest.raises(StaleArtifact) as caught:
        store(tmp_path / "own", extra_folder=folder)
    both = f"model ffff, decoding 1; this model is {MADE_BY}"
    assert str(caught.value) == f"{folder} was made by {both}. Extract again."


def test_a_store_of_another_model_is_refused_with_both_digests(
    folder: Path,
    tmp_path: Path,
) -> None:
    store(folder, "ffff").add(["a"], VECTORS[:1])
    with pytest.raises(StaleArtifact) as caught:
        store(tmp_path / "own", extra_folder=folder)
    both = f"model ffff-{DECODING_VERSION}; this model is {OWN}"
    assert str(caught.value) == f"{folder} was made by {both}. Extract again."


def test_a_folder_without_embeddings_is_refused_with_the_command_to_run(
    folder: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError) as missing:
        store(tmp_path / "own", extra_folder=folder)
    makes = f"`mandoo extract --out={folder}`"
    assert str(missing.value) == f"{folder}: no such folder of features; {makes} makes one."
    (folder / "empty").mkdir(parents=True)
    with pytest.raises(ValueError) as empty:
        store(tmp_path / "own", extra_folder=folder)
    assert str(empty.value) == f"{folder}: no stored features in it; {makes} makes them."


@pytest.mark.parametrize("note", [[], None, {}, {"digest": 3}])
def test_a_parts_file_that_names_no_model_is_refused(tmp_path: Path, note: object) -> None:
    extracted(tmp_path / "out")
    write_json(tmp_path / "out" / PARTS_FOLDER / "parts.json", note)
    with pytest.raises(StaleArtifact, match=f"this model is {MADE_BY}"):
        store(tmp_path / "own", extra_folder=tmp_path / "out")


# --- several writers, and a disk that refuses


def test_two_writers_can_share_a_folder(folder: Path) -> None:
    first = store(folder)
    second = store(folder)
    first.add(["a"], VECTORS[:1])
    second.add(["b"], VECTORS[1:2])
    first.add(["c"], VECTORS[2:3])
    assert first.get("b") is None
    assert second.get("a") is None
    assert [store(folder).get(content) is not None for content in "abc"] == [True] * 3


def test_many_writers_at_once_lose_no_embedding(folder: Path) -> None:
    def write(number: int) -> None:
        own = store(folder)
        for row in range(5):
            own.add([f"{number}-{row}"], VECTORS[:1] * number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(1, 9)))
    opened = store(folder)
    assert len(opened) == 8 * 5
    np.testing.assert_array_equal(opened.get("7-3"), VECTORS[0] * 7)
    assert not [path for path in (folder / OWN).iterdir() if path.suffix != ".npz"]


def test_a_folder_that_cannot_be_written_is_only_logged(folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    messages: list[str] = []
    opened = store(folder, log=messages.append)
    opened.add(["a"], VECTORS[:1])
    np.testing.assert_array_equal(opened.get("a"), VECTORS[0])
    (line,) = messages
    assert line.startswith(f"{folder / OWN}: embeddings are not stored (")
    assert "\n" not in line


def test_a_full_disk_is_only_logged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    messages: list[str] = []
    opened = store(folder, log=messages.append)
    monkeypatch.setattr("numpy.lib.format.write_array", full)
    opened.add(["a"], VECTORS[:1])
    assert messages == [f"{folder / OWN}: embeddings are not stored (No space left on device)"]
    assert opened.get("a") is not None
    assert not (folder / OWN).exists()
