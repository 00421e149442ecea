"""Build EfficientNet-Lite 0, 1 and 2 as Keras layers.

Source: tensorflow/tpu, models/official/efficientnet/lite: EfficientNet (arXiv:1905.11946) without
squeeze-excitation, with ReLU6, and with stem and head of a fixed width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.checkpoints import LoadReport, load_by_name, load_tensors
from delf_ext.recipes import schema
from pretrained.lite_names import is_state_dict, read_lite

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
EPSILON = 1e-3
# Source: the same folder, MEAN_RGB and STDDEV_RGB.
MEAN = 127.0
DEVIATION = 128.0


class Block(NamedTuple):
    """Stage of inverted residual units.

    Attributes:
        units: number of units at depth 1.
        kernel: side of the depthwise kernels.
        stride: of the first unit.
        expansion: channels inside of a unit, as a multiple of its input channels.
        channels: output channels at width 1.
    """

    units: int
    kernel: int
    stride: int
    expansion: int
    channels: int


BLOCKS = (
    Block(1, 3, 1, 1, 16),
    Block(2, 3, 2, 6, 24),
    Block(2, 5, 2, 6, 40),
    Block(3, 3, 2, 6, 80),
    Block(3, 5, 1, 6, 112),
    Block(4, 5, 2, 6, 192),
    Block(1, 3, 1, 6, 320),
)


class Scale(NamedTuple):
    """How much larger than EfficientNet-Lite0 a network is.

    Attributes:
        width: factor of the channels.
        depth: factor of the units; the first and the last block keep their number.
    """

    width: float
    depth: float


NETWORKS = {
    "efficientnet_lite0": Scale(1.0, 1.0),
    "efficientnet_lite1": Scale(1.0, 1.1),
    "efficientnet_lite2": Scale(1.1, 1.2),
}
LAYERS = ("stem", *(f"block{number}" for number in range(1, len(BLOCKS) + 1)), "head")
"""End points, from the image on."""


def scaled_blocks(scale: Scale) -> list[Block]:
    """Return the blocks of a network."""
    blocks = []
    for number, block in enumerate(BLOCKS):
        is_inner = 0 < number < len(BLOCKS) - 1
        units = math.ceil(block.units * scale.depth) if is_inner else block.units
        channels = round_channels(block.channels * scale.width)
        blocks.append(block._replace(units=units, channels=channels))
    return blocks


def round_channels(channels: float) -> int:
    """Round to a multiple of 8, but not below 90 % of `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class ConvNorm(tf.keras.layers.Layer):
    """Convolution without bias, batch norm, and an optional ReLU6."""

    def __init__(
        self, scope: str, convolution: tf.keras.layers.Layer, decay: float, relu: bool
    ) -> None:
        """Prepare the layer.

        Args:
            scope: prefix of the variables' names.
            convolution: the convolution, not built yet.
            decay: share of the stored statistics that a training step keeps.
            relu: whether a ReLU6 follows.
        """
        super().__init__(name=scope.rpartition("/")[2])
        self.scope = scope
        self.convolution = convolution
        self.norm = tf.keras.layers.BatchNormalization(momentum=decay, epsilon=EPSILON)
        self.relu = relu

    def build(self, shape: tf.TensorShape) -> None:
        """Create the variables; an absolute scope keeps their names wherever the trunk is used."""
        with tf.name_scope(f"{self.scope}/"):
            self.convolution.build(shape)
            self.norm.build(self.convolution.compute_output_shape(shape))

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Transform a feature map [B, h, w, C]."""
        features = self.norm(self.convolution(images), training=training)
        return tf.nn.relu6(features) if self.relu else features


class LiteTrunk(tf.keras.layers.Layer):
    """EfficientNet-Lite up to one end point; Keras' `losses` has its weight decay."""

    def __init__(self, config: schema.Trunk) -> None:
        """Prepare the trunk; its variables are created at the first call.

        Args:
            config: trunk of a recipe with source "lite".

        Raises:
            UsageError: the network or end point is unknown.
        """
        super().__init__(name="trunk")
        network = config.name
        if network not in NETWORKS:
            raise UsageError(f"unknown trunk {network!r}. Known: {', '.join(NETWORKS)}.")
        layer = config.end_point or LAYERS[-1]
        if layer not in LAYERS:
            raise UsageError(
                f"unknown end point {network}/{layer}. Known of {network}: {', '.join(LAYERS)}."
            )
        self.network = network
        self.layer = layer
        self.endpoint = f"{network}/{layer}"
        self.freeze_batch_norm = config.batch_norm == "inference"
        self._regularizer = tf.keras.regularizers.L2(config.weight_decay / 2)
        self._decay = config.batch_norm_decay
        self.stages = dict(self._stages(LAYERS.index(layer)))

    def _stages(self, last: int) -> Iterator[tuple[str, list[list[ConvNorm]]]]:
        """Yield each end point's name and its units; a unit is a list of convolutions."""
        yield "stem", [[self._conv("stem", STEM_CHANNELS, 3, 2, relu=True)]]
        channels = STEM_CHANNELS
        for number, block in enumerate(scaled_blocks(NETWORKS[self.network]), start=1):
            if number > last:
                return
            units = []
            for unit in range(1, block.units + 1):
                stride = block.stride if unit == 1 else 1
                units.append(self._unit(f"block{number}/unit_{unit}", channels, block, stride))
                channels = block.channels
            yield f"block{number}", units
        if last == len(LAYERS) - 1:
            yield "head", [[self._conv("head", HEAD_CHANNELS, 1, 1, relu=True)]]

    def _unit(self, scope: str, channels: int, block: Block, stride: int) -> list[ConvNorm]:
        layers = []
        if block.expansion > 1:
            inside = channels * block.expansion
            layers.append(self._conv(f"{scope}/expand", inside, 1, 1, relu=True))
        depthwise = tf.keras.layers.DepthwiseConv2D(
            block.kernel,
            stride,
            "same",
            use_bias=False,
            depthwise_regularizer=self._regularizer,
        )
        scope_in_file = f"{self.network}/{scope}/depthwise"
        layers.append(ConvNorm(scope_in_file, depthwise, self._decay, relu=True))
        layers.append(self._conv(f"{scope}/project", block.channels, 1, 1, relu=False))
        return layers

    def _conv(self, scope: str, channels: int, kernel: int, stride: int, relu: bool) -> ConvNorm:
        convolution = tf.keras.layers.Conv2D(
            channels, kernel, stride, "same", use_bias=False, kernel_regularizer=self._regularizer
        )
        return ConvNorm(f"{self.network}/{scope}", convolution, self._decay, relu)

    def call(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Compute the feature maps of all end points up to the last one.

        Args:
            images: [B, H, W, 3], RGB 0..255, any dtype.
            training: use and change the statistics, unless they are frozen.

        Returns:
            Feature maps [B, h, w, C] by name, such as "efficientnet_lite0/block5".
        """
        learns_statistics = bool(training) and not self.freeze_batch_norm
        net = (tf.cast(images, tf.float32) - MEAN) / DEVIATION
        endpoints = {}
        for name, units in self.stages.items():
            for unit in units:
                before = net
                for layer in unit:
                    net = layer(net, training=learns_statistics)
                # Units that keep the number of channels have a shortcut.
                if name.startswith("block") and before.shape[-1] == net.shape[-1]:
                    net += before
            endpoints[f"{self.network}/{name}"] = net
        return endpoints

    def load(self, weights: str) -> LoadReport:
        """Copy weights into the built trunk, of a PyTorch file or a TensorFlow checkpoint.

        Args:
            weights: path; or the short name of weights in a package, such as "lite0".

        Returns:
            The report.

        Raises:
            ValueError: the weights do not fit, or cannot be read.
        """
        if is_state_dict(weights):
            names = [variable.name.split(":")[0] for variable in self.variables]
            return load_tensors(self.variables, *read_lite(weights, names), self.network)
        return load_by_name(self.variables, weights, self.network, NETWORKS)

    def parameter_group(self, name: str) -> str:
        """Return the block of a variable, such as "block3", "stem" or "head"."""
        return name.split("/")[1]


def build(config: schema.Trunk) -> LiteTrunk:
    """Return the trunk of a recipe; UsageError if it is unknown."""
    return LiteTrunk(config)
