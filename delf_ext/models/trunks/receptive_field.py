"""Compute from a network's graph which input pixels a cell of a feature map sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

WINDOWS = ("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool")
PADS = ("Pad", "PadV2", "MirrorPad")
# Squeeze-excitation multiplies channels by what it computes from the mean of the whole map. This
# does not change where a cell looks, and it is not followed.
MEAN = "Mean"
CELL_BY_CELL = (
    "Identity",
    "IdentityN",
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
)


class ReceptiveField(NamedTuple):
    """Pixels that the cells of a feature map see along one axis.

    Cell i sees `size_px` pixels from i * stride_px - padding_px on; some may be outside the image.

    Attributes:
        size_px: number of pixels that one cell sees.
        stride_px: distance of the first pixels of two neighbours.
        padding_px: number of pixels that cell 0 sees before the image.
        num_cells: number n of cells.
    """

    size_px: int
    stride_px: int
    padding_px: int
    num_cells: int

    def centers_px(self) -> np.ndarray:
        """Compute the centres of the cells' receptive fields.

        Returns:
            float64 [n], pixel centres of the network's input (the first pixel is at 0).
        """
        centers = np.arange(self.num_cells) * self.stride_px + (self.size_px - 1) / 2
        return centers - self.padding_px


def receptive_field_of(
    features: tf.Tensor, images: tf.Tensor, height_px: int, width_px: int
) -> tuple[ReceptiveField, ReceptiveField]:
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
    fields = {images.op.name: [ReceptiveField(1, 1, 0, side) for side in (height_px, width_px)]}
    needed = _ancestors(features.op)
    # The operations are in the order in which they were made, so inputs come first.
    for op in features.graph.get_operations():
        inputs = [fields[tensor.op.name] for tensor in op.inputs if tensor.op.name in fields]
        if inputs and op.name in needed and op.type != MEAN:
            fields[op.name] = [
                _through(op, axis, _union(op, branches))
                for axis, branches in enumerate(zip(*inputs, strict=True), start=1)
            ]
    if features.op.name not in fields:
        raise ValueError(
            f"receptive field: {features.op.name} is not computed from {images.op.name}."
        )
    y, x = fields[features.op.name]
    return y, x


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


def _union(op: tf.Operation, branches: Sequence[ReceptiveField]) -> ReceptiveField:
    """Return what a cell sees through branches that meet in `op`: from the first pixel to the last.

    Returns:
        The union.

    Raises:
        ValueError: the branches have different strides.
    """
    strides = [f"{field.num_cells} cells of stride {field.stride_px}" for field in branches]
    if len(set(strides)) > 1:
        raise ValueError(
            f"receptive field: branches of unequal stride meet in {op.name} ({op.type}): "
            f"{', '.join(strides)}."
        )
    padding = max(field.padding_px for field in branches)
    end = max(field.size_px - field.padding_px for field in branches)
    return branches[0]._replace(size_px=end + padding, padding_px=padding)


def _through(op: tf.Operation, axis: int, field: ReceptiveField) -> ReceptiveField:
    """Return what a cell of the output of `op` sees.

    Args:
        op: the operation.
        axis: 1 is y, 2 is x.
        field: what a cell of its input sees.

    Returns:
        What a cell of its output sees.

    Raises:
        ValueError: the operation is unknown, or its input is too small.
    """
    kernel, stride, before, after = 1, 1, 0, 0
    if op.type in WINDOWS:
        kernel, stride, before, after = _window(op, axis, field.num_cells)
    elif op.type in PADS:
        before, after = (int(count) for count in tf.get_static_value(op.inputs[1])[axis])
    elif op.type not in CELL_BY_CELL:
        known = ", ".join(WINDOWS + PADS + CELL_BY_CELL)
        raise ValueError(
            f"receptive field: unknown operation {op.type} ({op.name}). Known: {known}."
        )
    padded = field.num_cells + before + after
    if padded < kernel:
        raise ValueError(
            f"receptive field: the image is too small, {op.name} has {field.num_cells} cells "
            f"for a window of {kernel}."
        )
    size = field.size_px + (kernel - 1) * field.stride_px
    padding = field.padding_px + before * field.stride_px
    num_cells = (padded - kernel) // stride + 1
    return ReceptiveField(size, field.stride_px * stride, padding, num_cells)


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
