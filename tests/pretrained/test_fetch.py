"""Test downloads from a local HTTP server that can break off, ignore ranges or change the file."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from pretrained import fetch as fetch_module
from pretrained import manifest
from pretrained.fetch import DownloadFailed, download, extract_member, fetch, main, table
from pretrained.manifest import Download, ManifestEntry, WeightsInfo, load_manifest

# Random bytes do not compress, so the archive is long enough to break off.
WEIGHTS = np.random.default_rng(0).bytes(300_000)


def tar_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = tar_of(**{"resnet_v1_50.ckpt": WEIGHTS})


@dataclass
class Server:
    """State of the server.

    Attributes:
        url: of the file.
        content: of the file.
        etag: header of the answers; None for none.
        ranges: whether it supports ranges.
        break_after: bytes after which it breaks off; None for never.
        status: HTTP error to answer; None for no error.
        asked: Range headers of the requests so far.
    """

    url: str = ""
    content: bytes = ARCHIVE
    etag: str | None = '"first"'
    ranges: bool = True
    break_after: int | None = None
    status: int | None = None
    asked: list[str | None] = field(default_factory=list)


def handler_of(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            server.asked.append(wanted)
            if server.status is not None:
                self.send_error(server.status)
                return
            start = 0
            if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            size = len(server.content)
            if start >= size:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(size - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            if server.etag:
                self.send_header("ETag", server.etag)
            self.end_headers()
            end = size if server.break_after is None else server.break_after
            self.wfile.write(server.content[start:end])

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(state)) as listening:
        state.url = f"http://127.0.0.1:{listening.server_port}/models/weights.tar.gz"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


def entry_of(
    url: str, sha256: str | None = None, checkpoint_sha256: str | None = None
) -> ManifestEntry:
    files = {"resnet_v1_50.ckpt": checkpoint_sha256}
    info = WeightsInfo(
        "resnet_v1_50", "resnet_v1_50", "slim", "RGB", (1.0, 2.0, 3.0), "Apache-2.0", url, files
    )
    return ManifestEntry(
        "resnet_v1_50.ckpt", "for the test", Download(url, "resnet_v1_50.ckpt", sha256), info
    )


def test_complete_download_leaves_only_the_checkpoint(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture
):
    out = fetch(entry_of(server.url, hashlib.sha256(ARCHIVE).hexdigest()), tmp_path / "new")
    assert out.read_bytes() == WEIGHTS
    assert [path.name for path in out.parent.iterdir()] == ["resnet_v1_50.ckpt"]
    printed = capsys.readouterr().out
    assert "(as expected)" in printed and "expected checksum unknown: not compared" in printed
    fetch(entry_of(server.url), tmp_path / "new")
    assert server.asked == [None] and "already exists" in capsys.readouterr().out


def test_interrupted_download_continues_where_it_stopped(server: Server, tmp_path: Path):
    server.break_after = 100_000
    with pytest.raises(
        DownloadFailed,
        match=rf"broke after 100000 of {len(ARCHIVE)} bytes.*Run again to continue it\. "
        "To do it by hand",
    ):
        fetch(entry_of(server.url), tmp_path)
    assert (tmp_path / "weights.tar.gz.part").stat().st_size == 100_000
    server.break_after = None
    assert fetch(entry_of(server.url), tmp_path).read_bytes() == WEIGHTS
    assert server.asked == [None, "bytes=100000-"]


@pytest.mark.parametrize("change", ["no_ranges", "other_file", "no_mark"])
def test_download_starts_again_if_it_cannot_continue(server: Server, tmp_path: Path, change: str):
    if change == "no_mark":
        server.etag = None
    server.break_after = 100_000
    part = tmp_path / "weights.tar.gz.part"
    with pytest.raises(OSError, match="broke after"):
        download(server.url, part)
    server.break_after = None
    if change == "no_ranges":
        server.ranges = False
    if change == "other_file":
        server.content = ARCHIVE[::-1]
        server.etag = '"second"'
    download(server.url, part)
    assert part.read_bytes() == server.content
    assert server.asked == [None, None if change == "no_mark" else "bytes=100000-"]


def test_download_starts_again_if_the_part_is_not_shorter(server: Server, tmp_path: Path):
    part = tmp_path / "weights.tar.gz.part"
    part.write_bytes(bytes(len(ARCHIVE)))
    Path(f"{part}.json").write_text(json.dumps({"mark": server.etag}))
    download(server.url, part)
    assert part.read_bytes() == ARCHIVE and server.asked[-1] is None


def test_download_does_not_continue_with_a_weak_etag(server: Server, tmp_path: Path):
    server.etag = 'W/"first"'
    server.break_after = 100_000
    for _ in range(2):
        with pytest.raises(OSError, match="broke after"):
            download(server.url, tmp_path / "a.part")
    assert server.asked == [None, None]


def test_archive_with_a_wrong_checksum_is_deleted(server: Server, tmp_path: Path):
    with pytest.raises(ValueError, match="damaged or another one: download it again"):
        fetch(entry_of(server.url, "0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def special_tar(item: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(item)
    return buffer.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    item = tarfile.TarInfo(name)
    item.type = tarfile.SYMTYPE
    item.linkname = target
    return item


@pytest.mark.parametrize(
    "archive",
    [
        tar_of(**{"../resnet_v1_50.ckpt": b"evil"}),
        tar_of(**{"/tmp/resnet_v1_50.ckpt": b"evil"}),
        tar_of(**{"sub/resnet_v1_50.ckpt": b"other"}),
        special_tar(link("resnet_v1_50.ckpt", "/etc/hostname")),
    ],
    ids=["parent", "absolute", "folder", "symlink"],
)
def test_malicious_member_writes_nothing(tmp_path: Path, archive: bytes):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a.tar").write_bytes(archive)
    with pytest.raises(ValueError, match=r"contains no regular file 'resnet_v1_50.ckpt'"):
        extract_member(inside / "a.tar", "resnet_v1_50.ckpt", inside / "resnet_v1_50.ckpt")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "inside"]


def test_extract_member_writes_only_the_wanted_file(tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(
        tar_of(**{"../evil": b"evil", "./resnet_v1_50.ckpt": b"good", "README": b""})
    )
    extract_member(tmp_path / "a.tar", "resnet_v1_50.ckpt", tmp_path / "out" / "renamed.ckpt")
    assert (tmp_path / "out" / "renamed.ckpt").read_bytes() == b"good"
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize(
    "archive", [b"", b"<html>not found</html>", ARCHIVE[:200_000]], ids=["empty", "page", "cut"]
)
def test_damaged_archive_is_an_error_with_its_path(tmp_path: Path, archive: bytes):
    (tmp_path / "a.tar").write_bytes(archive)
    with pytest.raises(ValueError, match=r"a\.tar: could not be unpacked"):
        extract_member(tmp_path / "a.tar", "resnet_v1_50.ckpt", tmp_path / "out.ckpt")
    assert not (tmp_path / "out.ckpt").exists()


def test_archive_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetch_module, "MAX_MEMBER_BYTES", 1000)
    (tmp_path / "a.tar").write_bytes(ARCHIVE)
    with pytest.raises(ValueError, match="would have 300000 bytes; the limit is 1000"):
        extract_member(tmp_path / "a.tar", "resnet_v1_50.ckpt", tmp_path / "out.ckpt")


@pytest.fixture
def own_manifest(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Replace the published URL in the command's manifest by that of the local server."""
    published = load_manifest()["resnet_v1_50"].download
    assert published is not None
    path = tmp_path / "manifest.json"
    path.write_text(manifest.MANIFEST_PATH.read_text().replace(published.url, server.url))
    monkeypatch.setattr(manifest, "MANIFEST_PATH", path)
    return server.url


def test_command_downloads_a_file(own_manifest: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["resnet_v1_50", f"--out={tmp_path}/w"]) == 0
    assert (tmp_path / "w" / "resnet_v1_50.ckpt").read_bytes() == WEIGHTS
    assert capsys.readouterr().out.endswith(f"{tmp_path}/w/resnet_v1_50.ckpt\n")


@pytest.mark.parametrize("failure", ["refused", "missing"])
def test_failed_download_prints_one_line_with_the_remedy(
    own_manifest: str, server: Server, tmp_path: Path, capsys, failure: str
):
    if failure == "missing":
        server.status = 404
    else:
        text = manifest.MANIFEST_PATH.read_text()
        manifest.MANIFEST_PATH.write_text(
            text.replace(own_manifest, "http://127.0.0.1:1/weights.tar.gz")
        )
    assert main(["resnet_v1_50", f"--out={tmp_path}/w"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert ("refused" in error) if failure == "refused" else ("Not Found" in error)
    assert "weights.tar.gz on another machine, extract resnet_v1_50.ckpt" in error
    assert error.endswith(f"copy it to {tmp_path}/w/resnet_v1_50.ckpt.\n")


def test_unpublished_weights_are_an_error_with_their_source(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert main(["resnet_v1_50_pqf", f"--out={tmp_path}"]) == 1
    assert (
        "error: resnet_v1_50_pqf is not published for download. Source: resnet50_large.pth"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: pass the name of the weights, such as resnet_v1_50. --list lists them."),
        (
            ["resnet_v1_51"],
            "error: unknown weights 'resnet_v1_51'. Can be downloaded: resnet_v1_50. --list",
        ),
    ],
)
def test_missing_or_unknown_name_exits_2_and_names_what_can_be_downloaded(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_list_prints_a_table(capsys: pytest.CaptureFixture):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == table(load_manifest()).splitlines()
    assert lines[0].split() == ["name", "file", "layout", "download", "checksum", "licence"]
    assert lines[1].split()[:5] == ["resnet_v1_50", "resnet_v1_50.ckpt", "slim", "yes", "unknown"]
    cells = ["resnet_v1_50_pqf", "resnet_v1_50_pqf.ckpt", "v1.5", "no", "known"]
    assert lines[2].split()[:5] == cells
