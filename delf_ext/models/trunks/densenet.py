"""Build DenseNet in PyTorch's layout; `pretrained.densenet_networks` describes it.

Keras' DenseNet has the same padding and strides, but no DenseNet-161, and another epsilon.
"""

from __future__ import annotations

import tensorflow as tf

from delf_ext.models.trunks.network import Network
from pretrained.densenet_networks import BOTTLENECK, DenseNet

layers = tf.keras.layers
# Source: torch.nn.BatchNorm2d.
EPSILON = 1e-5


def densenet(config: DenseNet) -> Network:
    """Return the whole network without its classifier.

    Args:
        config: its sizes.

    Returns:
        The network; its end points are the stem and each block, the last one behind the last
        batch norm and ReLU.
    """
    image = tf.keras.Input((None, None, 3))
    net = layers.ZeroPadding2D(3, name="stem/pad")(image)
    net = _convolution(net, config.stem, 7, "stem/conv", strides=2)
    net = _norm_and_relu(net, "stem/norm", "stem/relu")
    # Behind a ReLU, zeros never change a maximum.
    net = layers.ZeroPadding2D(1, name="stem/pool_pad")(net)
    net = layers.MaxPooling2D(3, strides=2, name="stem/pool")(net)
    ends = {"stem": "stem/pool"}
    for block, units in enumerate(config.units, start=1):
        for unit in range(1, units + 1):
            net = _unit(net, config.growth, f"block{block}/unit_{unit}")
        ends[f"block{block}"] = f"block{block}/unit_{units}/concat"
        if block < len(config.units):
            name = f"transition{block}"
            net = _norm_and_relu(net, f"{name}/norm", f"{name}/relu")
            net = _convolution(net, net.shape[-1] // 2, 1, f"{name}/conv")
            net = layers.AveragePooling2D(2, strides=2, name=f"{name}/pool")(net)
    net = _norm_and_relu(net, "final/norm", "final/relu")
    ends[f"block{len(config.units)}"] = "final/relu"
    return Network(tf.keras.Model(image, net), ends, "torch")


def _unit(net: tf.Tensor, growth: int, name: str) -> tf.Tensor:
    """Append `growth` channels to a feature map."""
    new = _norm_and_relu(net, f"{name}/norm1", f"{name}/relu1")
    new = _convolution(new, BOTTLENECK * growth, 1, f"{name}/conv1")
    new = _norm_and_relu(new, f"{name}/norm2", f"{name}/relu2")
    new = _convolution(new, growth, 3, f"{name}/conv2", padding="same")
    return layers.Concatenate(name=f"{name}/concat")([net, new])


def _norm_and_relu(net: tf.Tensor, norm: str, relu: str) -> tf.Tensor:
    net = layers.BatchNormalization(epsilon=EPSILON, name=norm)(net)
    return layers.ReLU(name=relu)(net)


def _convolution(
    net: tf.Tensor, channels: int, kernel: int, name: str, strides: int = 1, padding: str = "valid"
) -> tf.Tensor:
    return layers.Conv2D(
        channels, kernel, strides=strides, padding=padding, use_bias=False, name=name
    )(net)
