"""Recognise what was given in the place of a checkpoint; advise what to do."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_io.weight_kinds import TABLE_END, convert_command, weight_kind, why_no_checkpoint


def zip_of(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return content.getvalue()


def tar_of(name: str, mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo(name))
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "kind", "advice"),
    [
        (b"", "empty", "is empty (0 bytes): the download or copy failed. Fetch it again"),
        (b"\0" * 60 + TABLE_END, "tensorflow", ""),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "keras", "holds weights of Keras"),
        (zip_of("config.json", "model.weights.h5"), "keras", "holds weights of Keras"),
        (zip_of("resnet/data.pkl", "resnet/data/0"), "torch", "holds weights of PyTorch"),
        (pickle.dumps({"a": 1}, protocol=2), "torch", "holds weights of PyTorch"),
        (zip_of("conv1.weight.npy"), "npz", "holds weights of npz"),
        (zip_of("resnet_v1_50.ckpt"), "archive", "Unpack it"),
        (bytes([20, 0, 0, 0, 0, 0, 0, 0]) + b'{"a": {"dtype": "F32"}}', "safetensors", "Convert"),
        (tar_of("resnet_v1_50.ckpt", "w"), "archive", "its first file is resnet_v1_50.ckpt"),
        (tar_of("resnet_v1_50.ckpt", "w:gz"), "archive", "its first file is resnet_v1_50.ckpt"),
        (tar_of("resnet_v1_50.ckpt", "w:gz")[:40], "archive", "an archive, or a part of one"),
        (gzip.compress(b"x" * 99), "archive", "an archive, or a part of one"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "lfs", "`git lfs pull`"),
        (b"\n<!DOCTYPE HTML><html>", "web page", "the download needs a login"),
        (b"<html><body>404", "web page", "the download needs a login"),
        (b"Not Found", "text", "is a text file"),
        (b'model_checkpoint_path: "m-1"\n', "state file", "is the state file"),
        (b"\x0a\x05model", "graph", "is a frozen graph or a SavedModel"),
        (b"\x08\x01\x12\x80\x01\xff\xfe", "graph", "is a frozen graph or a SavedModel"),
        (b"\x08\x08\x12\x07pytorch\xff", "onnx", "Pass it with --onnx_model"),
        (b"\x1c\0\0\0TFL3" + bytes(20), "lite", "TensorFlow Lite"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "picture", "Pass photographs with --data"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "picture", "Pass photographs with --data"),
        (b"\x93NUMPY\x01\0" + bytes(20), "one array", "one NumPy array"),
        (bytes(range(7, 200)), "unknown", "or only the first part of one"),
    ],
    # Archives hold the time, and the name of a test must not change.
    ids=lambda value: value if isinstance(value, str) else "content",
)
def test_kind_and_advice(tmp_path: Path, content: bytes, kind: str, advice: str):
    # The ending says something else: the content decides.
    path = tmp_path / "resnet_v1_50.ckpt"
    path.write_bytes(content)
    assert weight_kind(path) == kind
    assert advice in why_no_checkpoint(path)


def test_command_can_be_copied(tmp_path: Path):
    path = tmp_path / "my nets" / "resnet50.weights.h5"
    path.parent.mkdir()
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    out = f"'{path.parent}/resnet50.ckpt'"
    command = f"python -m pretrained.convert '{path}' --out={out}"
    assert convert_command(path) == command
    assert why_no_checkpoint(path) == (
        "holds weights of Keras, not a TensorFlow checkpoint. Convert it "
        f"with `{command}`, then pass --pretrained_model={out}; "
        "for another network than ResNet-50, name it with --resnet_type"
    )
    # The result never replaces the file itself.
    assert convert_command(Path("a/net.ckpt")).endswith(" a/net.ckpt --out=a/net_converted.ckpt")


def test_npz_of_numpy_is_recognised(tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=np.zeros(2))
    assert weight_kind(tmp_path / "a.npz") == "npz"
