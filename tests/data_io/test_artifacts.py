from __future__ import annotations

import dataclasses
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_io.artifacts import (
    StaleArtifact,
    atomic_path,
    digest_of,
    load_record,
    read_json,
    save_record,
    write_json,
    write_text,
)
from data_io.records import GlobalFeatures, ImageList, Ranking

IDS = np.array(["a/1", "b/ü 2"])
RECORDS = {
    "images": ImageList(
        IDS,
        np.array(["x.jpg", "y.jpg"]),
        np.array([3, -1]),
        np.array(["shop", ""]),
        (("bad.jpg", "truncated, 3 %"),),
    ),
    "unlabelled": ImageList(IDS, IDS),
    "no images": ImageList(np.zeros(0), np.zeros(0), labels=np.zeros(0)),
    "nothing but skipped": ImageList(np.zeros(0), np.zeros(0), skipped=(("a", "b"), ("c", "d"))),
    "features": GlobalFeatures(IDS, np.array([[1, 0], [0.6, 0.8]]), "0123456789ab"),
    "no features": GlobalFeatures(np.zeros(0), np.zeros((0, 4)), "0123"),
    "ranking": Ranking(
        IDS,
        np.array(["g"]),
        np.array([[0], [-1]]),
        np.array([[0.5], [0]]),
        np.array([True, False]),
        "exact",
    ),
    "empty ranking": Ranking(np.zeros(0), np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0))),
}


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_records_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    record = RECORDS[name]
    save_record(tmp_path / "new" / "record.npz", record)
    loaded = load_record(tmp_path / "new" / "record.npz", type(record))
    for field in dataclasses.fields(record):
        before, after = getattr(record, field.name), getattr(loaded, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after)
            assert (
                before.dtype == after.dtype
                and before.shape == after.shape
                and not after.flags.writeable
            )
        else:
            assert before == after


def test_another_type_of_record_is_named(tmp_path: Path) -> None:
    save_record(tmp_path / "r.npz", RECORDS["images"])
    with pytest.raises(ValueError, match="r.npz: holds ImageList, not Ranking"):
        load_record(tmp_path / "r.npz", Ranking)
    np.savez(tmp_path / "foreign.npz", ids=IDS)
    with pytest.raises(ValueError, match="foreign.npz: holds nothing known, not Ranking"):
        load_record(tmp_path / "foreign.npz", Ranking)


def test_features_of_another_config_are_stale(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    save_record(path, RECORDS["features"])
    assert load_record(path, GlobalFeatures, digest="0123456789ab").digest == "0123456789ab"
    with pytest.raises(
        StaleArtifact,
        match="features.npz was made by config 0123456789ab; now ffff. Pass --overwrite",
    ):
        load_record(path, GlobalFeatures, digest="ffff")


def test_damaged_files_are_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    save_record(path, RECORDS["features"])
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(np.float32([1, 0, 0.6, 0.8]).tobytes())] ^= 1
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:-1], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"r.npz: not a readable record \(.*\); delete it and run again"
        ):
            load_record(path, GlobalFeatures)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"r.npz: not a readable record \(a single array\)"):
        load_record(path, GlobalFeatures)
    with pytest.raises(ValueError, match="gone.npz: not found"):
        load_record(tmp_path / "gone.npz", GlobalFeatures)
    with pytest.raises(ValueError, match="not a readable record"):
        load_record(tmp_path, GlobalFeatures)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": None}, "missing 1 required positional argument: 'ids'"),
        ({"colour": np.zeros(2)}, "unexpected keyword argument 'colour'"),
        ({"embeddings": np.ones((2, 2), np.float32)}, "embeddings must be of unit length"),
        ({"ids": np.array(["a", "a"])}, "image ids must be unique"),
    ],
)
def test_a_record_changed_by_hand_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    columns = {
        "record_type": "GlobalFeatures",
        "ids": IDS,
        "embeddings": np.eye(2, dtype=np.float32),
        "digest": "d",
    } | change
    np.savez(
        tmp_path / "r.npz",
        **{name: np.asarray(value) for name, value in columns.items() if value is not None},
    )
    with pytest.raises(
        ValueError,
        match=rf"r.npz: not a valid GlobalFeatures \(.*{message}.*\); delete it and run again",
    ):
        load_record(tmp_path / "r.npz", GlobalFeatures)


class Trap:
    """Unpickling it would leave a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "trace")
    pickle.loads(pickle.dumps(trap))
    assert trap.trace.is_dir()  # the trap works
    trap.trace.rmdir()
    for name, value in (("ids", np.array([trap], object)), ("extra", np.array(trap, object))):
        columns = {
            "record_type": np.asarray("ImageList"),
            "ids": np.array(["a"]),
            "paths": np.array(["a"]),
        } | {name: value}
        np.savez(tmp_path / "r.npz", **columns)
        with pytest.raises(
            ValueError, match=r"r.npz: not a readable record \(Object arrays cannot be loaded"
        ):
            load_record(tmp_path / "r.npz", ImageList)
    (tmp_path / "r.npz").write_bytes(pickle.dumps(trap))
    with pytest.raises(ValueError, match="not a readable record"):
        load_record(tmp_path / "r.npz", ImageList)
    assert not trap.trace.exists()


def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        assert temporary.parent == path.parent  # a rename works inside one file system only
        raise KeyError("disk full")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result.txt"]


def test_a_record_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, **_: Any) -> None:
        file.write(b"PK half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        save_record(tmp_path / "r.npz", RECORDS["images"])
    assert not list(tmp_path.iterdir())


def test_a_result_is_as_readable_as_any_other_file(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "usual").write_text("x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "usual")]
    assert modes[0] == modes[1]


def test_json_round_trip_and_errors(tmp_path: Path) -> None:
    value = {"mAP": 0.5, "names": ["만두", None], "nested": {"k": [1, 2]}}
    write_json(tmp_path / "deep" / "m.json", value)
    assert read_json(tmp_path / "deep" / "m.json") == value
    assert "만두" in (tmp_path / "deep" / "m.json").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="gone.json: not found"):
        read_json(tmp_path / "gone.json")
    for content in (b'{"mAP": 0.', b"\xff\xfe{}"):
        (tmp_path / "half.json").write_bytes(content)
        with pytest.raises(
            ValueError,
            match=r"half.json: not readable as JSON \(.*\); it may be half-written: delete it",
        ):
            read_json(tmp_path / "half.json")
    with pytest.raises(TypeError):
        write_json(tmp_path / "set.json", {1, 2})
    assert not (tmp_path / "set.json").exists()


def test_digest_depends_on_the_value_and_not_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert (
        len({digest_of(value) for value in ({"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, [1], None)})
        == 6
    )
    assert (
        digest_of({}) == "44136fa355b3"
    )  # first digits of SHA-256 of the two bytes {}, as sha256sum prints them
