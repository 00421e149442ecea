"""Test small ONNX networks with sidecars against NumPy in each runtime, and refused files."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_io.records import ImageList
from delf_ext.features.embedder import Embedder
from delf_ext.features.extraction import extract_global
from delf_ext.features.runtimes.networks import RUNTIMES, installed_runtime, open_network
from delf_ext.features.runtimes.onnx_embedder import (
    SIDECAR_EXAMPLE,
    Sidecar,
    onnx_embedder,
    read_sidecar,
)

onnx = pytest.importorskip(
    "onnx", reason="the networks are written with onnx: pip install -e '.[dev]'"
)

SIZE_PX, DIM = 6, 4
WEIGHTS = np.random.default_rng(0).normal(size=(DIM, 3)).astype(np.float32)
IMAGES = np.random.default_rng(1).integers(0, 256, (5, SIZE_PX, SIZE_PX, 3), np.uint8)
INSTALL = re.escape('pip install -e ".[fast]" in the clone.')
PLAIN = {"image_size": SIZE_PX, "scaling": "0..1", "output": "vector"}


def export(
    path: Path,
    sidecar: dict | None,
    *,
    batch: Any = "B",
    kind: str = "FLOAT",
    nhwc: bool = False,
    inputs: int = 1,
    rows: int = 0,
    size: int | str = SIZE_PX,
) -> Path:
    """Write a network with a 1x1 convolution (WEIGHTS) and several outputs.

    Outputs: `pixels` [B, DIM, S, S]; their mean as `vector` [B, DIM] and `pooled` [B, DIM, 1, 1];
    `tokens` [B, pixels, DIM]; `broken` [B, DIM], which is not a number.
    """
    helper, types = onnx.helper, onnx.TensorProto
    shape = [batch, size, size, 3] if nhwc else [batch, 3, size, size]
    names = ["images", "text"][:inputs]
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=types.FLOAT),
        helper.make_node(
            "Transpose", ["float"], ["first"], perm=[0, 3, 1, 2] if nhwc else [0, 1, 2, 3]
        ),
        helper.make_node("Conv", ["first", "weights"], ["pixels"]),
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["vector"]),
        helper.make_node("Reshape", ["pixels", "rows"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("Sub", ["vector", "vector"], ["zero"]),
        helper.make_node("Div", ["zero", "zero"], ["broken"]),
    ]
    shapes = {"vector": 2, "pooled": 4, "tokens": 3, "pixels": 4, "broken": 2}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, getattr(types, kind), shape) for name in names],
        [
            helper.make_tensor_value_info(name, types.FLOAT, [None] * rank)
            for name, rank in shapes.items()
        ],
        [
            onnx.numpy_helper.from_array(WEIGHTS[:, :, None, None], "weights"),
            onnx.numpy_helper.from_array(np.array([rows, DIM, -1]), "rows"),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        str(path),
    )
    if sidecar is not None:
        Path(f"{path}.json").write_text(json.dumps(sidecar))
    return path


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param, reason="pip install -e '.[fast]'")
    return request.param


@pytest.mark.parametrize(
    ("sidecar", "options", "pixels"),
    [
        ({}, {}, IMAGES / 255),
        ({"scaling": "-1..1"}, {}, IMAGES / 127.5 - 1),
        ({"scaling": "0..255"}, {"kind": "UINT8"}, IMAGES),
        (
            {"scaling": "-1..1", "colour_order": "BGR"},
            {"kind": "FLOAT16"},
            IMAGES[..., ::-1] / 127.5 - 1,
        ),
        (
            {"scaling": {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 4]}},
            {},
            (IMAGES / 255 - [0.1, 0.2, 0.3]) / [1, 2, 4],
        ),
        ({"layout": "NHWC"}, {"nhwc": True}, IMAGES / 255),
        ({"output": "pooled"}, {}, IMAGES / 255),
        ({}, {"batch": 1}, IMAGES / 255),
        ({}, {"batch": 3}, IMAGES / 255),
        ({"output": "tokens", "tokens": "mean"}, {}, IMAGES / 255),
        (
            {"output": "tokens", "tokens": "first"},
            {},
            np.broadcast_to(IMAGES[:, :1, :1] / 255, IMAGES.shape),
        ),
    ],
    ids=[
        "0..1",
        "-1..1",
        "uint8",
        "BGR half",
        "mean and std",
        "NHWC",
        "pooled",
        "batch 1",
        "batch 3",
        "mean token",
        "first token",
    ],
)
def test_embeddings_follow_the_sidecar(
    tmp_path: Path,
    runtime: str,
    sidecar: dict,
    options: dict,
    pixels: np.ndarray,
):
    embedder = onnx_embedder(export(tmp_path / "tiny.onnx", PLAIN | sidecar, **options), runtime)
    expected = unit(pixels.mean(axis=(1, 2)) @ WEIGHTS.T)
    np.testing.assert_allclose(
        embedder.embed(IMAGES), expected, atol=2e-3 if "kind" in options else 1e-5
    )
    assert embedder.embed(IMAGES[:2]).shape == (2, DIM)
    assert (embedder.name, embedder.image_size) == ("tiny.onnx", SIZE_PX)


def test_digest_depends_on_file_weights_and_sidecar_but_not_on_the_runtime(tmp_path: Path):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    path = export(tmp_path / "tiny.onnx", PLAIN)
    digests = {onnx_embedder(path, runtime).digest for runtime in RUNTIMES}
    assert len(digests) == 1
    digests.add(onnx_embedder(export(path, PLAIN | {"scaling": "0..255"}), "openvino").digest)
    digests.add(onnx_embedder(export(path, PLAIN, batch=2), "openvino").digest)
    Path(f"{path}_data").write_bytes(b"weights beside it")
    digests.add(onnx_embedder(path, "openvino").digest)
    assert len(digests) == 4


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_with_nan_are_refused_and_named(
    tmp_path: Path, runtime: str, value: float, monkeypatch: pytest.MonkeyPatch
):
    bad = WEIGHTS.copy()
    bad[0, 0] = value
    monkeypatch.setattr(sys.modules[__name__], "WEIGHTS", bad)
    path = export(tmp_path / "tiny.onnx", PLAIN)
    if value == -np.inf:
        # Attention masks hold infinities.
        assert onnx_embedder(path, runtime).image_size == SIZE_PX
        return
    with pytest.raises(ValueError, match=r"tiny\.onnx: weights: 1 of 12 numbers are NaN\. The tr"):
        onnx_embedder(path, runtime)


def test_model_whose_embeddings_are_not_numbers_is_refused(tmp_path: Path, runtime: str):
    from PIL import Image

    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    images = ImageList(np.array(["a"]), np.array([str(tmp_path / "a.png")]))
    model = onnx_embedder(export(tmp_path / "tiny.onnx", PLAIN | {"output": "broken"}), runtime)
    with pytest.raises(
        ValueError,
        match=r"the model's embedding of each of 1 images is zero or not finite, the first: ",
    ):
        extract_global(model, images, batch_size=2)


@pytest.mark.parametrize(
    ("sidecar", "options", "message"),
    [
        (
            {"output": "nothing"},
            {},
            r"has no output 'nothing'; \"output\" in tiny.onnx.json is one of: vector, pooled",
        ),
        (
            {"output": ""},
            {},
            'has several outputs; "output" in tiny.onnx.json is one of: vector, pooled',
        ),
        ({}, {"inputs": 2}, "has the inputs images, text; export the image part alone"),
        (
            {"image_size": 8},
            {},
            r"its input is \[any, 3, 6, 6\], NCHW at 8 pixels is \[any, 3, 8, 8\]",
        ),
        (
            {"layout": "NHWC"},
            {},
            r"its input is \[any, 3, 6, 6\], NHWC at 6 pixels is \[any, 6, 6, 3\]",
        ),
        ({}, {"kind": "DOUBLE"}, "its input must be float32, float16 or uint8"),
        (
            {},
            {"kind": "UINT8"},
            'its input is uint8, so it scales by itself: write "scaling": "0..255"',
        ),
    ],
)
def test_sidecar_that_does_not_fit_the_network_raises_value_error(
    tmp_path: Path, runtime: str, sidecar: dict, options: dict, message: str
):
    with pytest.raises(ValueError, match=rf"tiny\.onnx: {message}"):
        onnx_embedder(export(tmp_path / "tiny.onnx", PLAIN | sidecar, **options), runtime)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "tokens",
            r"its output is \[B, tokens, D\], here \[5, 36, 4\]: write \"tokens\": \"first\"",
        ),
        ("pixels", r"its output must be \[5, D\], one vector per image\. Received \[5, 4, 6, 6\]"),
    ],
)
def test_output_without_one_vector_per_image_raises_value_error(
    tmp_path: Path,
    runtime: str,
    output: str,
    message: str,
):
    embedder = onnx_embedder(export(tmp_path / "tiny.onnx", PLAIN | {"output": output}), runtime)
    with pytest.raises(ValueError, match=message):
        embedder.embed(IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            r"tiny\.onnx\.json: not found\. Create it: it describes the input of tiny\.onnx, for",
        ),
        ("{", r"tiny\.onnx\.json: not readable as JSON .* An example: \{\"image_size\""),
        ("[]", "Sidecar must be a mapping"),
        ('{"image_size": 8}', "missing 1 required positional argument: 'scaling'"),
        (
            '{"image_size": 8, "scaling": "0..1", "size": 2}',
            "unknown key size in Sidecar. Known: colour_order, image_size",
        ),
        (
            '{"image_size": 8.5, "scaling": "0..1"}',
            "image_size is a number of pixels, 1 to 4096. Received 8.5",
        ),
        (
            '{"image_size": 8, "scaling": "0-1"}',
            r'scaling is "0..255", "0..1", "-1..1", or "mean" and "std" .* Received \'0-1\'',
        ),
        ('{"image_size": 8, "scaling": {"mean": [0, 0, 0], "std": [1, 0, 1]}}', "std above 0"),
        ('{"image_size": 8, "scaling": {"mean": [0], "std": [1, 1, 1]}}', "three numbers each"),
        (
            '{"image_size": 8, "scaling": "0..1", "layout": "CHW"}',
            "layout is one of NCHW, NHWC. Received 'CHW'",
        ),
        (
            '{"image_size": 8, "scaling": "0..1", "tokens": "last"}',
            "tokens is one of first, mean. Received 'last'",
        ),
    ],
)
def test_unusable_sidecar_raises_value_error_with_an_example(
    tmp_path: Path,
    content: str | None,
    message: str,
):
    if content is not None:
        (tmp_path / "tiny.onnx.json").write_text(content)
    with pytest.raises(ValueError, match=message) as refused:
        read_sidecar(tmp_path / "tiny.onnx")
    assert SIDECAR_EXAMPLE in str(refused.value) and "\n" not in str(refused.value)


def test_sidecar_example_is_valid():
    sidecar = Sidecar(**json.loads(SIDECAR_EXAMPLE))
    assert sidecar.prepare(IMAGES[:1]).shape == (1, 3, SIZE_PX, SIZE_PX)


def test_file_that_is_not_a_network_raises_value_error(tmp_path: Path, runtime: str):
    path = tmp_path / "bad.onnx"
    with pytest.raises(ValueError, match=r"bad\.onnx: not found\."):
        onnx_embedder(path, runtime)
    path.write_bytes(b"no network at all")
    with pytest.raises(
        ValueError, match=rf"bad\.onnx: {RUNTIMES[runtime]} cannot read it \(.+\)\.$"
    ):
        open_network(path, runtime)


def test_error_names_a_runtime_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "any.onnx").write_bytes(b"")
    for name, title in RUNTIMES.items():
        monkeypatch.setitem(__import__("sys").modules, name, None)
        with pytest.raises(ValueError, match=rf"--runtime={name} needs {title}: {INSTALL}"):
            open_network(tmp_path / "any.onnx", name)
    monkeypatch.setattr("delf_ext.features.runtimes.networks.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"needs OpenVINO or ONNX Runtime: {INSTALL}"):
        installed_runtime()


def test_batch_of_another_size_than_exported_raises_value_error(tmp_path: Path, runtime: str):
    # The file declares any batch size, but reshapes to two images.
    sidecar = PLAIN | {"output": "tokens", "tokens": "mean"}
    embedder = onnx_embedder(export(tmp_path / "tiny.onnx", sidecar, rows=2), runtime)
    assert embedder.embed(IMAGES[:2]).shape == (2, DIM)
    with pytest.raises(
        ValueError,
        match=r"tiny\.onnx: (fails on 5 images; was it exported for another|its output must be)",
    ):
        embedder.embed(IMAGES)


def test_onnx_embedder_has_no_tensorflow_graph(tmp_path: Path, runtime: str):
    embedder = onnx_embedder(export(tmp_path / "tiny.onnx", PLAIN), runtime)
    assert isinstance(embedder, Embedder) and embedder.graph is None


@pytest.mark.parametrize("nhwc", [True, False])
def test_network_of_any_size_takes_other_sizes_and_a_fixed_one_does_not(
    tmp_path: Path, runtime: str, nhwc: bool
):
    sidecar = {**PLAIN, "layout": "NHWC" if nhwc else "NCHW"}
    fixed = onnx_embedder(export(tmp_path / "fixed.onnx", sidecar, nhwc=nhwc), runtime)
    assert fixed.at_size is None
    path = export(tmp_path / "any.onnx", sidecar, nhwc=nhwc, size="S")
    embedder = onnx_embedder(path, runtime)
    assert embedder.at_size is not None
    larger = embedder.at_size(2 * SIZE_PX)
    assert (larger.image_size, larger.digest) == (2 * SIZE_PX, embedder.digest)
    images = np.repeat(np.repeat(IMAGES, 2, axis=1), 2, axis=2)
    np.testing.assert_allclose(larger.embed(images), embedder.embed(IMAGES), atol=1e-5)
