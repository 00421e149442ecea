"""Gets published weights: `python -m pretrained.fetch resnet_v1_50 [--out=DIR]`; `--list` shows what is known.

A download that broke off is continued where it stopped. The wanted member alone leaves the archive, under a path of our own.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from data_io.artifacts import atomic_path, write_json
from pretrained.manifest import ManifestEntry, compare_sha256, load_manifest, verify

TIMEOUT_SECONDS = 60
BLOCK_BYTES = 1 << 16
MAX_MEMBER_BYTES = (
    2 << 30
)  # a gzip bomb must not fill the disk; the published checkpoint has about 100 MB


class DownloadFailed(OSError):
    """The archive could not be had; what has arrived stays in its `.part` file."""


def fetch(entry: ManifestEntry, out_dir: str | Path) -> Path:
    """Downloads, checks and unpacks one entry; returns the checkpoint's path. Does nothing when it is already there.

    Raises: DownloadFailed when the network or the server fails; ValueError for an entry that is not published, a wrong
    checksum or an archive without the wanted file. The message says what to do by hand.
    """
    checkpoint = Path(out_dir) / entry.checkpoint
    if checkpoint.exists():
        print(f"{checkpoint} is already there.")
        return checkpoint
    if entry.download is None:
        raise ValueError(
            f"{entry.info.name} is not published for download. Source: {entry.info.source}."
        )
    part = checkpoint.with_name(f"{entry.download.url.rsplit('/', 1)[-1]}.part")
    try:
        download(entry.download.url, part)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise DownloadFailed(
            f"{entry.info.name}: no download ({reason}). Run again to continue; or by hand: get {entry.download.url} on "
            f"another machine, unpack {entry.download.member} from it and put that file at {checkpoint}."
        ) from error
    try:
        print(compare_sha256(part, entry.download.sha256))
        extract_member(part, entry.download.member, checkpoint)
    finally:
        _remove(part)  # whole but wrong: a rerun must not continue it
    for line in verify(checkpoint, entry.info):
        print(line)
    return checkpoint


def download(url: str, part: Path) -> None:
    """Fills `part` with what lies at `url`; continues an earlier try when the server says that the file is still the same.

    The server's mark of the file (ETag or Last-Modified) lies beside it in `<part>.json`. Raises: OSError, HTTPException,
    and OSError when fewer bytes came than announced.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    have, mark = _earlier_try(part)
    headers = {"Range": f"bytes={have}-", "If-Range": mark} if have and mark else {}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not headers:
            raise
        error.close()
        _remove(part)  # as long as, or longer than, the file on the server: begin anew
        return download(url, part)
    with response:
        continued = response.status == http.client.PARTIAL_CONTENT
        start = _range_start(response.headers) if continued else 0
        if continued and start != have:
            raise OSError(f"the server continued at byte {start} instead of {have}")
        _receive(response, part, start, url.rsplit("/", 1)[-1])


def _receive(response: Any, part: Path, start: int, title: str) -> None:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length is not None else None
    write_json(f"{part}.json", {"mark": _mark(response.headers)})
    bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=title, disable=None)
    with open(part, "ab" if start else "wb") as file, bar:
        while block := response.read(BLOCK_BYTES):
            file.write(block)
            bar.update(len(block))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"the connection broke after {part.stat().st_size} of {total} bytes")


def _earlier_try(part: Path) -> tuple[int, str | None]:
    """Bytes that have arrived, and the mark of the file they belong to; (0, None) when there is nothing to continue."""
    try:
        mark = json.loads(Path(f"{part}.json").read_text(encoding="utf-8"))["mark"]
        return part.stat().st_size, mark
    except (FileNotFoundError, ValueError, KeyError):
        return 0, None


def _mark(headers: Mapping[str, str]) -> str | None:
    """What If-Range may name: a strong ETag, else the date (RFC 9110, 13.1.5)."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _range_start(headers: Mapping[str, str]) -> int:
    """`Content-Range: bytes 100-199/200` -> 100; ValueError when there is no such header."""
    return int(headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0])


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    Path(f"{part}.json").unlink(missing_ok=True)


def extract_member(archive: Path, member: str, out: Path) -> None:
    """Copies one regular file out of a tar archive to `out`; no path inside the archive is ever used as a path.

    Raises: ValueError when the archive cannot be read, or holds no regular file of exactly that name.
    """
    try:
        with tarfile.open(archive) as tar:
            found = next((item for item in tar if item.name.removeprefix("./") == member), None)
            content = tar.extractfile(found) if found is not None and found.isfile() else None
            if found is None or content is None:
                raise ValueError(
                    f"{archive}: holds no regular file {member!r}; it is not the published archive."
                )
            if found.size > MAX_MEMBER_BYTES:
                raise ValueError(
                    f"{archive}: {member} would be {found.size} bytes; at most {MAX_MEMBER_BYTES} are taken."
                )
            with atomic_path(out) as temporary, open(temporary, "wb") as file:
                shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(
            f"{archive}: could not be unpacked ({error}); it has been deleted, run again."
        ) from error


def table(entries: Mapping[str, ManifestEntry]) -> str:
    """Format the manifest as an aligned table with one line per entry."""
    rows = [("name", "file", "layout", "download", "checksum", "licence")]
    for name, entry in entries.items():
        download = "yes" if entry.download else "no"
        checksum = "known" if all(entry.info.files_sha256.values()) else "unknown"
        info = entry.info
        rows.append((name, entry.checkpoint, info.layout, download, checksum, info.licence))
    text = tabulate(rows, tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pretrained.fetch", description="Gets published weights."
    )
    parser.add_argument("name", nargs="?", help="which weights, e.g. resnet_v1_50")
    parser.add_argument(
        "--out",
        default="pre_trained",
        metavar="DIR",
        help="folder to put them in (default: %(default)s)",
    )
    parser.add_argument("--list", action="store_true", help="show what is known and stop")
    args = parser.parse_args(argv)
    entries = load_manifest()
    if args.list:
        print(table(entries))
        return 0
    if args.name not in entries:
        parser.error(f"name must be one of {', '.join(entries)}. Received {args.name}.")
    try:
        print(fetch(entries[args.name], args.out))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run again to continue.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
