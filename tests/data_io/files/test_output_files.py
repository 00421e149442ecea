"""Test that files are written through links, into pipes and devices, and whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from data_io.files.artifacts import read_json, write_json, write_npz, write_text
from data_io.files.output_files import atomic_path, expanded, is_stdout, is_stream


def failure(path: Path, text: str = "new") -> OSError:
    with pytest.raises(OSError) as caught:
        write_text(path, text)
    return caught.value


@pytest.mark.parametrize("target", ["real.json", "missing.json", "sub/real.json"])
def test_a_link_is_written_through_and_stays_a_link(tmp_path: Path, target: str) -> None:
    if target != "missing.json":
        (tmp_path / target).parent.mkdir(exist_ok=True)
        (tmp_path / target).write_text("old")
    (tmp_path / "middle").symlink_to(target)
    link = tmp_path / "link.json"
    link.symlink_to("middle")
    write_json(link, [1])
    assert link.is_symlink() and (tmp_path / "middle").is_symlink()
    assert read_json(tmp_path / target) == [1]
    assert not [path for path in tmp_path.rglob(".*")]


def test_a_link_in_a_circle_and_a_folder_are_errors_that_name_them(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert failure(tmp_path / "a").errno == errno.ELOOP
    assert failure(tmp_path).errno == errno.EISDIR


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "private.json"
    path.write_text("old")
    path.chmod(0o640)
    write_json(path, [1])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_pipe_gets_the_content_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_json(pipe, {"a": 1})
    reader.join(10)
    assert read == ['{\n "a": 1\n}\n'] and is_stream(pipe) and stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "link"])
def test_stdout_is_written_to(name: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    if name == "link":
        (tmp_path / name).symlink_to("/dev/stdout")
        name = str(tmp_path / name)
    assert is_stdout(name)
    print("before")
    write_json(name, [1])
    print("after")
    assert capfd.readouterr().out == "before\n[\n 1\n]\nafter\n"


def test_stdout_that_is_a_file_is_not_replaced(tmp_path: Path, root: Path) -> None:
    code = (
        "from data_io.files.artifacts import write_text\n"
        "print('a')\nwrite_text('/dev/stdout', 'b\\n')\nprint('c')"
    )
    with open(tmp_path / "out", "w") as out:
        subprocess.run([sys.executable, "-c", code], cwd=root, stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "a\nb\nc\n"


def test_dev_null_takes_every_kind_of_file() -> None:
    write_npz("/dev/null", a=[1])
    with atomic_path("/dev/null") as path:
        Image.new("RGB", (2, 2)).save(path, "PNG")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_full_device_is_named() -> None:
    error = failure(Path("/dev/full"), "x" * 100_000)
    assert (error.errno, error.filename) == (errno.ENOSPC, "/dev/full")


def test_a_file_that_becomes_too_large_is_named_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        error = failure(path, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (error.errno, error.filename) == (errno.EFBIG, str(path))
    assert not path.parent.exists()


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EMFILE]
)
def test_an_error_of_the_system_names_the_file_and_leaves_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", fail)
    error = failure(path)
    assert (error.errno, error.filename) == (number, str(path))
    monkeypatch.setattr("tempfile.mkstemp", fail)
    assert failure(path).filename == str(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x.json"]


def test_an_error_of_reading_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "x") as path:
        path.write_bytes((tmp_path / "missing").read_bytes())
    assert caught.value.filename == str(tmp_path / "missing")
    assert not os.listdir(tmp_path)


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("가" * 83 + ".jsonx")
    write_json(path, [1])
    assert read_json(path) == [1]
    assert failure(tmp_path / ("x" * 256)).errno == errno.ENAMETOOLONG


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a") == tmp_path / "a" and expanded("a~/b") == Path("a~/b")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no home folder is known"):
        expanded("~nobody-here/x")
    (tmp_path / "~nobody-here").mkdir()
    assert expanded("~nobody-here") == Path("~nobody-here")
