"""Describe weights files: backbone, stride layout, input scaling, licence, checksums.

With a wrong layout or wrong channel means, weights load without an error, but a third of the
accuracy is lost. So each file needs a description: in `<checkpoint>.json` beside it, which
`pretrained.convert` writes, or in `manifest.json` under its file name. This module uses only the
standard library.
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
ENTRY_KEYS = (
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
INPUT_KEYS = ("channels", "range", "subtract")


@dataclass(frozen=True)
class WeightsInfo:
    """Description of a weights file.

    Attributes:
        name: of the weights.
        backbone: name of the network.
        layout: `slim` (stride in the last unit of a block, pool1 SAME), `keras` (the same strides,
            pool1 padded by one pixel on each side) or `v1.5` (torchvision: stride in the 3x3
            convolution of the next block's first unit, pool1 padded by one).
        channels: order of the input's channels; always "RGB".
        subtract: mean of each channel; the input of the network is RGB in 0..255 minus these.
        licence: of the weights.
        source: where the weights come from.
        files_sha256: file name -> hex digest; None if the checksum is not known.
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
    """Published archive with a checkpoint.

    Attributes:
        url: of the archive.
        member: file in the archive that is the checkpoint.
        sha256: of the archive; None if it is not known.
    """

    url: str
    member: str
    sha256: str | None


@dataclass(frozen=True)
class ManifestEntry:
    """Entry of the manifest.

    Attributes:
        checkpoint: file name of the weights.
        description: for readers of the manifest.
        download: where to get the weights; None if they are not published.
        info: description of the weights.
    """

    checkpoint: str
    description: str
    download: Download | None
    info: WeightsInfo


def require_keys(value: Any, known: Iterable[str], where: str) -> dict[str, Any]:
    """Check that a JSON value is an object with exactly the known keys.

    Args:
        value: the JSON value.
        known: the keys.
        where: place of the value, for the message.

    Returns:
        The value.

    Raises:
        ValueError: it is not an object, or a key is unknown or missing.
    """
    known = list(known)
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object with the keys {', '.join(known)}.")
    unknown = sorted(set(value) - set(known))
    missing = sorted(set(known) - set(value))
    if unknown or missing:
        named = {"unknown": unknown, "missing": missing}
        faults = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in named.items() if keys)
        raise ValueError(f"{where}: keys {faults}. Known keys: {', '.join(known)}.")
    return value


def load_manifest(path: Path | None = None) -> dict[str, ManifestEntry]:
    """Read the manifest.

    Args:
        path: the file; None: `manifest.json` of this package.

    Returns:
        Name of the weights -> entry.

    Raises:
        ValueError: the file or an entry is wrong.
    """
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
    """Return the description of a checkpoint, from its side file or the manifest.

    Args:
        checkpoint: path prefix.

    Returns:
        The description; None if there is none.

    Raises:
        ValueError: the side file cannot be read.
    """
    checkpoint = Path(checkpoint)
    side_file = side_file_of(checkpoint)
    if side_file.exists():
        known = [field.name for field in fields(WeightsInfo)]
        value = require_keys(_read_json(side_file), known, str(side_file))
        return _parse(WeightsInfo, value, str(side_file))
    for entry in load_manifest().values():
        if entry.checkpoint == checkpoint.name:
            return entry.info
    return None


def side_file_of(checkpoint: str | Path) -> Path:
    """Return the path of the JSON file that describes a checkpoint."""
    return Path(f"{checkpoint}.json")


def verify(checkpoint: str | Path, info: WeightsInfo) -> tuple[str, ...]:
    """Compare the checksums of all files of a checkpoint.

    Args:
        checkpoint: path prefix.
        info: names the files, which are in the folder of the checkpoint.

    Returns:
        One line of text per file.

    Raises:
        ValueError: a file is missing or has another checksum.
    """
    lines = []
    for file_name, expected in info.files_sha256.items():
        path = Path(checkpoint).parent / file_name
        if not path.is_file():
            file_names = ", ".join(info.files_sha256)
            raise ValueError(f"{path}: not found; {info.name} consists of {file_names}.")
        lines.append(compare_sha256(path, expected))
    return tuple(lines)


def compare_sha256(path: Path, expected: str | None) -> str:
    """Compute the checksum of a file and compare it.

    Args:
        path: the file.
        expected: hex digest; None: only print the checksum.

    Returns:
        One line of text with the checksum.

    Raises:
        ValueError: the checksum differs.
    """
    digest = sha256_of(path)
    if expected is None:
        return f"{path.name}: sha256 {digest} (expected checksum unknown: not compared)"
    if digest != expected:
        raise ValueError(
            f"{path}: sha256 is {digest}, not {expected}. The file is damaged or another one: "
            "download it again."
        )
    return f"{path.name}: sha256 {digest} (as expected)"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
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
    value = dict(require_keys(value, ENTRY_KEYS, where))
    scaling = dict(require_keys(value.pop("input"), INPUT_KEYS, f"{where}, input"))
    if scaling.pop("range") != INPUT_RANGE:
        raise ValueError(f"{where}, input: range must be {INPUT_RANGE}.")
    checkpoint = value.pop("checkpoint")
    description = value.pop("description")
    download = value.pop("download")
    if download is not None:
        known = [field.name for field in fields(Download)]
        download = Download(**require_keys(download, known, f"{where}, download"))
    value["files_sha256"] = value.pop("sha256")
    info = _parse(WeightsInfo, {**value, **scaling}, where)
    return ManifestEntry(checkpoint, description, download, info)
