"""Recognise files of weights, and files given in their place, by their content."""

from __future__ import annotations

import shlex
import tarfile
import zipfile
from pathlib import Path

STATE_DICT = ("torch", "npz", "safetensors")
"""Kinds that hold the state dict of a PyTorch network."""
CONVERTED = ("keras", *STATE_DICT)
"""Kinds that `python -m pretrained.convert` reads."""
OTHER_NETWORK = "; for another network than ResNet-50, name it with --resnet_type"
# Bytes at the end of a checkpoint of format V1, and of the index of one of format V2.
# Source: tensorflow/core/lib/io/format.h, kTableMagicNumber in little-endian order.
TABLE_END = bytes.fromhex("57fb808b247547db")
STARTS = {
    b"\x89HDF\r\n\x1a\n": "keras",
    b"\x1f\x8b": "archive",
    b"BZh": "archive",
    b"\xfd7zXZ": "archive",
    b"7z\xbc\xaf": "archive",
    b"Rar!": "archive",
    b"version https://git-lfs": "lfs",
    b"\x93NUMPY": "one array",
    b"\x89PNG": "picture",
    b"\xff\xd8\xff": "picture",
    b"model_checkpoint_path": "state file",
}
READ_BYTES = 4096


def weight_kind(path: Path) -> str:
    """Return what a file is, by its content.

    Args:
        path: an existing file.

    Returns:
        "tensorflow" (a checkpoint of one file, or an index), one of CONVERTED, or another word;
        "unknown" for a file that is none of these, such as the first half of a download.
    """
    with open(path, "rb") as file:
        start = file.read(READ_BYTES)
        file.seek(max(0, path.stat().st_size - len(TABLE_END)))
        end = file.read()
    if not start:
        return "empty"
    if end == TABLE_END:
        return "tensorflow"
    for bytes_, kind in STARTS.items():
        if start.startswith(bytes_):
            return kind
    if start.startswith(b"PK"):
        return _kind_of_zip(path)
    if start[257:262] == b"ustar":
        return "archive"
    return _kind_of_text(start) or _kind_of_binary(start)


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        # Its directory is at its end, so a cut file has none; the ending must do.
        endings = {".pth": "torch", ".pt": "torch", ".npz": "npz", ".keras": "keras"}
        return endings.get(path.suffix.lower(), "archive")
    if "model.weights.h5" in names:
        return "keras"
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    return "npz" if any(name.endswith(".npy") for name in names) else "archive"


def _kind_of_text(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "web page"
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in start):
        return "text"
    return ""


def _kind_of_binary(start: bytes) -> str:
    # A pickle of protocol 2 or later, as PyTorch wrote it before version 1.6.
    if start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "torch"
    if start[8:9] == b"{" and start[4:8] == bytes(4):
        return "safetensors"
    if start[4:8] == b"TFL3":
        return "lite"
    # The first field of a protocol buffer: ONNX has a version there, a graph a node.
    if start[0] == 0x08 and start[2:3] in (b"\x12", b"\x3a"):
        return "onnx" if start[1] > 1 else "graph"
    return "graph" if start[0] == 0x0A else "unknown"


def convert_command(path: Path) -> str:
    """Return the command line that converts a file of weights."""
    out = path.with_name(f"{path.name.split('.')[0]}.ckpt")
    if out == path:
        out = path.with_name(f"{out.stem}_converted.ckpt")
    return f"python -m pretrained.convert {shlex.quote(str(path))} --out={shlex.quote(str(out))}"


def why_no_checkpoint(path: Path) -> str:
    """Return what a file is that was given in the place of a checkpoint, and what to do.

    Args:
        path: an existing file.

    Returns:
        A text that follows "PATH: ".
    """
    kind = weight_kind(path)
    if kind in CONVERTED:
        command = convert_command(path)
        out = command.partition("--out=")[2]
        names = {"keras": "Keras", "torch": "PyTorch"}
        other = OTHER_NETWORK if kind == "keras" else ""
        return (
            f"holds weights of {names.get(kind, kind)}, not a TensorFlow checkpoint. Convert it "
            f"with `{command}`, then pass --pretrained_model={out}{other}"
        )
    if kind == "archive":
        return _advice_for_archive(path)
    return ADVICE.get(kind, ADVICE["unknown"])


def _advice_for_archive(path: Path) -> str:
    member = ""
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                first = archive.next()
            member = "" if first is None else first.name
            command = f"tar -xf {shlex.quote(str(path))} -C {shlex.quote(str(path.parent))}"
            return (
                f"is a tar archive. Unpack it with `{command}`, then pass the checkpoint in it "
                f"(its first file is {member})"
            )
    except (OSError, EOFError, tarfile.TarError):
        pass
    return "is an archive, or a part of one. Unpack it and pass the checkpoint in it"


ADVICE = {
    "empty": "is empty (0 bytes): the download or copy failed. Fetch it again",
    "lfs": "is a pointer of Git LFS, not the weights. Run `git lfs pull` in its clone",
    "web page": "is a web page, not weights: the download needs a login or another address. "
    "Fetch it again",
    "text": "is a text file, not weights",
    "picture": "is a picture, not weights. Pass photographs with --data",
    "one array": "is one NumPy array, not weights by name",
    "state file": "is the state file of a folder of checkpoints",
    "lite": "is a TensorFlow Lite model, which has no variables. Pass the checkpoint that it "
    "was made from",
    "onnx": "is an ONNX network. Pass it with --onnx_model",
    "graph": "is a frozen graph or a SavedModel (protocol buffer), not a checkpoint. Pass the "
    "checkpoint that it was made from (NAME.ckpt, or NAME.index and NAME.data-*)",
    "unknown": "is not a TensorFlow checkpoint, or only the first part of one (the mark at its "
    "end is missing). Fetch or copy it again",
}
