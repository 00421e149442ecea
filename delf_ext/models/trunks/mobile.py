"""Build MobileNetV2, MobileNetV3 and EfficientNet in the layouts of torchvision and timm.

`pretrained.mobile_networks` describes them.
"""

from __future__ import annotations

import tensorflow as tf

from delf_ext.models.trunks.network import Network
from pretrained.mobile_networks import LAYOUTS, MobileNet, Unit

layers = tf.keras.layers


class Swish(tf.keras.layers.Layer):
    """x * sigmoid(x)."""

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Compute it from plain operations: those of tf.nn.silu hide its gradient."""
        return values * tf.sigmoid(values)


class HardSigmoid(tf.keras.layers.Layer):
    """relu6(x + 3) / 6, as in arXiv:1905.02244."""

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Compute it; Keras' function of this name has another slope."""
        return tf.nn.relu6(values + 3.0) / 6.0


class HardSwish(tf.keras.layers.Layer):
    """x * relu6(x + 3) / 6."""

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Compute it."""
        return values * (tf.nn.relu6(values + 3.0) / 6.0)


class Relu6(tf.keras.layers.Layer):
    """min(max(x, 0), 6)."""

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Compute it in one operation."""
        return tf.nn.relu6(values)


class Sigmoid(tf.keras.layers.Layer):
    """1 / (1 + exp(-x))."""

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Compute it."""
        return tf.sigmoid(values)


ACTIVATIONS = {
    "relu": layers.ReLU,
    "relu6": Relu6,
    "swish": Swish,
    "hard_swish": HardSwish,
    "sigmoid": Sigmoid,
    "hard_sigmoid": HardSigmoid,
}


def mobile(config: MobileNet, layout: str, ends: tuple[str, ...]) -> Network:
    """Return the whole network without its classifier.

    Args:
        config: its sizes.
        layout: a key of LAYOUTS.
        ends: its end points: blocks, and "head".

    Returns:
        The network.
    """
    builder = _Builder(config, layout)
    image = tf.keras.Input((None, None, 3))
    net = builder.convolve(image, config.stem, 3, 2, "stem", config.activation)
    places = {}
    for block, units in enumerate(config.blocks, start=1):
        for row, unit in enumerate(units, start=1):
            net = builder.unit(net, unit, f"block{block}/unit_{row}")
        places[f"block{block}"] = net.node.layer.name
    net = builder.convolve(net, config.head, 1, 1, "head", config.activation)
    places["head"] = net.node.layer.name
    scaling = config.scaling if layout == "timm_tf" else "torch"
    return Network(tf.keras.Model(image, net), {end: places[end] for end in ends}, scaling)


class _Builder:
    """Layers of one network, in one layout."""

    def __init__(self, config: MobileNet, layout: str) -> None:
        self._config = config
        self._pads_same = LAYOUTS[layout].pads_same
        epsilon = LAYOUTS[layout].epsilon
        self._epsilon = config.epsilon if epsilon is None else epsilon

    def unit(self, net: tf.Tensor, unit: Unit, name: str) -> tf.Tensor:
        """Append an inverted residual unit."""
        start = net
        if unit.inner != start.shape[-1]:
            net = self.convolve(net, unit.inner, 1, 1, f"{name}/expand", unit.activation)
        net = self.convolve(net, 0, unit.kernel, unit.stride, f"{name}/depthwise", unit.activation)
        if unit.squeezed:
            net = self._gate(net, unit, name)
        net = self.convolve(net, unit.outputs, 1, 1, f"{name}/project", "")
        if unit.stride == 1 and unit.outputs == start.shape[-1]:
            net = layers.Add(name=f"{name}/add")([start, net])
        return net

    def convolve(
        self, net: tf.Tensor, channels: int, kernel: int, stride: int, name: str, activation: str
    ) -> tf.Tensor:
        """Append a convolution (depthwise for 0 channels), batch norm, and activation if named."""
        padding = "same"
        if stride == 2 and not self._pads_same:
            net = layers.ZeroPadding2D(kernel // 2, name=f"{name}/pad")(net)
            padding = "valid"
        shared = {"strides": stride, "padding": padding, "use_bias": False, "name": f"{name}/conv"}
        if channels:
            net = layers.Conv2D(channels, kernel, **shared)(net)
        else:
            net = layers.DepthwiseConv2D(kernel, **shared)(net)
        net = layers.BatchNormalization(epsilon=self._epsilon, name=f"{name}/norm")(net)
        return ACTIVATIONS[activation](name=f"{name}/{activation}")(net) if activation else net

    def _gate(self, net: tf.Tensor, unit: Unit, name: str) -> tf.Tensor:
        """Multiply by squeeze-excitation."""
        config = self._config
        gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}/mean")(net)
        gate = layers.Conv2D(unit.squeezed, 1, name=f"{name}/squeeze")(gate)
        gate = ACTIVATIONS[config.squeeze_activation](name=f"{name}/squeeze_activation")(gate)
        gate = layers.Conv2D(unit.inner, 1, name=f"{name}/excite")(gate)
        gate = ACTIVATIONS[config.gate](name=f"{name}/gate")(gate)
        return layers.Multiply(name=f"{name}/gated")([net, gate])
