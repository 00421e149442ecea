"""Share an ONNX model among the tests of runs and of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ONNX_SIZE_PX = 32


@pytest.fixture
def onnx_model(tmp_path: Path) -> Path:
    """Write an ONNX model that embeds an image as its mean colour, with its sidecar file."""
    onnx = pytest.importorskip(
        "onnx", reason="the network is written with onnx: pip install -e '.[dev]'"
    )
    float32 = onnx.TensorProto.FLOAT
    shape = ["B", 3, ONNX_SIZE_PX, ONNX_SIZE_PX]
    images = onnx.helper.make_tensor_value_info("images", float32, shape)
    vector = onnx.helper.make_tensor_value_info("vector", float32, ["B", 3])
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["vector"]),
    ]
    graph = onnx.helper.make_graph(nodes, "mean", [images], [vector])
    opset = [onnx.helper.make_opsetid("", 17)]
    path = tmp_path / "mean.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    sidecar = {"image_size": ONNX_SIZE_PX, "scaling": "0..1"}
    Path(f"{path}.json").write_text(json.dumps(sidecar))
    return path
