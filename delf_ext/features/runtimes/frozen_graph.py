"""A traced network as one frozen graph with its batch norms folded into the convolutions, for TensorFlow and other runtimes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def frozen_graph(function: tf.types.experimental.GenericFunction) -> GraphDef:
    """The graph of a function that has an input signature and one result, with the values that its variables have now."""
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    (output,) = frozen.outputs
    return fold_batch_norms(frozen.graph.as_graph_def(), output.op.name)


def fold_batch_norms(graph: GraphDef, output: str) -> GraphDef:
    """The part of a graph that `output` needs; a convolution followed by a batch norm becomes a convolution with a bias.

    norm(conv(x, kernel)) = conv(x, kernel * f) + offset - mean * f, with f = scale / sqrt(variance + epsilon). A batch norm
    elsewhere (ResNet v2 has them in front of its convolutions) stays.
    """
    nodes = {node.name: node for node in graph.node}

    def source(name: str) -> NodeDef:
        node = nodes[_node_name(name)]
        return source(node.input[0]) if node.op == "Identity" else node

    def constant(name: str) -> np.ndarray | None:
        node = source(name)
        return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None

    def new_constant(name: str, value: np.ndarray) -> str:
        node = graph.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.astype(np.float32)))
        return name

    norms = [
        node
        for node in graph.node
        if node.op == "FusedBatchNormV3" and not node.attr["is_training"].b
    ]
    readers = Counter(
        source(name).name
        for node in _needed(graph, output)
        if node.op != "Identity"
        for name in node.input
    )
    for norm in norms:
        convolution = source(norm.input[0])
        kernel = (
            constant(convolution.input[1])
            if convolution.op == "Conv2D" and readers[convolution.name] == 1
            else None
        )
        scale, offset, mean, variance = (constant(name) for name in norm.input[1:5])
        if kernel is None or scale is None or offset is None or mean is None or variance is None:
            continue
        factor = scale / np.sqrt(variance + norm.attr["epsilon"].f)
        convolution.input[1] = new_constant(f"{convolution.name}/folded_kernel", kernel * factor)
        bias = new_constant(f"{norm.name}/folded_bias", offset - mean * factor)
        folded = NodeDef(name=norm.name, op="BiasAdd", input=[norm.input[0], bias])
        folded.attr["T"].type = tf.float32.as_datatype_enum
        folded.attr["data_format"].CopyFrom(norm.attr["data_format"])
        norm.CopyFrom(folded)
    return GraphDef(node=_needed(graph, output), versions=graph.versions, library=graph.library)


def tensorflow_function(graph: GraphDef) -> tf.types.experimental.ConcreteFunction:
    """A frozen graph with one input as a function of TensorFlow."""
    (source,) = (node.name for node in graph.node if node.op == "Placeholder")
    (result,) = {node.name for node in graph.node} - {
        _node_name(name) for node in graph.node for name in node.input
    }
    imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    return imported.prune(f"{source}:0", f"{result}:0")


def _needed(graph: GraphDef, output: str) -> list[NodeDef]:
    """The nodes that `output` is computed from, in the graph's order."""
    nodes, wanted, waiting = {node.name: node for node in graph.node}, {output}, [output]
    while waiting:
        found = {_node_name(name) for name in nodes[waiting.pop()].input} - wanted
        wanted |= found
        waiting += found
    return [node for node in graph.node if node.name in wanted]


def _node_name(tensor: str) -> str:
    """ "^scope/conv:0" -> "scope/conv"."""
    return tensor.removeprefix("^").split(":")[0]
