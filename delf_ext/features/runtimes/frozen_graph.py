"""Freeze a traced network into one graph, with its batch norms folded into the convolutions.

The weights are kept beside the graph, not in it: TensorFlow copies a graph many times, so constants
in it would need several gigabytes for a ResNet-50.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from delf_ext.models.precision import computes_in_bfloat16

# Constants above this many bytes are kept beside the graph.
LARGE_BYTES = 1024
# Biases up to this many bytes are constants of a TensorFlow function: it is faster with them.
SMALL_BYTES = 2**14
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
MULTIPLY = (*CONVOLUTIONS, "MatMul")


class Frozen(NamedTuple):
    """Network without variables.

    Attributes:
        graph: with one Placeholder and one output; the nodes of `weights` have no value.
        weights: name of a Const node -> its value.
    """

    graph: GraphDef
    weights: dict[str, np.ndarray]

    def with_constants(self) -> GraphDef:
        """Return the graph with all values in it."""
        graph = GraphDef()
        graph.CopyFrom(self.graph)
        for node in graph.node:
            if node.name in self.weights:
                tensor = tf.make_tensor_proto(self.weights[node.name])
                node.attr["value"].tensor.CopyFrom(tensor)
        return graph


def freeze(function: tf.types.experimental.GenericFunction) -> Frozen:
    """Return the graph of a function with the present values of its variables.

    Each convolution followed by a batch norm becomes a convolution with a bias:
    norm(conv(x, kernel)) = conv(x, kernel * f) + offset - mean * f, with
    f = scale / sqrt(variance + epsilon). Other batch norms stay, such as those in front of the
    convolutions of ResNet v2.

    Args:
        function: has an input signature and one output.

    Returns:
        The nodes that the output needs, and their weights.
    """
    concrete = function.get_concrete_function()
    (output,) = concrete.outputs
    name = output.op.name
    graph = concrete.graph.as_graph_def()
    if graph.library.function:
        # Functions inside of the graph: TensorFlow puts their bodies into it.
        inlined = convert_variables_to_constants_v2(concrete)
        (output,) = inlined.outputs
        name = output.op.name
        graph = inlined.graph.as_graph_def()
        held = _take_constants(graph)
    else:
        held = _take_variables(graph, concrete.graph)
    folding = _Folding(graph, held, name)
    norms = [
        node
        for node in graph.node
        if node.op == "FusedBatchNormV3" and not node.attr["is_training"].b
    ]
    for norm in norms:
        folding.fold(norm)
    needed = _needed(graph, name)
    weights = {node.name: _array(held[node.name]) for node in needed if node.name in held}
    return Frozen(GraphDef(node=needed, versions=graph.versions), weights)


def frozen_graph(function: tf.types.experimental.GenericFunction) -> GraphDef:
    """Return the frozen graph of a function as one message, to write it to a file."""
    return freeze(function).with_constants()


def _take_constants(graph: GraphDef) -> dict[str, Any]:
    """Take the values of large constants out of a graph: name -> array."""
    held = {}
    for node in graph.node:
        value = node.attr["value"].tensor if node.op == "Const" else None
        if value is not None and value.ByteSize() > LARGE_BYTES:
            held[node.name] = tf.make_ndarray(value)
            node.attr["value"].Clear()
    return held


def _take_variables(graph: GraphDef, traced: Any) -> dict[str, Any]:
    """Make constants without value of what a graph captures: name -> variable or tensor."""
    captured = {placeholder.op.name: tensor for tensor, placeholder in traced.captures}
    variables = {id(variable.handle): variable for variable in traced.variables}
    held: dict[str, Any] = {}
    for node in graph.node:
        data = [name for name in node.input if not name.startswith("^")]
        if node.op == "ReadVariableOp":
            held[node.name] = variables[id(captured[_node_name(data[0])])]
            data = []
        elif node.name in captured:
            if captured[node.name].dtype == tf.resource:
                continue
            held[node.name] = captured[node.name]
        # Frozen, nothing needs an order: control inputs only wait for variables.
        del node.input[:]
        node.input.extend(data)
        if node.name in held:
            _make_constant(node, held[node.name].dtype)
    return held


def _make_constant(node: NodeDef, dtype: tf.DType) -> None:
    name = node.name
    node.Clear()
    node.name = name
    node.op = "Const"
    node.attr["dtype"].type = dtype.as_datatype_enum


def _array(value: Any) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else value.numpy()


class _Folding:
    """Graph in which batch norms are folded."""

    def __init__(self, graph: GraphDef, held: dict[str, Any], output: str) -> None:
        self._graph = graph
        self._held = held
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
        if convolution.op not in CONVOLUTIONS or self._num_readers[convolution.name] != 1:
            return
        kernel = self._constant(convolution.input[1])
        scale, offset, mean, variance = (self._constant(name) for name in norm.input[1:5])
        if kernel is None or scale is None or offset is None or mean is None or variance is None:
            return
        factor = scale / np.sqrt(variance + norm.attr["epsilon"].f)
        # The output channels are the last axis; of a depthwise kernel, the last two.
        is_depthwise = convolution.op == "DepthwiseConv2dNative"
        factors = factor.reshape(kernel.shape[2:]) if is_depthwise else factor
        convolution.input[1] = self._add_constant(
            f"{convolution.name}/folded_kernel", kernel * factors
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
        if node.name in self._held:
            return _array(self._held[node.name])
        return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None

    def _add_constant(self, name: str, value: np.ndarray) -> str:
        _make_constant(self._graph.node.add(name=name), tf.float32)
        self._held[name] = value.astype(np.float32)
        return name


def tensorflow_function(frozen: Frozen) -> tf.types.experimental.ConcreteFunction:
    """Return a frozen network as a TensorFlow function.

    Args:
        frozen: the network; it is changed: its weights are taken out, to be in memory only once.

    Returns:
        Function of one input to one output, which computes in the present precision.
    """
    (source,) = (node for node in frozen.graph.node if node.op == "Placeholder")
    read = {_node_name(name) for node in frozen.graph.node for name in node.input}
    (result,) = {node.name for node in frozen.graph.node} - read
    kernels = {_node_name(node.input[1]) for node in frozen.graph.node if node.op in MULTIPLY}
    for node in frozen.graph.node:
        value = frozen.weights.get(node.name)
        if value is not None and value.nbytes <= SMALL_BYTES:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
            del frozen.weights[node.name]
    nodes = [node for node in frozen.graph.node if node.name not in frozen.weights]
    graph = GraphDef(node=nodes, versions=frozen.graph.versions)
    tensors = {}
    while frozen.weights:
        name, value = frozen.weights.popitem()
        tensors[name] = tf.constant(value)
        if computes_in_bfloat16() and name in kernels:
            # TensorFlow would round them at each call.
            tensors[name] = tf.cast(tensors[name], tf.bfloat16)

    def run(images: tf.Tensor) -> tf.Tensor:
        mapped = {f"{name}:0": _as_float32(tensor) for name, tensor in tensors.items()}
        mapped[f"{source.name}:0"] = tf.identity(images)
        (output,) = tf.graph_util.import_graph_def(graph, mapped, [f"{result}:0"], name="")
        return output

    shape = [None if size.size < 0 else size.size for size in source.attr["shape"].shape.dim]
    signature = [tf.TensorSpec(shape, source.attr["dtype"].type)]
    function = tf.function(run, input_signature=signature, autograph=False)
    return function.get_concrete_function()


def _as_float32(tensor: tf.Tensor) -> tf.Tensor:
    # With an Identity behind it, TensorFlow would not undo the cast from bfloat16.
    if tensor.dtype == tf.bfloat16:
        return tf.cast(tensor, tf.float32)
    return tf.identity(tensor)


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
