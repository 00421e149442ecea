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


def test_the_published_file_is_known_and_its_checksum_is_not_invented():
    entry = load_manifest()["resnet_v1_50"]
    assert entry.download is not None
    assert (
        entry.download.url == "http://download.tensorflow.org/models/resnet_v1_50_2016_08_28.tar.gz"
    )
    assert (entry.download.member, entry.download.sha256) == ("resnet_v1_50.ckpt", None)
    assert (entry.info.layout, entry.info.subtract) == ("slim", (123.68, 116.779, 103.939))
    assert entry.info.files_sha256 == {"resnet_v1_50.ckpt": None}


def test_files_are_known_by_name_in_any_folder():
    info = describe("somewhere/resnet_v1_50_pqf.ckpt")
    assert info is not None
    assert (info.backbone, info.layout, info.subtract) == (
        "resnet_v1_50",
        "v1.5",
        (123.675, 116.28, 103.53),
    )
    assert describe("somewhere/other.ckpt") is None


def test_a_side_file_goes_before_the_manifest(tmp_path: Path):
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
def test_a_wrong_side_file_is_refused_by_name(tmp_path: Path, change: dict, message: str):
    value = dataclasses.asdict(INFO) | change
    side_file = tmp_path / "a.ckpt.json"
    side_file.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))
    with pytest.raises(ValueError, match=message) as error:
        describe(tmp_path / "a.ckpt")
    assert str(side_file) in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", "\udce9"])
def test_an_unreadable_side_file_is_refused_by_name(tmp_path: Path, content: str):
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
def test_a_wrong_manifest_names_the_entry(tmp_path: Path, old: str, new: str, message: str):
    path = tmp_path / "manifest.json"
    path.write_text(manifest.MANIFEST_PATH.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        load_manifest(path)


def test_verify_compares_prints_or_refuses(tmp_path: Path):
    checkpoint = tmp_path / "mine.ckpt"
    checkpoint.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1: SHA-256 of "abc"
    golden = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(checkpoint) == golden
    assert verify(checkpoint, INFO) == (
        f"mine.ckpt: sha256 {golden} (expected checksum unknown: not compared)",
    )
    assert verify(checkpoint, dataclasses.replace(INFO, files_sha256={"mine.ckpt": golden}))[
        0
    ].endswith("(as expected)")
    with pytest.raises(
        ValueError, match="mine.ckpt: sha256 is ba78.* The file is damaged or another one"
    ):
        compare_sha256(checkpoint, hashlib.sha256(b"abd").hexdigest())
    with pytest.raises(ValueError, match="absent.ckpt: not found; mine consists of absent.ckpt"):
        verify(checkpoint, dataclasses.replace(INFO, files_sha256={"absent.ckpt": None}))


def test_blocks_do_not_change_the_digest(tmp_path: Path):
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 9000)
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_describing_needs_the_standard_library_only():
    program = (
        "import sys, pretrained.manifest as m; m.describe('x'); sys.exit('numpy' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], cwd=manifest.MANIFEST_PATH.parents[1]
        ).returncode
        == 0
    )


@pytest.mark.shared
def test_the_file_at_hand_is_the_one_described(shared: Path):
    checkpoint = shared / "pretrained" / "resnet_v1_50_pqf.ckpt"
    info = describe(checkpoint)
    assert info is not None
    assert all(line.endswith("(as expected)") for line in verify(checkpoint, info))
