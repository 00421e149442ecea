"""Which pixels of its input a cell of a feature map sees: computed from the network's graph, not looked up in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from delf_ext.models.trunks.slim import SlimTrunk, split_endpoint

WINDOWS = ("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool")
PADS = ("Pad", "PadV2", "MirrorPad")
CELL_BY_CELL = (
    *(
        "Identity",
        "Cast",
        "BiasAdd",
        "FusedBatchNormV3",
        "Relu",
        "Relu6",
        "Elu",
        "Sigmoid",
        "Softplus",
    ),
    *("AddV2", "Sub", "Mul", "RealDiv", "Maximum", "ConcatV2"),
)


@dataclass(frozen=True)
class ReceptiveField:
    """Along one axis cell i sees `size_px` pixels from i * stride_px - padding_px on; some may lie outside the image."""

    size_px: int
    stride_px: int
    padding_px: int

    def centers_px(self, n: int) -> np.ndarray:
        """[n] float64: where cells 0 to n - 1 look, in pixel centres of the network's input (the first pixel is at 0)."""
        return np.arange(n) * self.stride_px - self.padding_px + (self.size_px - 1) / 2


class ReceptiveFields(NamedTuple):
    """Of both axes; they differ where height and width do, or kernels are not square."""

    y: ReceptiveField
    x: ReceptiveField


Reach = tuple[int, ReceptiveField]  # along one axis: how many cells a tensor has, and what they see


def receptive_field(
    backbone: SlimTrunk, endpoint: str, height_px: int, width_px: int
) -> ReceptiveFields:
    """What a cell of `endpoint` sees of an image of height_px x width_px. Traces the backbone; the graph serves any size.

    Why the size matters: `SAME` padding with a stride divides unevenly where its input is even. In the ResNets that is pool1
    (TF-Slim's layout and v2), whose input is half the image, rounded up. DELF's published 291 / 32 / 145 of
    resnet_v1_50/block3, and 483 / 32 / 241 of block4 (tensorflow/models, delf/feature_extractor.py), hold for sides of 1 or
    2 modulo 4. For 3 or 0 modulo 4, all multiples of 32 among them, padding_px is 143 and 239: the cell sees, and its centre
    lies, two pixels further right and down. The layouts with a padded pool1 know no such difference.

    Raises: ValueError for an end point that the backbone does not reach, an image too small for one cell, and an operation
    that is not known here, by name.
    """
    name = "/".join(split_endpoint(endpoint))
    graph = tf.function(lambda images: backbone(images, training=False))
    concrete = graph.get_concrete_function(tf.TensorSpec([1, None, None, 3], tf.float32))
    if name not in concrete.structured_outputs:
        raise ValueError(
            f"{name} does not lie on the way to the backbone's end point {backbone.endpoint}."
        )
    return receptive_field_of(
        concrete.structured_outputs[name], concrete.inputs[0], height_px, width_px
    )


def receptive_field_of(
    features: tf.Tensor, images: tf.Tensor, height_px: int, width_px: int
) -> ReceptiveFields:
    """The same for two tensors [B, ., ., .] of a graph that is traced already, at inference: milliseconds.

    Raises: ValueError as `receptive_field` does, and when `features` are not computed from `images`.
    """
    pixel = ReceptiveField(1, 1, 0)
    reaches: dict[str, tuple[Reach, Reach]] = {
        images.op.name: ((height_px, pixel), (width_px, pixel))
    }
    needed = _ancestors(features.op)
    for (
        op
    ) in features.graph.get_operations():  # in the order in which they were made: inputs come first
        inputs = [reaches[tensor.op.name] for tensor in op.inputs if tensor.op.name in reaches]
        if inputs and op.name in needed:
            y, x = (
                _through(op, axis, _union(op, [reach[axis - 1] for reach in inputs]))
                for axis in (1, 2)
            )
            reaches[op.name] = (y, x)
    if features.op.name not in reaches:
        raise ValueError(
            f"receptive field: {features.op.name} is not computed from {images.op.name}."
        )
    (_, field_y), (_, field_x) = reaches[features.op.name]
    return ReceptiveFields(field_y, field_x)


def _ancestors(op: tf.Operation) -> set[str]:
    """Names of all operations that `op` is computed from, and its own."""
    found, waiting = {op.name}, [op]
    while waiting:
        new = {
            tensor.op.name: tensor.op
            for tensor in waiting.pop().inputs
            if tensor.op.name not in found
        }
        found |= new.keys()
        waiting += new.values()
    return found


def _union(op: tf.Operation, branches: Sequence[Reach]) -> Reach:
    """What a cell sees through several branches that meet in `op`: from the first pixel of any to the last of any."""
    cells, stride = branches[0][0], branches[0][1].stride_px
    if any((n, field.stride_px) != (cells, stride) for n, field in branches):
        seen = ", ".join(f"{n} cells of stride {field.stride_px}" for n, field in branches)
        raise ValueError(
            f"receptive field: branches of unequal stride meet in {op.name} ({op.type}): {seen}."
        )
    padding = max(field.padding_px for _, field in branches)
    end = max(field.size_px - field.padding_px for _, field in branches)
    return cells, ReceptiveField(end + padding, stride, padding)


def _through(op: tf.Operation, axis: int, reach: Reach) -> Reach:
    """From what a cell of the input of `op` sees to what one of its output sees. axis: 1 is y, 2 is x."""
    cells, field = reach
    kernel, stride, before, after = 1, 1, 0, 0
    if op.type in WINDOWS:
        kernel, stride, before, after = _window(op, axis, cells)
    elif op.type in PADS:
        before, after = (int(count) for count in tf.get_static_value(op.inputs[1])[axis])
    elif op.type not in CELL_BY_CELL:
        known = ", ".join(WINDOWS + PADS + CELL_BY_CELL)
        raise ValueError(
            f"receptive field: unknown operation {op.type} ({op.name}). Known: {known}."
        )
    if cells + before + after < kernel:
        raise ValueError(
            f"receptive field: the image is too small, {op.name} has {cells} cells for a window of {kernel}."
        )
    size = field.size_px + (kernel - 1) * field.stride_px
    padding = field.padding_px + before * field.stride_px
    return (cells + before + after - kernel) // stride + 1, ReceptiveField(
        size, field.stride_px * stride, padding
    )


def _window(op: tf.Operation, axis: int, cells: int) -> tuple[int, int, int, int]:
    """(extent of the window, stride, cells padded before and after) of a convolution or pooling."""
    if op.get_attr("data_format") != b"NHWC":
        raise ValueError(
            f"receptive field: {op.name} is {op.get_attr('data_format').decode()}; only NHWC is known."
        )
    stride, padding = op.get_attr("strides")[axis], op.get_attr("padding")
    if "Pool" in op.type:
        kernel = op.get_attr("ksize")[axis]
    else:
        kernel = (op.inputs[1].shape[axis - 1] - 1) * op.get_attr("dilations")[axis] + 1
    if padding == b"EXPLICIT":
        before, after = op.get_attr("explicit_paddings")[2 * axis : 2 * axis + 2]
        return kernel, stride, before, after
    total = max((-(-cells // stride) - 1) * stride + kernel - cells, 0) if padding == b"SAME" else 0
    return kernel, stride, total // 2, total - total // 2
