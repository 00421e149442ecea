"""Test int8 networks against float32: embeddings are near, digests differ, quantised once."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_io.datasets import list_images
from data_io.records import ImageList
from delf_ext.features.embedder import Embedder
from delf_ext.features.network_embedders import in_openvino
from delf_ext.features.runtimes.int8 import in_openvino_int8, spread

SIZE_PX = 32
EXTRA = 'pip install -e ".[int8]" in the clone.'


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> ImageList:
    """Write images of coloured noise of many scales, and one file that is not an image."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(8):
        noise = Image.fromarray(rng.integers(0, 256, (2 + number, 3, 3), np.uint8)).resize((40, 40))
        noise.save(folder / f"{number}.png")
    (folder / "9.png").write_text("none")
    return list_images(folder)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    tf.keras.utils.set_random_seed(0)
    layers = [tf.keras.layers.Conv2D(width, 3, 2, activation="relu") for width in (16, 32)]
    network = tf.keras.Sequential([*layers, tf.keras.layers.GlobalAveragePooling2D()])
    network(tf.zeros([1, SIZE_PX, SIZE_PX, 3]))
    graph = tf.function(
        lambda images: tf.math.l2_normalize(network(tf.cast(images, tf.float32) / 64 - 2), -1),
        input_signature=[tf.TensorSpec([None, SIZE_PX, SIZE_PX, 3], tf.uint8)],
    )
    embed = lambda images: graph(tf.constant(images)).numpy()  # noqa: E731
    return Embedder("tiny", SIZE_PX, "float", embed, lambda: graph)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def int8(embedder: Embedder, photographs: ImageList, folder: Path) -> Embedder:
    pytest.importorskip("openvino", reason=EXTRA), pytest.importorskip("nncf", reason=EXTRA)
    return in_openvino_int8(embedder, photographs, folder)


def test_int8_embeddings_are_near_float32_and_the_digest_differs(
    int8: Embedder,
    embedder: Embedder,
    folder: Path,
):
    pixels = np.random.default_rng(1).integers(0, 256, (4, SIZE_PX, SIZE_PX, 3), np.uint8)
    embeddings = int8.embed(pixels)
    expected = embedder.embed(pixels)
    assert (embeddings * expected).sum(1).min() > 0.999
    assert np.abs(embeddings - expected).max() > 1e-6
    assert int8.digest not in ("", embedder.digest)
    assert (int8.name, int8.image_size) == (embedder.name, SIZE_PX)
    np.testing.assert_allclose(int8.embed(pixels[:1]), embeddings[:1], atol=1e-5)
    assert "FakeQuantize" in (folder / f"{int8.digest}-int8" / "network.xml").read_text()


def test_network_is_quantised_once_and_the_images_are_printed(
    int8: Embedder,
    embedder: Embedder,
    photographs: ImageList,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(
        "delf_ext.features.runtimes.int8.quantize", lambda *_: pytest.fail("quantised again")
    )
    assert in_openvino_int8(embedder, photographs, folder).digest == int8.digest
    first, last = photographs.paths[[0, -1]]
    *_, warning, note = capsys.readouterr().out.splitlines()
    assert warning.startswith("warning: int8 calibrated on fewer than 60 images")
    assert note == (
        f"int8: calibrated before on 9 of 9 images, {first} to {last} "
        f"({folder}/{int8.digest}-int8/network.xml)"
    )
    # No incomplete result is left.
    assert sorted(path.name for path in folder.iterdir()) == [f"{int8.digest}-int8", "float.pb"]


def test_damaged_files_in_the_cache_are_made_again_or_named(
    embedder: Embedder, photographs: ImageList, int8: Embedder, folder: Path, tmp_path: Path
):
    images = np.zeros((2, SIZE_PX, SIZE_PX, 3), np.uint8)
    expected = in_openvino(embedder, tmp_path).embed(images)
    graph = tmp_path / f"{embedder.digest}.pb"
    graph.write_bytes(graph.read_bytes()[:500])
    assert in_openvino(embedder, tmp_path).embed(images) == pytest.approx(expected, abs=1e-5)
    assert graph.stat().st_size > 500
    shutil.copytree(folder / f"{int8.digest}-int8", tmp_path / f"{int8.digest}-int8")
    (tmp_path / f"{int8.digest}-int8" / "network.bin").write_bytes(b"half")
    damaged = in_openvino_int8(embedder, photographs, tmp_path)
    with pytest.raises(ValueError, match=r"Delete the folder .*-int8 and run again\.$"):
        damaged.embed(images)


def test_weights_and_images_change_the_digest(
    embedder: Embedder, photographs: ImageList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("delf_ext.features.runtimes.int8.quantize", lambda *_: None)
    network = SimpleNamespace(compiled=lambda output: embedder.embed)
    monkeypatch.setattr("delf_ext.features.runtimes.int8.open_network", lambda *_: network)
    other = dataclasses.replace(embedder, digest="other")
    asked = [(embedder, photographs), (other, photographs), (embedder, photographs.take(range(7)))]
    digests = [in_openvino_int8(model, images, tmp_path).digest for model, images in asked]
    assert len(set(digests)) == 3 and in_openvino_int8(*asked[0], tmp_path).digest == digests[0]


def test_spread_takes_images_at_even_distances():
    images = ImageList(ids=np.arange(1001).astype(str), paths=np.arange(1001).astype(str))
    assert spread(images, 5).ids.tolist() == ["0", "250", "500", "750", "1000"]
    assert spread(images, 2000).ids.tolist() == images.ids.tolist()


def test_error_without_the_package_names_the_extra(
    embedder: Embedder, photographs: ImageList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(
        ValueError,
        match=rf"^--runtime=openvino-int8 needs OpenVINO and NNCF: {re.escape(EXTRA)}$",
    ):
        in_openvino_int8(embedder, photographs, tmp_path)


def test_no_readable_image_raises_value_error(
    embedder: Embedder,
    photographs: ImageList,
    tmp_path: Path,
):
    with pytest.raises(
        ValueError,
        match=r"^--runtime=openvino-int8: none of 1 images to calibrate on could be read\.$",
    ):
        in_openvino_int8(embedder, photographs.take([8]), tmp_path)
