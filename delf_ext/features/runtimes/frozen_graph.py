"""Freeze a traced network into one graph, with its batch norms folded into the convolutions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def frozen_graph(function: tf.types.experimental.GenericFunction) -> GraphDef:
    """Return the graph of a function with the present values of its variables as constants.

    Args:
        function: has an input signature and one output.

    Returns:
        The graph, with folded batch norms.
    """
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    (output,) = frozen.outputs
    return fold_batch_norms(frozen.graph.as_graph_def(), output.op.name)


def fold_batch_norms(graph: GraphDef, output: str) -> GraphDef:
    """Replace each convolution followed by a batch norm by a convolution with a bias.

    norm(conv(x, kernel)) = conv(x, kernel * f) + offset - mean * f, with
    f = scale / sqrt(variance + epsilon). Other batch norms stay, such as those in front of the
    convolutions of ResNet v2.

    Args:
        graph: a frozen graph; it is changed.
        output: name of the node of the output.

    Returns:
        The nodes that the output needs.
    """
    folding = _Folding(graph, output)
    norms = [
        node
        for node in graph.node
        if node.op == "FusedBatchNormV3" and not node.attr["is_training"].b
    ]
    for norm in norms:
        folding.fold(norm)
    return GraphDef(node=_needed(graph, output), versions=graph.versions, library=graph.library)


class _Folding:
    """Graph in which batch norms are folded."""

    def __init__(self, graph: GraphDef, output: str) -> None:
        self._graph = graph
        self._nodes = {node.name: node for node in graph.node}
        self._num_readers = Counter(
            self._source(name).name
            for node in _needed(graph, output)
            if node.op != "Identity"
            for name in node.input
        )

    def fold(self, norm: NodeDef) -> None:
        """Fold a batch norm into the convolution before it, if no other node reads it."""
        convolution = self._source(norm.input[0])
        if convolution.op != "Conv2D" or self._num_readers[convolution.name] != 1:
            return
        kernel = self._constant(convolution.input[1])
        scale, offset, mean, variance = (self._constant(name) for name in norm.input[1:5])
        if kernel is None or scale is None or offset is None or mean is None or variance is None:
            return
        factor = scale / np.sqrt(variance + norm.attr["epsilon"].f)
        convolution.input[1] = self._add_constant(
            f"{convolution.name}/folded_kernel", kernel * factor
        )
        bias = self._add_constant(f"{norm.name}/folded_bias", offset - mean * factor)
        folded = NodeDef(name=norm.name, op="BiasAdd", input=[norm.input[0], bias])
        folded.attr["T"].type = tf.float32.as_datatype_enum
        folded.attr["data_format"].CopyFrom(norm.attr["data_format"])
        norm.CopyFrom(folded)

    def _source(self, name: str) -> NodeDef:
        """Return the node that computes a tensor, behind any Identity."""
        node = self._nodes[_node_name(name)]
        return self._source(node.input[0]) if node.op == "Identity" else node

    def _constant(self, name: str) -> np.ndarray | None:
        node = self._source(name)
        return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None

    def _add_constant(self, name: str, value: np.ndarray) -> str:
        node = self._graph.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.astype(np.float32)))
        return name


def tensorflow_function(graph: GraphDef) -> tf.types.experimental.ConcreteFunction:
    """Return a frozen graph with one input and one output as a TensorFlow function."""
    (source,) = (node.name for node in graph.node if node.op == "Placeholder")
    read = {_node_name(name) for node in graph.node for name in node.input}
    (result,) = {node.name for node in graph.node} - read
    imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    return imported.prune(f"{source}:0", f"{result}:0")


def _needed(graph: GraphDef, output: str) -> list[NodeDef]:
    """Return the nodes that `output` is computed from, in the order of the graph."""
    nodes = {node.name: node for node in graph.node}
    needed = {output}
    waiting = [output]
    while waiting:
        inputs = {_node_name(name) for name in nodes[waiting.pop()].input} - needed
        needed |= inputs
        waiting += inputs
    return [node for node in graph.node if node.name in needed]


def _node_name(tensor: str) -> str:
    """Return "scope/conv" for "^scope/conv:0"."""
    return tensor.removeprefix("^").split(":")[0]
