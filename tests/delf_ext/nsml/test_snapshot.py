from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from delf_ext.nsml import snapshot


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path / "code" / "store"))
    write(tmp_path / "code", "main.py", "package/__init__.py", "package/weights.bin")
    return tmp_path / "code"


def write(folder: Path, *names: str, text: str = "text") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def names_of(folder: Path, entry: str = "main.py") -> list[str]:
    return [path.as_posix() for path in snapshot.code_files(folder, entry)]


def test_code_files_leaves_out_hidden_files_environments_and_runs(folder: Path) -> None:
    everything = names_of(folder)
    write(
        folder,
        ".git/HEAD",
        ".secret",
        "__pycache__/main.pyc",
        "package/__pycache__/a.pyc",
        "runs/first/model",
    )
    write(folder, "package/runs/x", "env/pyvenv.cfg", "env/lib/site.py", "store/datasets/toy/x.jpg")
    os.symlink(folder / "nowhere", folder / "broken")
    os.mkfifo(folder / "pipe")
    assert (
        names_of(folder) == everything == ["main.py", "package/__init__.py", "package/weights.bin"]
    )


def test_entry_may_be_a_package_and_stubs_are_left_out(folder: Path) -> None:
    write(folder, "package/__main__.py", "nsml.py", "nsml/__init__.py", "package/nsml.py")
    expected = [
        "main.py",
        "package/__init__.py",
        "package/__main__.py",
        "package/nsml.py",
        "package/weights.bin",
    ]
    assert names_of(folder, "package") == expected


def test_files_compiled_by_numba_are_copied(folder: Path) -> None:
    """numba recognizes the copied source by its size and time."""
    write(folder, "package/__pycache__/__init__.f-1.py311.nbi")
    assert "package/__pycache__/__init__.f-1.py311.nbi" in names_of(folder)


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ("*.bin\n", ["main.py", "package/__init__.py"]),
        ("# weights\n\n  package/w*  \n", ["main.py", "package/__init__.py"]),
        ("package/\n", ["main.py"]),
        ("", ["main.py", "package/__init__.py", "package/weights.bin"]),
    ],
)
def test_lines_of_nsmlignore_are_patterns_of_names_or_paths(
    folder: Path, lines: str, left: list[str]
) -> None:
    write(folder, ".nsmlignore", text=lines)
    assert names_of(folder) == left


def test_links_are_followed_without_endless_loops(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/helper.py", "weights.ckpt")
    os.symlink(tmp_path / "elsewhere", folder / "lib")
    os.symlink(folder, tmp_path / "elsewhere" / "back")
    os.symlink(tmp_path / "weights.ckpt", folder / "weights.ckpt")
    assert names_of(folder) == [
        "lib/helper.py",
        "main.py",
        "package/__init__.py",
        "package/weights.bin",
        "weights.ckpt",
    ]
    snapshot.copy_code(folder, snapshot.code_files(folder, "main.py"), tmp_path / "out")
    assert not (tmp_path / "out/weights.ckpt").is_symlink()
    assert (tmp_path / "out/lib/helper.py").read_text() == "text"


@pytest.mark.parametrize("can_link", [True, False])
def test_large_files_are_linked_if_possible(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    if not can_link:
        monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(snapshot, "LINK_BYTES", 100)
    write(folder, "package/weights.bin", text="w" * 100)
    os.utime(folder / "main.py", (1e9, 1e9))
    files = snapshot.code_files(folder, "main.py")
    out = tmp_path / "out"
    snapshot.copy_code(folder, files, out)
    assert {
        path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()
    } == {path: (folder / path).read_bytes() for path in files}
    assert (out / "package/weights.bin").samefile(folder / "package/weights.bin") == can_link
    assert not (out / "main.py").samefile(folder / "main.py")
    assert (out / "main.py").stat().st_mtime == 1e9


def test_too_many_bytes_to_copy_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "LINK_BYTES", 10**6)
    monkeypatch.setattr(snapshot, "MOST_BYTES", 1000)
    write(folder, "linked.ckpt", text="x" * 10**6)
    assert "linked.ckpt" in names_of(folder)
    write(folder, "photo.jpg", text="x" * 1000)
    with pytest.raises(
        ValueError,
        match=r"more than .* GB of files to copy; write patterns .*/\.nsmlignore, one per line",
    ):
        names_of(folder)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "other.py",
            r"other.py: no such entry file; run `nsml run` in the folder of your code",
        ),
        ("package", r"package/__main__.py: no such entry file"),
        (
            ".hidden.py",
            r"entry '.hidden.py' must be a file in .* neither hidden nor listed in .nsmlignore",
        ),
        ("ignored.py", r"entry 'ignored.py' must be a file in"),
        ("../outside.py", r"entry '../outside.py' must be a file in"),
    ],
)
def test_entry_must_be_one_of_the_copied_files(folder: Path, entry: str, message: str) -> None:
    write(folder, ".hidden.py", "ignored.py", "../outside.py")
    write(folder, ".nsmlignore", text="ignored.py")
    with pytest.raises(ValueError, match=message):
        snapshot.code_files(folder, entry)


def test_store_is_refused_as_code_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANDOO_HOME", str(folder))
    with pytest.raises(ValueError, match="is MANDOO_HOME, which holds data sets and sessions"):
        names_of(folder)


def test_snapshot_of_this_repository_contains_all_its_code(root: Path) -> None:
    """A folder named `runs` is left out unless it is a package: delf_ext/runs is code."""
    files = {path.as_posix() for path in snapshot.code_files(root, "dual_main.py")}
    packages = ("data_io", "delf_ext", "baseline_keras", "pretrained")
    code = {
        path.relative_to(root).as_posix()
        for name in packages
        for path in (root / name).rglob("*.py")
    }
    assert code <= files and "delf_ext/runs/opening.py" in files
