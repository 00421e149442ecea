from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.files.artifacts import StaleArtifact
from data_io.stores.embedding_parts import FeaturePart, FeatureParts

IDS = np.array(["a", "b/ü 2", "c", "d", "e"])


def part(seed: int = 0) -> FeaturePart:
    """Return a part of three images; the second one has no embedding."""
    vectors = np.random.default_rng(seed).normal(size=(2, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return FeaturePart.of(
        np.array(["0a" * 16, "", "0b" * 16]), [vectors[0], "file not found", vectors[1]]
    )


def assert_same(one: FeaturePart | None, other: FeaturePart) -> None:
    assert one is not None
    assert one.contents.tolist() == other.contents.tolist()
    assert one.reasons.tolist() == other.reasons.tolist()
    np.testing.assert_array_equal(one.embeddings, other.embeddings)


def test_read_returns_the_saved_part(tmp_path: Path) -> None:
    parts = FeatureParts(tmp_path / "p", "d1", IDS, 3)
    assert parts.num_parts == 2
    assert [list(parts.rows(k)) for k in range(2)] == [[0, 1, 2], [3, 4]]
    assert parts.read(parts.path(0)) is None
    parts.save(0, part())
    assert_same(FeatureParts(tmp_path / "p", "d1", IDS, 3).read(parts.path(0)), part())
    first, second, last = part().per_image()
    np.testing.assert_array_equal([first, last], part().embeddings)
    assert second is None


def test_a_part_can_have_no_embedding(tmp_path: Path) -> None:
    parts = FeatureParts(tmp_path, "d1", IDS, 3)
    empty = FeaturePart.of(np.array(["", "ab"]), ["is a folder", "truncated"])
    parts.save(1, empty)
    assert_same(parts.read(parts.path(1)), empty)
    assert empty.per_image() == [None, None]


@pytest.mark.parametrize(
    ("contents", "reasons", "embeddings", "message"),
    [
        (
            ["a"],
            ["", ""],
            np.eye(2, dtype=np.float32),
            r"^contents and reasons must be \[n\], embeddings \[m, D\]",
        ),
        (
            ["a", "b"],
            ["", ""],
            np.eye(3, dtype=np.float32),
            r"^expected 2 float32 embeddings. Received \(3, 3\)\.$",
        ),
        (["a", "b"], ["", ""], np.eye(2), "^expected 2 float32 embeddings"),
        (
            ["a", "b"],
            ["", "bad"],
            np.full((1, 2), np.nan, np.float32),
            "^embeddings must be of unit length",
        ),
    ],
)
def test_a_part_refuses_wrong_columns(
    contents: list, reasons: list, embeddings: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FeaturePart(np.array(contents), np.array(reasons), embeddings)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_read_never_returns_wrong_content_of_a_damaged_file(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts = FeatureParts(folder, "d1", IDS, 3)
        parts.save(0, part())
        complete = bytearray(parts.path(0).read_bytes())
        position = data.draw(st.integers(0, len(complete) - 1))
        if data.draw(st.booleans()):
            del complete[position:]
        else:
            complete[position] ^= 1 << data.draw(st.integers(0, 7))
        parts.path(0).write_bytes(complete)
        try:
            # Damage to a time stamp, for example, changes no content.
            assert_same(parts.read(parts.path(0)), part())
        except ValueError as error:
            assert str(error).startswith(f"{parts.path(0)}: not a valid part (")


def test_read_names_a_part_of_another_model(tmp_path: Path) -> None:
    FeatureParts(tmp_path / "p", "d1", IDS, 3).save(0, part())
    (tmp_path / "p" / "parts.json").write_text('{"digest": "d2"}')
    parts = FeatureParts(tmp_path / "p", "d2", IDS, 3)
    with pytest.raises(
        ValueError, match=r"000000\.npz: not a valid part \(another model made it\)$"
    ):
        parts.read(parts.path(0))


def test_another_model_is_refused_and_overwrite_deletes_only_its_parts(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    FeatureParts(tmp_path, "d1", IDS, 3).save(0, part())
    with pytest.raises(
        StaleArtifact,
        match=rf"^{tmp_path} was made by model d1; now d2\. Pass --overwrite \(overwrite=True\)\.$",
    ):
        FeatureParts(tmp_path, "d2", IDS, 3)
    parts = FeatureParts(tmp_path, "d2", IDS, 3, overwrite=True)
    assert parts.read(parts.path(0)) is None
    assert (tmp_path / "mine").is_dir()
    parts.save(0, part())
    # The second shard is called with --overwrite too.
    again = FeatureParts(tmp_path, "d2", IDS, 3, overwrite=True)
    assert_same(again.read(parts.path(0)), part())


def test_a_damaged_parts_file_is_named(tmp_path: Path) -> None:
    FeatureParts(tmp_path, "d1", IDS, 3)
    (tmp_path / "parts.json").write_text("{")
    with pytest.raises(ValueError, match=r"parts\.json: not readable as JSON"):
        FeatureParts(tmp_path, "d1", IDS, 3)
    (tmp_path / "parts.json").write_text("[]")
    with pytest.raises(StaleArtifact):
        FeatureParts(tmp_path, "d1", IDS, 3)


def test_parts_of_an_earlier_list_are_found_until_they_are_dropped(tmp_path: Path) -> None:
    before = FeatureParts(tmp_path, "d1", IDS, 3)
    before.save(0, part())
    for other in (FeatureParts(tmp_path, "d1", IDS[::-1], 3), FeatureParts(tmp_path, "d1", IDS, 4)):
        assert other.path(0) != before.path(0)
        assert other.earlier() == [before.path(0)]
    assert before.earlier() == []
    before.drop_earlier()
    assert before.path(0).exists()
    other.drop_earlier()
    assert not before.path(0).exists()
    assert other.earlier() == []


def test_only_one_process_can_extract_a_shard(tmp_path: Path) -> None:
    one, two = (FeatureParts(tmp_path, "d1", IDS, 3) for _ in range(2))
    refused = pytest.raises(
        ValueError, match=r": process \d+ is extracting shard 1/2; wait until it ends\.$"
    )
    with one.locked(1, 2), two.locked(2, 2), refused, two.locked(1, 2):
        pass
    with two.locked(1, 2):
        pass


def test_save_deletes_what_a_killed_run_left_of_the_part(tmp_path: Path) -> None:
    parts = FeatureParts(tmp_path, "d1", IDS, 3)
    parts.save(0, part())
    abandoned = [parts.path(k).with_name(f".{parts.path(k).name}.x1y2") for k in range(2)]
    for path in abandoned:
        path.touch()
    parts.save(0, part(1))
    assert [path.exists() for path in abandoned] == [False, True]
    assert_same(parts.read(parts.path(0)), part(1))
