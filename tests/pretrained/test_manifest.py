from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pretrained import manifest
from pretrained.manifest import (
    WeightsInfo,
    compare_sha256,
    describe,
    load_manifest,
    sha256_of,
    side_file_of,
    verify,
)

INFO = WeightsInfo(
    "mine", "resnet_v1_50", "keras", "RGB", (1.0, 2.0, 3.0), "MIT", "made here", {"mine.ckpt": None}
)


def test_manifest_knows_the_published_file_without_checksum():
    entry = load_manifest()["resnet_v1_50"]
    assert entry.download is not None
    url = "http://download.tensorflow.org/models/resnet_v1_50_2016_08_28.tar.gz"
    assert entry.download.url == url
    assert (entry.download.member, entry.download.sha256) == ("resnet_v1_50.ckpt", None)
    assert (entry.info.layout, entry.info.subtract) == ("slim", (123.68, 116.779, 103.939))
    assert entry.info.files_sha256 == {"resnet_v1_50.ckpt": None}


def test_describe_finds_a_file_by_name_in_any_folder():
    info = describe("somewhere/resnet_v1_50_pqf.ckpt")
    assert info is not None
    assert (info.backbone, info.layout) == ("resnet_v1_50", "v1.5")
    assert info.subtract == (123.675, 116.28, 103.53)
    assert describe("somewhere/other.ckpt") is None


def test_describe_prefers_the_side_file_to_the_manifest(tmp_path: Path):
    checkpoint = tmp_path / "resnet_v1_50.ckpt"
    side_file_of(checkpoint).write_text(json.dumps(dataclasses.asdict(INFO)))
    assert describe(checkpoint) == INFO


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown: colour. Known keys: name, backbone, layout"),
        ({"name": None}, "missing: name"),
        ({"layout": "v2"}, "layout must be one of slim, keras, v1.5. Received 'v2'"),
        ({"channels": "BGR"}, "channels must be RGB. Received 'BGR'"),
        ({"subtract": [1, 2]}, "subtract must hold one number per channel"),
        ({"subtract": 7}, "not iterable"),
    ],
)
def test_wrong_side_file_is_an_error_with_its_path(tmp_path: Path, change: dict, message: str):
    value = dataclasses.asdict(INFO) | change
    side_file = tmp_path / "a.ckpt.json"
    side_file.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))
    with pytest.raises(ValueError, match=message) as error:
        describe(tmp_path / "a.ckpt")
    assert str(side_file) in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", "\udce9"])
def test_unreadable_side_file_is_an_error_with_its_path(tmp_path: Path, content: str):
    (tmp_path / "a.ckpt.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"a\.ckpt\.json: "):
        describe(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format": 1', '"format": 2', "format must be 1"),
        ('"range": "0..255"', '"range": "0..1"', r"range must be 0\.\.255"),
        ('"member"', '"file"', "entry 0, download: keys unknown: file; missing: member"),
        ('"licence"', '"license"', "entry 0: keys unknown: license; missing: licence"),
    ],
)
def test_wrong_manifest_is_an_error_with_the_entry(
    tmp_path: Path, old: str, new: str, message: str
):
    path = tmp_path / "manifest.json"
    path.write_text(manifest.MANIFEST_PATH.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        load_manifest(path)


def test_verify_compares_known_checksums_and_prints_unknown_ones(tmp_path: Path):
    checkpoint = tmp_path / "mine.ckpt"
    checkpoint.write_bytes(b"abc")
    # SHA-256 of "abc". Source: FIPS 180-2, appendix B.1.
    golden = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(checkpoint) == golden
    assert verify(checkpoint, INFO) == (
        f"mine.ckpt: sha256 {golden} (expected checksum unknown: not compared)",
    )
    with_checksum = dataclasses.replace(INFO, files_sha256={"mine.ckpt": golden})
    assert verify(checkpoint, with_checksum)[0].endswith("(as expected)")
    with pytest.raises(
        ValueError, match="mine.ckpt: sha256 is ba78.* The file is damaged or another one"
    ):
        compare_sha256(checkpoint, hashlib.sha256(b"abd").hexdigest())
    with pytest.raises(ValueError, match="absent.ckpt: not found; mine consists of absent.ckpt"):
        verify(checkpoint, dataclasses.replace(INFO, files_sha256={"absent.ckpt": None}))


def test_sha256_of_reads_files_longer_than_a_block(tmp_path: Path):
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 9000)
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_describe_needs_only_the_standard_library():
    program = (
        "import sys, pretrained.manifest as m; m.describe('x'); sys.exit('numpy' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    process = subprocess.run(command, cwd=manifest.MANIFEST_PATH.parents[1])
    assert process.returncode == 0


@pytest.mark.shared
def test_shared_checkpoint_has_the_checksums_of_the_manifest(shared: Path):
    checkpoint = shared / "pretrained" / "resnet_v1_50_pqf.ckpt"
    info = describe(checkpoint)
    assert info is not None
    assert all(line.endswith("(as expected)") for line in verify(checkpoint, info))
