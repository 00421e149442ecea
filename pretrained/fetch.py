"""Download published weights.

`python -m pretrained.fetch resnet_v1_50 [--out=DIR]` downloads one file; `--list` lists all known
weights. An interrupted download continues at the byte where it stopped. Only the checkpoint is
extracted from the archive, and never to a path that the archive gives.
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

from data_io.files.artifacts import atomic_path, write_json
from data_io.files.names import print_any_name
from data_io.files.output_files import home_path, naming
from data_io.messages import error_line
from pretrained.manifest import ManifestEntry, compare_sha256, load_manifest, verify

TIMEOUT_SECONDS = 60
BLOCK_BYTES = 1 << 16
# Limit against gzip bombs; the published checkpoint has about 100 MB.
MAX_MEMBER_BYTES = 2 << 30


class DownloadFailed(OSError):
    """Failed download; the bytes received so far stay in the `.part` file."""


def fetch(entry: ManifestEntry, out_dir: str | Path) -> Path:
    """Download, check and extract the weights of an entry, unless the file exists.

    Args:
        entry: of the manifest.
        out_dir: folder for the checkpoint.

    Returns:
        The path of the checkpoint.

    Raises:
        DownloadFailed: network or server failed; the message explains the download by hand.
        ValueError: the entry is not published, a checksum differs, or the archive does not contain
            the file.
    """
    checkpoint = Path(out_dir) / entry.checkpoint
    if checkpoint.exists():
        print(f"{checkpoint} already exists.")
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
            f"{entry.info.name}: the download failed ({reason}). Run again to continue it. "
            f"To do it by hand: download {entry.download.url} on another machine, extract "
            f"{entry.download.member} and copy it to {checkpoint}."
        ) from error
    try:
        print(compare_sha256(part, entry.download.sha256))
        extract_member(part, entry.download.member, checkpoint)
    finally:
        # A complete but wrong file must not be continued by the next run.
        _remove(part)
    for line in verify(checkpoint, entry.info):
        print(line)
    return checkpoint


def download(url: str, part: Path) -> None:
    """Download a file, or continue an earlier download if the file has not changed.

    `<part>.json` stores the server's ETag or Last-Modified, which shows whether the file is still
    the same.

    Args:
        url: of the file.
        part: where to write it.

    Raises:
        OSError: the network failed, or fewer bytes arrived than the server announced.
        HTTPError: the server has answered with an error.
        HTTPException: the server's answer is invalid.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    num_bytes, validator = _earlier_download(part)
    headers = {}
    if num_bytes and validator:
        headers = {"Range": f"bytes={num_bytes}-", "If-Range": validator}
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not headers:
            raise
        error.close()
        # The part is not shorter than the file on the server: start again.
        _remove(part)
        return download(url, part)
    with response:
        continued = response.status == http.client.PARTIAL_CONTENT
        start = _range_start(response.headers) if continued else 0
        if continued and start != num_bytes:
            raise OSError(f"the server continued at byte {start} instead of {num_bytes}")
        _receive(response, part, start, url.rsplit("/", 1)[-1])


def _receive(response: Any, part: Path, start: int, title: str) -> None:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length is not None else None
    write_json(f"{part}.json", {"mark": _validator(response.headers)})
    bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=title, disable=None)
    with open(part, "ab" if start else "wb") as file, bar:
        while block := response.read(BLOCK_BYTES):
            with naming(part):
                file.write(block)
            bar.update(len(block))
    num_bytes = part.stat().st_size
    if total is not None and num_bytes != total:
        raise OSError(f"the connection broke after {num_bytes} of {total} bytes")


def _earlier_download(part: Path) -> tuple[int, str | None]:
    """Return size and validator of an earlier download; (0, None) if there is none."""
    try:
        validator = json.loads(Path(f"{part}.json").read_text(encoding="utf-8"))["mark"]
        return part.stat().st_size, validator
    except (FileNotFoundError, ValueError, KeyError):
        return 0, None


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return a value for If-Range: a strong ETag, or else the date. Source: RFC 9110, 13.1.5."""
    etag = headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return headers.get("Last-Modified")


def _range_start(headers: Mapping[str, str]) -> int:
    """Return the first byte: `Content-Range: bytes 100-199/200` -> 100."""
    return int(headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0])


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    Path(f"{part}.json").unlink(missing_ok=True)


def extract_member(archive: Path, member: str, out: Path) -> None:
    """Copy one regular file from a tar archive.

    Paths in the archive are never used to write.

    Args:
        archive: the tar file.
        member: exact name of the file in it.
        out: path to write.

    Raises:
        ValueError: the archive cannot be read, or the file is missing, not regular or too large.
    """
    try:
        with tarfile.open(archive) as tar:
            item = next((item for item in tar if item.name.removeprefix("./") == member), None)
            content = tar.extractfile(item) if item is not None and item.isfile() else None
            if item is None or content is None:
                raise ValueError(
                    f"{archive}: contains no regular file {member!r}; it is not the published "
                    "archive."
                )
            if item.size > MAX_MEMBER_BYTES:
                raise ValueError(
                    f"{archive}: {member} would have {item.size} bytes; the limit is "
                    f"{MAX_MEMBER_BYTES}."
                )
            with atomic_path(out) as temporary, open(temporary, "wb") as file:
                shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(
            f"{archive}: could not be unpacked ({error}). It has been deleted; run again."
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
    """Download or list weights with the given flags; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pretrained.fetch", description="Download published weights."
    )
    parser.add_argument("name", nargs="?", help="name of the weights, e.g. resnet_v1_50")
    out_help = "folder for the weights (default: %(default)s)"
    add = parser.add_argument
    add("--out", type=home_path, default="pre_trained", metavar="DIR", help=out_help)
    parser.add_argument("--list", action="store_true", help="list the known weights and exit")
    print_any_name()
    args = parser.parse_args(argv)
    entries = load_manifest()
    if args.list:
        print(table(entries))
        return 0
    if args.name is None:
        parser.error("pass the name of the weights, such as resnet_v1_50. --list lists them.")
    if args.name not in entries:
        published = [name for name, entry in entries.items() if entry.download]
        parser.error(
            f"unknown weights {args.name!r}. Can be downloaded: {', '.join(published)}. "
            "--list lists all."
        )
    try:
        print(fetch(entries[args.name], args.out))
    except (OSError, ValueError) as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped. Run again to continue.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
