"""Compute from a network's graph which input pixels a cell of a feature map sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

WINDOWS = ("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool")
PADS = ("Pad", "PadV2", "MirrorPad")
CELL_BY_CELL = tuple(
    [
        "Identity",
        "Cast",
        "BiasAdd",
        "FusedBatchNormV3",
        "Relu",
        "Relu6",
        "Elu",
        "Sigmoid",
        "Softplus",
        "AddV2",
        "Sub",
        "Mul",
        "RealDiv",
        "Maximum",
        "ConcatV2",
    ]
)


@dataclass(frozen=True)
class ReceptiveField:
    """Pixels that the cells of a feature map see along one axis.

    Cell i sees `size_px` pixels from i * stride_px - padding_px on; some may be outside the image.

    Attributes:
        size_px: number of pixels that one cell sees.
        stride_px: distance of the first pixels of two neighbours.
        padding_px: number of pixels that cell 0 sees before the image.
    """

    size_px: int
    stride_px: int
    padding_px: int

    def centers_px(self, n: int) -> np.ndarray:
        """Compute the centres of the first cells' receptive fields.

        Args:
            n: number of cells.

        Returns:
            float64 [n], pixel centres of the network's input (the first pixel is at 0).
        """
        return np.arange(n) * self.stride_px - self.padding_px + (self.size_px - 1) / 2


class ReceptiveFields(NamedTuple):
    """Receptive fields of both axes; they differ if the sides or the kernels are not square."""

    y: ReceptiveField
    x: ReceptiveField


class _Reach(NamedTuple):
    """Number of cells of a tensor along one axis, and the pixels that they see."""

    num_cells: int
    field: ReceptiveField


def receptive_field_of(
    features: tf.Tensor, images: tf.Tensor, height_px: int, width_px: int
) -> ReceptiveFields:
    """Compute what a cell of `features` sees of an image; takes milliseconds.

    The size of the image matters: `SAME` padding with a stride pads both sides differently if its
    input is even. In the ResNets that is pool1 (TF-Slim's layout and v2), whose input is half the
    image, rounded up. DELF's published size / stride / padding (tensorflow/models,
    delf/feature_extractor.py) are 291 / 32 / 145 for resnet_v1_50/block3 and 483 / 32 / 241 for
    block4. They hold for sides of 1 or 2 modulo 4. For 3 or 0 modulo 4, so for all multiples of 32,
    the padding is 143 and 239: cells see two pixels further right and down. Layouts with a padded
    pool1 do not have this difference.

    Args:
        features: [B, h, w, C], of a graph that was traced for inference.
        images: [B, H, W, 3], the input of the graph.
        height_px: of the image.
        width_px: of the image.

    Returns:
        The receptive fields along y and x.

    Raises:
        ValueError: `features` are not computed from `images`, the image is too small for one cell,
            or the graph has an unknown operation.
    """
    pixel = ReceptiveField(1, 1, 0)
    reaches = {images.op.name: (_Reach(height_px, pixel), _Reach(width_px, pixel))}
    needed = _ancestors(features.op)
    # The operations are in the order in which they were made, so inputs come first.
    for op in features.graph.get_operations():
        inputs = [reaches[tensor.op.name] for tensor in op.inputs if tensor.op.name in reaches]
        if inputs and op.name in needed:
            y = _through(op, 1, _union(op, [reach_y for reach_y, _ in inputs]))
            x = _through(op, 2, _union(op, [reach_x for _, reach_x in inputs]))
            reaches[op.name] = (y, x)
    if features.op.name not in reaches:
        raise ValueError(
            f"receptive field: {features.op.name} is not computed from {images.op.name}."
        )
    y, x = reaches[features.op.name]
    return ReceptiveFields(y.field, x.field)


def _ancestors(op: tf.Operation) -> set[str]:
    """Return the names of `op` and of all operations that it is computed from."""
    names = {op.name}
    waiting = [op]
    while waiting:
        inputs = {tensor.op.name: tensor.op for tensor in waiting.pop().inputs}
        new = {name: input_op for name, input_op in inputs.items() if name not in names}
        names |= new.keys()
        waiting += new.values()
    return names


def _union(op: tf.Operation, branches: Sequence[_Reach]) -> _Reach:
    """Return what a cell sees through branches that meet in `op`: from the first pixel to the last.

    Returns:
        The union.

    Raises:
        ValueError: the branches have different strides.
    """
    num_cells = branches[0].num_cells
    stride = branches[0].field.stride_px
    if any((n, field.stride_px) != (num_cells, stride) for n, field in branches):
        found = ", ".join(f"{n} cells of stride {field.stride_px}" for n, field in branches)
        raise ValueError(
            f"receptive field: branches of unequal stride meet in {op.name} ({op.type}): {found}."
        )
    padding = max(field.padding_px for _, field in branches)
    end = max(field.size_px - field.padding_px for _, field in branches)
    return _Reach(num_cells, ReceptiveField(end + padding, stride, padding))


def _through(op: tf.Operation, axis: int, reach: _Reach) -> _Reach:
    """Return what a cell of the output of `op` sees.

    Args:
        op: the operation.
        axis: 1 is y, 2 is x.
        reach: what a cell of its input sees.

    Returns:
        The reach of the output.

    Raises:
        ValueError: the operation is unknown, or its input is too small.
    """
    num_cells, field = reach
    kernel, stride, before, after = 1, 1, 0, 0
    if op.type in WINDOWS:
        kernel, stride, before, after = _window(op, axis, num_cells)
    elif op.type in PADS:
        before, after = (int(count) for count in tf.get_static_value(op.inputs[1])[axis])
    elif op.type not in CELL_BY_CELL:
        known = ", ".join(WINDOWS + PADS + CELL_BY_CELL)
        raise ValueError(
            f"receptive field: unknown operation {op.type} ({op.name}). Known: {known}."
        )
    padded = num_cells + before + after
    if padded < kernel:
        raise ValueError(
            f"receptive field: the image is too small, {op.name} has {num_cells} cells for a "
            f"window of {kernel}."
        )
    size = field.size_px + (kernel - 1) * field.stride_px
    padding = field.padding_px + before * field.stride_px
    output_field = ReceptiveField(size, field.stride_px * stride, padding)
    return _Reach((padded - kernel) // stride + 1, output_field)


def _window(op: tf.Operation, axis: int, num_cells: int) -> tuple[int, int, int, int]:
    """Return the window of a convolution or pooling along an axis.

    Returns:
        (extent of the window, stride, cells padded before, cells padded after).

    Raises:
        ValueError: the layout of the tensor is not NHWC.
    """
    data_format = op.get_attr("data_format")
    if data_format != b"NHWC":
        raise ValueError(
            f"receptive field: {op.name} is {data_format.decode()}; only NHWC is known."
        )
    stride = op.get_attr("strides")[axis]
    padding = op.get_attr("padding")
    if "Pool" in op.type:
        kernel = op.get_attr("ksize")[axis]
    else:
        kernel = (op.inputs[1].shape[axis - 1] - 1) * op.get_attr("dilations")[axis] + 1
    if padding == b"EXPLICIT":
        before, after = op.get_attr("explicit_paddings")[2 * axis : 2 * axis + 2]
        return kernel, stride, before, after
    total = 0
    if padding == b"SAME":
        num_outputs = -(-num_cells // stride)
        total = max((num_outputs - 1) * stride + kernel - num_cells, 0)
    return kernel, stride, total // 2, total - total // 2
