"""What each weights file is: backbone, stride layout, input scaling, licence, checksums. Standard library only.

The wrong layout or the wrong channel means load without an error and cost a third of the accuracy, so a file has to say which
they are: either in `<checkpoint>.json` beside it (written by `pretrained.convert`) or in `manifest.json` under its file name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

MANIFEST_PATH = Path(__file__).with_name("manifest.json")
LAYOUTS = ("slim", "keras", "v1.5")
INPUT_RANGE = "0..255"


@dataclass(frozen=True)
class WeightsInfo:
    """One weights file. Its network's input is RGB in 0..255 minus `subtract`, one number per channel.

    layout: `slim` (stride in a block's last unit, pool1 SAME), `keras` (the same strides, pool1 padded by one pixel on each
    side), `v1.5` (torchvision: stride in the 3x3 of the next block's first unit, pool1 padded by one).
    files_sha256: file name -> hex digest, or None where the checksum is not known.
    """

    name: str
    backbone: str
    layout: str
    channels: str
    subtract: tuple[float, float, float]
    licence: str
    source: str
    files_sha256: dict[str, str | None]

    def __post_init__(self) -> None:
        object.__setattr__(self, "subtract", tuple(float(mean) for mean in self.subtract))
        if self.layout not in LAYOUTS:
            raise ValueError(
                f"layout must be one of {', '.join(LAYOUTS)}. Received {self.layout!r}."
            )
        if self.channels != "RGB":
            raise ValueError(f"channels must be RGB. Received {self.channels!r}.")
        if len(self.subtract) != 3:
            raise ValueError(
                f"subtract must hold one number per channel. Received {self.subtract}."
            )


@dataclass(frozen=True)
class Download:
    """Where a published archive lies, which of its members is the checkpoint, and the archive's sha256 (None: not known)."""

    url: str
    member: str
    sha256: str | None


@dataclass(frozen=True)
class ManifestEntry:
    """A line of the manifest: the weights, the file name they go by, and how to get them (None: not published)."""

    checkpoint: str
    description: str
    download: Download | None
    info: WeightsInfo


def require_keys(value: Any, known: Iterable[str], where: str) -> dict[str, Any]:
    """Returns `value` when it is a dict with exactly the known keys; otherwise ValueError naming `where` and the keys."""
    known = list(known)
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object with the keys {', '.join(known)}.")
    unknown, missing = sorted(set(value) - set(known)), sorted(set(known) - set(value))
    if unknown or missing:
        wrong = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [
            f"missing: {', '.join(missing)}"
        ] * bool(missing)
        raise ValueError(f"{where}: keys {'; '.join(wrong)}. Known keys: {', '.join(known)}.")
    return value


def load_manifest(path: Path | None = None) -> dict[str, ManifestEntry]:
    """The manifest as name -> entry. Raises: ValueError naming the file and the entry that is wrong."""
    path = path or MANIFEST_PATH
    content = require_keys(_read_json(path), ("format", "weights"), str(path))
    if content["format"] != 1:
        raise ValueError(f"{path}: format must be 1. Received {content['format']!r}.")
    entries = [
        _parse_entry(value, f"{path}, entry {number}")
        for number, value in enumerate(content["weights"])
    ]
    return {entry.info.name: entry for entry in entries}


def describe(checkpoint: str | Path) -> WeightsInfo | None:
    """What a checkpoint (its path prefix) is, or None when nobody has said so.

    Raises: ValueError naming the side file `<checkpoint>.json` when it is there but not readable.
    """
    checkpoint = Path(checkpoint)
    side_file = side_file_of(checkpoint)
    if side_file.exists():
        value = require_keys(
            _read_json(side_file), [field.name for field in fields(WeightsInfo)], str(side_file)
        )
        return _parse(WeightsInfo, value, str(side_file))
    matching = (
        entry.info for entry in load_manifest().values() if entry.checkpoint == checkpoint.name
    )
    return next(matching, None)


def side_file_of(checkpoint: str | Path) -> Path:
    return Path(f"{checkpoint}.json")


def verify(checkpoint: str | Path, info: WeightsInfo) -> tuple[str, ...]:
    """Compares the sha256 of each file of `info`, which lie in the checkpoint's folder; one line of text per file.

    Raises: ValueError when a file is missing or its checksum is another one. An unknown checksum is stated, not compared.
    """
    lines = []
    for file_name, expected in info.files_sha256.items():
        path = Path(checkpoint).parent / file_name
        if not path.is_file():
            raise ValueError(
                f"{path}: not found; {info.name} consists of {', '.join(info.files_sha256)}."
            )
        lines.append(compare_sha256(path, expected))
    return tuple(lines)


def compare_sha256(path: Path, expected: str | None) -> str:
    """One line that says what was found. Raises: ValueError on a mismatch."""
    found = sha256_of(path)
    if expected is None:
        return f"{path.name}: sha256 {found} (checksum unknown: printed, not compared)"
    if found != expected:
        raise ValueError(
            f"{path}: sha256 is {found}, not {expected}. The file is damaged or another one: get it again."
        )
    return f"{path.name}: sha256 {found} (as expected)"


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error}).") from None


def _parse(record_type: Any, value: dict[str, Any], where: str) -> Any:
    try:
        return record_type(**value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def _parse_entry(value: Any, where: str) -> ManifestEntry:
    known = (
        "name",
        "checkpoint",
        "description",
        "source",
        "download",
        "sha256",
        "licence",
        "backbone",
        "layout",
        "input",
    )
    value = dict(require_keys(value, known, where))
    scaling = dict(
        require_keys(value.pop("input"), ("channels", "range", "subtract"), f"{where}, input")
    )
    if scaling.pop("range") != INPUT_RANGE:
        raise ValueError(f"{where}, input: range must be {INPUT_RANGE}.")
    checkpoint, description, download = (
        value.pop("checkpoint"),
        value.pop("description"),
        value.pop("download"),
    )
    if download is not None:
        download = Download(
            **require_keys(download, ("url", "member", "sha256"), f"{where}, download")
        )
    value["files_sha256"] = value.pop("sha256")
    info = _parse(WeightsInfo, {**value, **scaling}, where)
    return ManifestEntry(checkpoint, description, download, info)
