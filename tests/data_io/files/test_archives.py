"""Test that a zip archive of photographs is read like the folder it was made of."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.datasets import list_images, listed_gallery, load_dataset
from data_io.files import archives
from data_io.files.archive_names import encoding_of, unsafe_reason
from data_io.files.archives import is_zip, unpacked


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def photograph(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with two classes of two photographs each."""
    folder = tmp_path / "photos"
    for number, name in enumerate(("a/1.jpg", "a/2.jpg", "사과/1.jpg", "사과/2.jpg")):
        photograph(folder / name, 40 * number)
    return folder


def zipped(path: Path, folder: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, f"{prefix}{file.relative_to(folder).as_posix()}")
    return path


def entries(path: Path, *names: str | zipfile.ZipInfo, jpeg: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, jpeg)
    return path


class RawInfo(zipfile.ZipInfo):
    """An entry whose name is written as the given bytes, without the mark of UTF-8."""

    raw = b""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.raw, self.flag_bits


def raw_entry(name: str, encoding: str) -> RawInfo:
    info = RawInfo("x")
    info.raw = name.encode(encoding)
    return info


@pytest.mark.parametrize("prefix", ["", "photos/", "outer/photos/"])
def test_an_archive_is_read_like_its_folder(photos: Path, tmp_path: Path, prefix: str) -> None:
    archive = zipped(tmp_path / "products.zip", photos, prefix)
    expected = load_dataset(photos)
    data = load_dataset(archive)
    assert data.name == "products"
    assert data.class_names == expected.class_names == ("a", "사과")
    assert data.train.ids.tolist() == expected.train.ids.tolist()
    assert data.read_as == "zip archive, folder per class: 2 classes, 4 images"
    assert [Path(path).read_bytes() for path in data.train.paths] == [
        Path(path).read_bytes() for path in expected.train.paths
    ]
    assert list_images(archive).ids.tolist() == list_images(photos).ids.tolist()
    assert len(listed_gallery(archive).images) == 4


def test_an_archive_is_unpacked_once_for_each_content(
    photos: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(tmp_path / "one.zip", photos)
    first = load_dataset(archive)
    copy = shutil.copyfile(archive, tmp_path / "renamed.zip")
    monkeypatch.setattr(archives, "_unpack", lambda *_: pytest.fail("unpacked again"))
    assert load_dataset(copy).train.paths.tolist() == first.train.paths.tolist()
    monkeypatch.undo()
    monkeypatch.setenv("MANDOO_CACHE", str(cache))
    photograph(photos / "a/3.jpg")
    assert len(load_dataset(zipped(archive, photos)).train) == 5
    assert len(list((cache / "unpacked").iterdir())) == 2


def test_an_archive_can_hold_any_layout(photos: Path, tmp_path: Path) -> None:
    (photos / "list.csv").write_text("path,label,split\na/1.jpg,x,gallery\na/2.jpg,x,query\n")
    archive = zipped(tmp_path / "p.zip", photos, "photos/")
    with pytest.raises(ValueError, match="--data_layout=csv") as error:
        load_dataset(archive)
    # The message names the archive, not the cache.
    assert str(error.value).startswith(f"{archive}: ")
    data = load_dataset(archive, layout="csv")
    assert (len(data.query), len(data.gallery), data.class_names) == (1, 1, ("x",))
    (photos / "list.csv").unlink()
    photos.joinpath("a").rename(photos / "query")
    photos.joinpath("사과").rename(photos / "gallery")
    assert load_dataset(zipped(tmp_path / "q.zip", photos)).layout == "splits"


@pytest.mark.parametrize("prefix", ["", "photos/"])
def test_a_table_beside_a_single_folder_of_an_archive_is_seen(
    photos: Path, tmp_path: Path, prefix: str
) -> None:
    folder = tmp_path / "with_table"
    folder.mkdir()
    photos.rename(folder / "img")
    rows = ["path,label,split", "img/a/1.jpg,x,query", "img/a/2.jpg,x,gallery"]
    (folder / "list.csv").write_text("\n".join(rows))
    archive = zipped(tmp_path / "p.zip", folder, prefix)
    with pytest.raises(ValueError, match="--data_layout=csv"):
        load_dataset(archive)
    data = load_dataset(archive, layout="csv")
    assert (len(data.query), len(data.gallery), data.class_names) == (1, 1, ("x",))


def test_an_archive_in_a_folder_or_an_archive_is_named(photos: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    zipped(outer / "inner.zip", photos)
    for path in (outer, zipped(tmp_path / "outer.zip", outer)):
        with pytest.raises(
            ValueError, match=r"outer.*: no image found; it holds the archive inner"
        ):
            load_dataset(path)


def test_entries_that_leave_the_folder_are_not_written(photos: Path, tmp_path: Path) -> None:
    jpeg = (photos / "a/1.jpg").read_bytes()
    link = zipfile.ZipInfo("a/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    bad = ("../out.jpg", "/tmp/out.jpg", "a/../../out.jpg", "C:/out.jpg")
    archive = entries(tmp_path / "p.zip", "a/1.jpg", "a/1.jpg", *bad, link, jpeg=jpeg)
    data = load_dataset(archive)
    assert data.train.ids.tolist() == ["a/1"]
    leaves = "its name leaves the archive"
    assert sorted(data.skipped) == sorted(
        [
            *((f"{archive}/{name}", leaves) for name in bad),
            (f"{archive}/a/link.jpg", "a link"),
            (f"{archive}/a/1.jpg", "a second file of this name"),
        ]
    )
    assert not list(tmp_path.rglob("out.jpg"))


def test_system_files_in_an_archive_are_left_out(photos: Path, tmp_path: Path, cache: Path) -> None:
    jpeg = (photos / "a/1.jpg").read_bytes()
    junk = ("__MACOSX/a/._1.jpg", "a/Thumbs.db", "a/@eaDir/1.jpg", "$RECYCLE.BIN/1.jpg")
    data = load_dataset(entries(tmp_path / "p.zip", "a/1.jpg", *junk, jpeg=jpeg))
    assert (data.train.ids.tolist(), data.skipped) == (["a/1"], ())
    assert [file.name for file in cache.rglob("*.*") if file.suffix != ".json"] == ["1.jpg"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp949", "cp437"])
def test_names_without_an_encoding_are_decoded(photos: Path, tmp_path: Path, encoding: str) -> None:
    names = ["é/1.jpg", "ñandú/1.jpg"] if encoding == "cp437" else ["사과/1.jpg", "똠방각하/1.jpg"]
    infos = [raw_entry(name, encoding) for name in names]
    jpeg = (photos / "a/1.jpg").read_bytes()
    data = load_dataset(entries(tmp_path / "p.zip", *infos, jpeg=jpeg))
    assert set(data.class_names) == {Path(name).parent.name for name in names}
    assert data.notes == (f"names in the archive are read as {encoding}",)


def test_folders_separated_by_backslashes(photos: Path, tmp_path: Path) -> None:
    jpeg = (photos / "a/1.jpg").read_bytes()
    on_windows = zipfile.ZipInfo("b/1.jpg")
    on_windows.filename = on_windows.orig_filename = "b\\1.jpg"
    on_windows.create_system = 0
    data = load_dataset(entries(tmp_path / "p.zip", "a/1.jpg", on_windows, jpeg=jpeg))
    assert data.class_names == ("a", "b")


def test_a_damaged_entry_is_skipped(photos: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "p.zip", photos)
    with zipfile.ZipFile(archive) as content:
        start = content.getinfo("a/1.jpg").header_offset + 60
    data = bytearray(archive.read_bytes())
    data[start : start + 4] = b"\0\0\0\0"
    archive.write_bytes(data)
    ((path, reason),) = load_dataset(archive).skipped
    assert path == f"{archive}/a/1.jpg"
    assert reason.startswith("cannot be unpacked: ")


def test_an_archive_of_which_nothing_can_be_unpacked_says_why(photos: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "p.zip", photos)
    data = bytearray(archive.read_bytes())
    # Mark each entry as encrypted, in its own header and in the list of entries.
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(mark)
        while start >= 0:
            data[start + place] |= 1
            start = data.find(mark, start + 1)
    archive.write_bytes(data)
    with pytest.raises(
        ValueError, match="4 left out; the first: .*: encrypted: unpack the archive"
    ):
        load_dataset(archive)


def test_a_damaged_list_of_entries_is_refused(photos: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "p.zip", photos)
    data = archive.read_bytes()
    archive.write_bytes(data.replace(b"PK\x01\x02", b"PK\x09\x09"))
    with pytest.raises(ValueError, match=r"p.zip: damaged zip archive \("):
        load_dataset(archive)


def test_archives_that_cannot_be_read_are_refused(photos: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "p.zip", photos)
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"p.zip: the end of this zip archive is missing"):
        load_dataset(archive)
    for name, start in (("p.7z", b"7z\xbc\xaf\x27\x1c"), ("p.tar", b"\0" * 257 + b"ustar")):
        (tmp_path / name).write_bytes(start)
        with pytest.raises(ValueError, match="archives are not read. Unpack it, and pass the fold"):
            load_dataset(tmp_path / name)
    # A spreadsheet is a zip archive too, but not one of photographs.
    sheet = entries(tmp_path / "s.xlsx", "[Content_Types].xml", jpeg=b"")
    assert not is_zip(sheet)
    assert not is_zip(photos / "a/1.jpg")


def test_an_archive_larger_than_the_disk_is_refused(
    photos: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(tmp_path / "p.zip", photos)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match="Set MANDOO_CACHE to a folder on another disk"):
        unpacked(archive)
    assert list((cache / "unpacked").iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_only_the_cache(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path / "file"))
    assert len(load_dataset(zipped(tmp_path / "p.zip", photos)).train) == 4


def test_encodings_and_unsafe_names() -> None:
    assert encoding_of([]) == "utf-8"
    assert encoding_of(["résumé.jpg".encode("cp437")]) == "cp437"
    assert encoding_of(["사과.jpg".encode()]) == "utf-8"
    assert encoding_of(["딸기우유/1.jpg".encode("cp949")]) == "cp949"
    assert not unsafe_reason("a/..b/1.jpg")
    assert unsafe_reason("a/../b.jpg")
    assert unsafe_reason("\\\\server\\share\\1.jpg")
    assert os.sep == "/" or unsafe_reason("c:\\1.jpg")
