"""Count the multiply-accumulates, parameters and bytes of a network.

The counts are of the traced graph at inference (training=False) of one image, by the rules of
ptflops (github.com/sovrasov/flops-counter.pytorch, version 0.7.5, hooks of modules):

- convolution, also depthwise and grouped: kernel elements (kernel h * w * input channels of a group
  * output channels) * output positions; matrix product: rows * inner dimension * columns;
- bias: 1 for each output element; batch norm: 2 for each input element (scale and offset);
- ReLU, ReLU6, leaky ReLU, ELU and GELU: 1 for each element; pooling: 1 for each input element;
- 0 for sums and products of elements (such as a residual sum), sigmoid, softmax and padding.

Batch norms are counted as such, as ptflops counts a model in PyTorch. In the frozen graph that
embeds images they are folded into the convolutions (`runtimes/frozen_graph.py`), so it does a
little less: 0.01 of 4.1 GMac for a ResNet-50. ptflops 0.7 counts modules of activation and pooling
twice, unless it is called with `count_functional=False`; here they count once, as in version 0.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from delf_ext.models.embedding_model import EmbeddingModel

HEADS = "heads"
"""Name of the part after the last end point."""
# Operations whose multiply-accumulates are kernel elements * output positions.
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
MATRIX_PRODUCTS = {"MatMul": "transpose_a", "BatchMatMulV2": "adj_x", "BatchMatMulV3": "adj_x"}
"""Operation -> name of its attribute that swaps the last two axes of the first factor."""
PER_INPUT = {"FusedBatchNormV3": 2, "MaxPool": 1, "AvgPool": 1}
PER_OUTPUT = dict.fromkeys(("BiasAdd", "Relu", "Relu6", "LeakyRelu", "Elu", "Erf"), 1)
# Operations with multiplications that have no rule here: a network with them is refused.
NOT_COUNTED = (
    *("Conv3D", "Conv2DBackpropInput", "DepthwiseConv2dNativeBackpropInput", "Einsum"),
    *("While", "StatelessWhile", "If", "StatelessIf"),
)
CALLS = ("PartitionedCall", "StatefulPartitionedCall")


@dataclass(frozen=True)
class Cost:
    """What a network costs for one image.

    Attributes:
        macs: multiply-accumulates of each block: end point -> those that it needs and no earlier
            end point does; "heads" for the rest.
        num_parameters: trainable numbers, as ptflops counts them (no statistics of batch norms).
        num_bytes: of all variables, statistics of batch norms included.
    """

    macs: Mapping[str, int] = field(default_factory=dict)
    num_parameters: int = 0
    num_bytes: int = 0

    @property
    def gmac(self) -> float:
        """Billions of multiply-accumulates in total."""
        return sum(self.macs.values()) / 1e9

    @property
    def megabytes(self) -> float:
        """Millions of bytes of weights."""
        return self.num_bytes / 1e6

    def __str__(self) -> str:
        """Return the total and each block in one line.

        >>> str(Cost({"block1": 1_200_000_000, "heads": 300_000_000}, 10, 40))
        '1.500 GMac (block1 1.200, heads 0.300)'
        """
        parts = ", ".join(f"{name} {count / 1e9:.3f}" for name, count in self.macs.items())
        return f"{self.gmac:.3f} GMac ({parts})"


def model_cost(model: EmbeddingModel, size_px: int) -> Cost:
    """Count the cost of a model: trunk by block, and all heads with their classifiers.

    Args:
        model: with or without variables; missing ones are created.
        size_px: side of the input.

    Returns:
        The cost; units of one block (such as "block1/unit_2/...") are added up.

    Raises:
        ValueError: as `network_cost`.
    """

    def run(images: tf.Tensor) -> Any:
        output = model(images, training=False)
        trunk = model.trunk.endpoint.split("/")[0]
        maps = {
            name.removeprefix(f"{trunk}/"): output.endpoints[name]
            for name in output.endpoints
            if name.startswith(f"{trunk}/")
        }
        return maps, [output.embedding, [list(head) for head in output.heads.values()]]

    cost = network_cost(run, size_px, model)
    blocks: dict[str, int] = {}
    for name, count in cost.macs.items():
        block = name.split("/")[0]
        blocks[block] = blocks.get(block, 0) + count
    return Cost(blocks, cost.num_parameters, cost.num_bytes)


def network_cost(
    run: Callable[[tf.Tensor], tuple[Mapping[str, tf.Tensor], Any]],
    size_px: int,
    layer: tf.Module,
) -> Cost:
    """Count the cost of any network.

    Args:
        run: images float32 [1, S, S, 3] -> (end point -> tensor, from the image on; other results).
        size_px: S.
        layer: owner of the variables.

    Returns:
        The cost, by end point.

    Raises:
        ValueError: the network has an operation that cannot be counted.
    """
    traced: list[Any] = []

    def trace(images: tf.Tensor) -> tf.Tensor:
        traced[:] = run(images)
        return tf.zeros([])

    # Layers may create their variables while they are traced. With autograph=False, Keras would
    # break its plain operations (such as x * 2.0) then, for the rest of the process.
    signature = tf.TensorSpec([1, size_px, size_px, 3])
    tf.function(trace).get_concrete_function(signature)
    endpoints, results = traced
    macs = {}
    seen: set[str] = set()
    for name, outputs in [*endpoints.items(), (HEADS, results)]:
        new = _needed(tf.nest.flatten(outputs), seen)
        macs[name] = sum(map(_macs, new))
    return Cost(macs, *_weights(layer.variables))


def _weights(variables: Iterable[tf.Variable]) -> tuple[int, int]:
    """Return the number of trainable parameters, and the bytes of all variables."""
    num_parameters = 0
    num_bytes = 0
    for variable in variables:
        num_elements = math.prod(variable.shape)
        num_bytes += num_elements * variable.dtype.size
        num_parameters += num_elements if variable.trainable else 0
    return num_parameters, num_bytes


def _needed(outputs: Iterable[Any], seen: set[str]) -> list[tf.Operation]:
    """Return the operations that tensors are computed from, without those seen; add them to it."""
    waiting = [output.op for output in outputs if tf.is_tensor(output)]
    needed = []
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        needed.append(operation)
        waiting += [tensor.op for tensor in operation.inputs]
    return needed


def _macs(operation: tf.Operation) -> int:
    """Count the multiply-accumulates of one operation."""
    kind = operation.type
    if kind in NOT_COUNTED:
        raise ValueError(
            f"multiply-accumulates cannot be counted: operation {operation.name} ({kind}) has no "
            "rule in delf_ext/models/cost.py."
        )
    if kind in CALLS:
        # Keras has grouped convolutions in a function of their own.
        body = operation.graph._get_function(operation.get_attr("f").name).graph
        return sum(map(_macs, body.get_operations()))
    if kind in CONVOLUTIONS:
        # [h, w, input channels of a group, output channels]; depthwise [h, w, C, multiplier].
        kernel = operation.inputs[1].shape
        num_channels = kernel[3] if kind == "Conv2D" else kernel[2] * kernel[3]
        return math.prod(kernel) * (_size(operation.outputs[0]) // num_channels)
    if kind in MATRIX_PRODUCTS:
        swapped = operation.get_attr(MATRIX_PRODUCTS[kind])
        inner = operation.inputs[0].shape[-2 if swapped else -1]
        return _size(operation.outputs[0]) * inner
    if kind in PER_OUTPUT:
        return PER_OUTPUT[kind] * _size(operation.outputs[0])
    if kind in PER_INPUT or _is_global_pool(operation):
        return PER_INPUT.get(kind, 1) * _size(operation.inputs[0])
    return 0


def _is_global_pool(operation: tf.Operation) -> bool:
    """Return whether an operation is the mean of a feature map [1, h, w, C] over positions."""
    # Other means are of kernels, which networks without batch norm normalize.
    is_mean = operation.type == "Mean" and len(operation.inputs[0].shape) == 4
    return is_mean and list(np.ravel(tf.get_static_value(operation.inputs[1]))) == [1, 2]


def _size(tensor: tf.Tensor) -> int:
    if not tensor.shape.is_fully_defined():
        raise ValueError(
            f"multiply-accumulates cannot be counted: the shape of {tensor.name} is not fixed."
        )
    return math.prod(tensor.shape)
