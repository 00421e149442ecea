"""Test keys of image files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from data_io.files import contents
from data_io.files.contents import content_digest, contents_of, same_files, same_images

LONG_AGO_S = 1_000_000_000


def test_content_digest_depends_only_on_the_bytes(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "c").write_bytes(data[:-1])
    expected = hashlib.sha256(data).hexdigest()[:32]
    assert content_digest(tmp_path / "a.jpg") == expected
    assert content_digest(str(tmp_path / "b.png")) == expected
    assert content_digest(tmp_path / "c") not in ("", content_digest(tmp_path / "a.jpg"))


def test_content_digest_of_unreadable_files_and_pipes_is_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert [
        content_digest(path) for path in (tmp_path / "pipe", tmp_path, tmp_path / "missing")
    ] == ["", "", ""]


def test_a_settled_file_is_read_once_until_it_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"first")
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    (tmp_path / "link.jpg").symlink_to(path)
    first = content_digest(path)
    with monkeypatch.context() as patch:
        patch.setattr(contents, "open", lambda *_, **__: pytest.fail("read again"), raising=False)
        assert contents_of([str(path), str(tmp_path / "link.jpg")]) == [first, first]
    path.write_bytes(b"other")
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    assert content_digest(path) != first


def test_links_and_copies_are_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").write_bytes(b"photograph")
    Path("copy.jpg").write_bytes(b"photograph")
    Path("other.jpg").write_bytes(b"PHOTOGRAPH")
    Path("symlink.jpg").symlink_to("a.jpg")
    os.link("a.jpg", "hardlink.jpg")
    Path("empty1.jpg").touch()
    Path("empty2.jpg").touch()
    one_file = ["a.jpg", "./a.jpg", str(tmp_path / "a.jpg"), "symlink.jpg", "hardlink.jpg"]
    others = ["other.jpg", "empty1.jpg", "empty2.jpg", "missing.jpg"]
    paths = [*one_file, "copy.jpg", *others]
    assert len(set(same_files(paths))) == 1 + 1 + len(others)
    keys = same_images(paths)
    assert len(set(keys[:6])) == 1
    assert len(set(keys)) == 1 + len(others)
    assert same_files(["missing.jpg"]) == same_files([str(tmp_path / "missing.jpg")])


def test_a_file_of_a_unique_size_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("a", b"1"), ("b", b"22"), ("c", b"333")):
        (tmp_path / name).write_bytes(text)
    monkeypatch.setattr(contents, "content_digest", lambda path: pytest.fail("read"))
    assert len(set(same_images([str(tmp_path / name) for name in "abc"]))) == 3
