"""Build EfficientNet-Lite 0, 1 and 2 as Keras layers; `pretrained.lite_networks` describes them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.checkpoints import LoadReport
from delf_ext.models.trunks.loading import load_torch
from delf_ext.recipes import schema
from pretrained.lite_networks import END_POINTS, NETWORKS, Convolution, layers_of

# Source: tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py,
# MEAN_RGB, STDDEV_RGB and batch_norm_epsilon.
MEAN = 127.0
DEVIATION = 128.0
EPSILON = 1e-3
# The last one of stride 16.
LOCAL_LAYER = "block5"


class ConvNorm(tf.keras.layers.Layer):
    """Convolution without bias, batch norm, and an optional ReLU6."""

    def __init__(self, network: str, config: Convolution, trunk: schema.Trunk) -> None:
        """Prepare the layer.

        Args:
            network: the first part of the variables' names.
            config: the convolution.
            trunk: weight decay and batch norm.
        """
        super().__init__(name=config.scope.rpartition("/")[2])
        self._scope = f"{network}/{config.scope}"
        self._has_relu = config.has_relu
        # L2(w) adds w * sum(x**2), TF-Slim's weight decay half of that.
        decay = tf.keras.regularizers.L2(trunk.weight_decay / 2)
        shared = {"strides": config.stride, "padding": "same", "use_bias": False}
        if config.is_depthwise:
            self.convolution = tf.keras.layers.DepthwiseConv2D(
                config.kernel, depthwise_regularizer=decay, **shared
            )
        else:
            self.convolution = tf.keras.layers.Conv2D(
                config.outputs, config.kernel, kernel_regularizer=decay, **shared
            )
        self.norm = tf.keras.layers.BatchNormalization(
            momentum=trunk.batch_norm_decay, epsilon=EPSILON
        )

    def build(self, shape: tf.TensorShape) -> None:
        """Create the variables; an absolute scope keeps their names wherever the trunk is used."""
        with tf.name_scope(f"{self._scope}/"):
            self.convolution.build(shape)
            self.norm.build(self.convolution.compute_output_shape(shape))

    def call(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Transform a feature map [B, h, w, C]."""
        features = self.norm(self.convolution(features), training=training)
        return tf.nn.relu6(features) if self._has_relu else features


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
            raise UsageError(
                f"unknown trunk {network!r} of source lite. Known: {', '.join(NETWORKS)}."
            )
        layer = config.end_point or END_POINTS[-1]
        if layer not in END_POINTS:
            known = ", ".join(END_POINTS)
            raise UsageError(
                f"unknown end point {network}/{layer}. Known of {network}: {known} (the default)."
            )
        self.network = network
        self.endpoint = f"{network}/{layer}"
        self.local_layer = LOCAL_LAYER
        self._learns_statistics = config.batch_norm == "training"
        layers = layers_of(network)
        self.layers = list(layers)[: list(layers).index(layer) + 1]
        # Not a dictionary: Keras would sort the variables by its keys.
        self.units = [
            [[ConvNorm(network, one, config) for one in unit] for unit in layers[name]]
            for name in self.layers
        ]

    def call(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Compute the feature maps of all end points up to the last one.

        Args:
            images: [B, H, W, 3], RGB 0..255, any dtype.
            training: use and change the statistics, unless they are frozen.

        Returns:
            Feature maps [B, h, w, C] by name, such as "efficientnet_lite0/block5".
        """
        learns_statistics = bool(training) and self._learns_statistics
        net = (tf.cast(images, tf.float32) - MEAN) / DEVIATION
        endpoints = {}
        for name, units in zip(self.layers, self.units):
            for unit in units:
                start = net
                for layer in unit:
                    net = layer(net, training=learns_statistics)
                # All units of a block but the first keep resolution and channels.
                if unit is not units[0]:
                    net += start
            endpoints[f"{self.network}/{name}"] = net
        return endpoints

    @property
    def structure(self) -> dict[str, Any]:
        """Nothing: there is one layout."""
        return {}

    def load(self, weights: str) -> LoadReport:
        """Copy weights of PyTorch into the built trunk.

        Args:
            weights: name of weights in a package, such as "lite0"; or a path, see `read_network`.

        Returns:
            The report.

        Raises:
            ValueError: they are of another network, or cannot be read. Then no variable is changed.
        """
        return load_torch(self.variables, weights, self.network, "auto")

    def parameter_group(self, name: str) -> str:
        """Return the block of a variable, such as "block3", "stem" or "head"."""
        return name.split("/")[1]


def build(config: schema.Trunk) -> LiteTrunk:
    """Return the trunk of a recipe; UsageError if it is unknown."""
    return LiteTrunk(config)
