from __future__ import annotations

import dataclasses
import errno
import gc
import os
import pickle
import resource
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_io.files.artifacts import (
    atomic_path,
    digest_of,
    load_record,
    read_json,
    save_record,
    write_json,
    write_npz,
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
def test_load_record_returns_what_save_record_wrote(tmp_path: Path, name: str) -> None:
    record = RECORDS[name]
    save_record(tmp_path / "new" / "record.npz", record)
    loaded = load_record(tmp_path / "new" / "record.npz", type(record))
    for field in dataclasses.fields(record):
        before = getattr(record, field.name)
        after = getattr(loaded, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after, strict=True)
            assert not after.flags.writeable
        else:
            assert before == after


def test_load_record_refuses_another_type_of_record(tmp_path: Path) -> None:
    save_record(tmp_path / "r.npz", RECORDS["images"])
    with pytest.raises(ValueError, match=r"r.npz: not a valid Ranking \(it contains ImageList\)"):
        load_record(tmp_path / "r.npz", Ranking)
    np.savez(tmp_path / "foreign.npz", ids=IDS)
    with pytest.raises(ValueError, match=r"not a valid Ranking \(it contains an unknown record\)"):
        load_record(tmp_path / "foreign.npz", Ranking)


def test_load_record_names_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    save_record(path, RECORDS["features"])
    complete = path.read_bytes()
    flipped = bytearray(complete)
    flipped[complete.index(np.float32([1, 0, 0.6, 0.8]).tobytes())] ^= 1
    for content in (
        b"",
        b"no archive",
        complete[: len(complete) // 2],
        complete[:-1],
        bytes(flipped),
    ):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"r.npz: not a valid GlobalFeatures \(.*\); delete it and run again"
        ):
            load_record(path, GlobalFeatures)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"r.npz: not a valid GlobalFeatures"):
        load_record(path, GlobalFeatures)
    with pytest.raises(ValueError, match="gone.npz: not found"):
        load_record(tmp_path / "gone.npz", GlobalFeatures)
    with pytest.raises(ValueError, match="not a valid GlobalFeatures"):
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
def test_load_record_refuses_a_record_changed_by_hand(
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
    """Object that makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_load_record_never_unpickles(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "trace")
    pickle.loads(pickle.dumps(trap))
    # The trap works.
    assert trap.trace.is_dir()
    trap.trace.rmdir()
    for name, value in (("ids", np.array([trap], object)), ("extra", np.array(trap, object))):
        columns = {
            "record_type": np.asarray("ImageList"),
            "ids": np.array(["a"]),
            "paths": np.array(["a"]),
        } | {name: value}
        np.savez(tmp_path / "r.npz", **columns)
        with pytest.raises(
            ValueError, match=r"r.npz: not a valid ImageList \(Object arrays cannot be loaded"
        ):
            load_record(tmp_path / "r.npz", ImageList)
    (tmp_path / "r.npz").write_bytes(pickle.dumps(trap))
    with pytest.raises(ValueError, match="not a valid ImageList"):
        load_record(tmp_path / "r.npz", ImageList)
    assert not trap.trace.exists()


def test_atomic_path_keeps_the_old_file_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        # A rename works only inside one file system.
        assert temporary.parent == path.parent
        raise KeyError("disk full")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result.txt"]


def test_save_record_leaves_no_file_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, *_: Any, **__: Any) -> None:
        file.write(b"PK half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space left"):
        save_record(tmp_path / "r.npz", RECORDS["images"])
    assert not list(tmp_path.iterdir())


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "usual").write_text("x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "usual")]
    assert modes[0] == modes[1]


def test_read_json_returns_what_write_json_wrote_and_names_bad_files(tmp_path: Path) -> None:
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


def test_digest_depends_on_values_but_not_on_key_order() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    values = ({"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, [1], None)
    assert len({digest_of(value) for value in values}) == 6
    # The first digits of SHA-256 of the two bytes {}, as sha256sum prints them.
    assert digest_of({}) == "44136fa355b3"


def test_an_archive_on_a_full_disk_is_one_error_without_a_second_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError) as caught:
            write_npz(tmp_path / "a.npz", a=np.zeros(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "a.npz"))
    del caught
    gc.collect()
    assert capfd.readouterr().err == "" and not os.listdir(tmp_path)


def test_an_archive_is_what_numpy_writes(tmp_path: Path) -> None:
    columns = {"a": np.arange(6.0).reshape(2, 3), "names": np.array(["x", "yz"]), "k": 3}
    write_npz(tmp_path / "a.npz", **columns)
    np.savez(tmp_path / "b.npz", **columns)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
