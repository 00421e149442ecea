"""Turn a whole Keras network into a trunk: cut it at an end point, name and prepare its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.recipes import schema
from pretrained.keras_networks import OUTPUT, SCALINGS

layers = tf.keras.layers
REGULARIZERS = ("kernel_regularizer", "depthwise_regularizer", "pointwise_regularizer")
STRIDED = (layers.Conv2D, layers.SeparableConv2D, layers.DepthwiseConv2D)
POOLS = (layers.MaxPooling2D, layers.AveragePooling2D)
# Its function, not its class, is in its name; it has no variables.
OPERATIONS = ("TFOpLambda", "SlicingOpLambda")


class StoredNorm(tf.keras.layers.BatchNormalization):
    """Batch norm that uses and keeps the stored statistics also in training."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        """Normalize with the stored statistics."""
        return super().call(inputs, training=False)


class PadByParity(tf.keras.layers.Layer):
    """Zero padding in front of a pooling of stride 2, so that it ends where `SAME` ends.

    Keras chooses this padding when a network is built: one row less in front if the side is even.
    """

    def __init__(self, pad: int, name: str) -> None:
        """Prepare the layer; `pad` is half of the window, rounded down."""
        super().__init__(name=name)
        self._pad = pad

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Pad [B, h, w, C]."""
        odd = tf.shape(features)[1:3] % 2
        before = self._pad - 1 + odd
        after = tf.fill([2], self._pad)
        sides = tf.stack([before, after], axis=1)
        return tf.pad(features, tf.concat([[[0, 0]], sides, [[0, 0]]], axis=0))


class Network(NamedTuple):
    """Whole network without its classifier.

    Attributes:
        model: from scaled pixels [B, H, W, 3] to its last feature map.
        end_points: name -> place, see `pretrained.keras_networks.Network`.
        scaling: a key of SCALINGS.
    """

    model: tf.keras.Model
    end_points: Mapping[str, str]
    scaling: str


class Cut(NamedTuple):
    """Network up to an end point, with new layers.

    Attributes:
        model: scaled pixels -> feature map of each end point.
        groups: name of a variable -> the first end point that needs it.
        in_order: (layer, its variables here, the shapes of its weights) in the order of a file of
            Keras; a layer behind the end point has no variables here.
    """

    model: tf.keras.Model
    groups: dict[str, str]
    in_order: list[tuple[str, list[tf.Variable], list[tuple[int, ...]]]]


def place_of(model: tf.keras.Model, place: str) -> Any:
    """Return the symbolic tensor at a place of a network.

    Args:
        model: the whole network.
        place: see `pretrained.keras_networks.Network`.

    Returns:
        The tensor [B, h, w, C].
    """
    if place == OUTPUT:
        return model.output
    layer = model.get_layer(place.removeprefix("<"))
    return layer.inbound_nodes[-1].input_tensors if place.startswith("<") else layer.output


def cut(network: Network, name: str, end_point: str, config: schema.Trunk) -> Cut:
    """Copy a network up to an end point, with the settings of a recipe.

    Args:
        network: the whole one.
        name: the first part of the variables' names.
        end_point: one of its end points.
        config: weight decay and batch norm.

    Returns:
        The copy; the names of its variables do not depend on what was built before.
    """
    wanted = list(network.end_points)
    wanted = wanted[: wanted.index(end_point) + 1]
    tensors = [place_of(network.model, network.end_points[one]) for one in wanted]
    names = _stable_names(network.model)
    copies: dict[str, tf.keras.layers.Layer] = {}
    copy = partial(_copied, config, lambda layer: f"{name}/{names[layer]}", copies)
    part = tf.keras.Model(network.model.input, tensors)
    image = tf.keras.Input((None, None, 3))
    model = tf.keras.models.clone_model(part, input_tensors=image, clone_function=copy)
    groups: dict[str, str] = {}
    for one, tensor in zip(wanted, tensors):
        for layer in tf.keras.Model(network.model.input, tensor).layers:
            for variable in copies[layer.name].weights if layer.name in copies else ():
                groups.setdefault(variable.name.split(":")[0], one)
    in_order = [
        (
            names[layer.name],
            list(copies[layer.name].weights) if layer.name in copies else [],
            [tuple(weight.shape) for weight in layer.weights],
        )
        for layer in network.model.layers
        if layer.weights
    ]
    return Cut(model, groups, in_order)


def _stable_names(model: tf.keras.Model) -> dict[str, str]:
    """Return a name of each layer that does not depend on what was built before in the process.

    Keras numbers layers without a name, such as "conv2d_7", over all networks.
    """
    names = {}
    counts: dict[str, int] = {}
    for layer in model.layers:
        kind = tf.keras.utils.get_registered_name(type(layer)).lower()
        front, _, number = layer.name.rpartition("_")
        stem = front if number.isdecimal() and front else layer.name
        names[layer.name] = layer.name
        if stem.replace("_", "") == kind:
            counts[stem] = counts.get(stem, -1) + 1
            names[layer.name] = f"{stem}_{counts[stem]}"
    return names


def _copied(
    config: schema.Trunk,
    named: Callable[[str], str],
    copies: dict[str, tf.keras.layers.Layer],
    layer: tf.keras.layers.Layer,
) -> tf.keras.layers.Layer:
    """Return a new layer like `layer`, and add it to `copies`."""
    settings = layer.get_config()
    if isinstance(layer, tf.keras.Sequential):
        inner = [one for one in layer.layers if not isinstance(one, layers.InputLayer)]
        prefix = named(layer.name)
        copy = partial(_copied, config, lambda name: f"{prefix}/{name}", {})
        new = tf.keras.Sequential([copy(one) for one in inner], name=prefix)
        # As the original: Keras' clone_model never ends if only one of them is built.
        new.build(layer.inputs[0].shape)
    elif type(layer).__name__ in OPERATIONS:
        new = type(layer).from_config(settings)
    elif isinstance(layer, layers.Rescaling | layers.Normalization):
        # The trunk scales its input itself.
        new = layers.Activation("linear", name=named(layer.name))
    else:
        settings["name"] = named(layer.name)
        new = _changed(layer, settings, config)
    copies[layer.name] = new
    return new


def _changed(
    layer: tf.keras.layers.Layer, settings: dict, config: schema.Trunk
) -> tf.keras.layers.Layer:
    kind = type(layer)
    if kind is layers.Conv2D and layer.groups == layer.filters and layer.kernel.shape[2] == 1:
        kind, settings = layers.DepthwiseConv2D, _of_depthwise(settings)
    if isinstance(layer, tf.keras.layers.BatchNormalization):
        settings["momentum"] = config.batch_norm_decay
        kind = StoredNorm if config.batch_norm == "inference" else kind
    if config.weight_decay:
        # L2(w) adds w * sum(x**2), TF-Slim's weight decay half of that.
        decay = tf.keras.regularizers.L2(config.weight_decay / 2)
        settings.update({key: decay for key in REGULARIZERS if key in settings})
    if _pads_by_parity(layer):
        if isinstance(_after(layer)[0], POOLS):
            return PadByParity(settings["padding"][0][1], settings["name"])
        return layers.Activation("linear", name=settings["name"])
    if isinstance(layer, STRIDED) and any(map(_pads_by_parity, _before(layer))):
        settings["padding"] = "same"
    new = kind.from_config(settings)
    if isinstance(new, layers.Conv2D) and new.groups > 1:
        _convolve_group_by_group(new)
    return new


def _convolve_group_by_group(layer: tf.keras.layers.Conv2D) -> None:
    """Make a layer that is not built yet use plain operations; OpenVINO cannot read Keras' own."""
    one_group = layer.convolution_op

    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        parts = [tf.split(values, layer.groups, axis=-1) for values in (inputs, kernel)]
        return tf.concat([one_group(*pair) for pair in zip(*parts)], axis=-1)

    layer.convolution_op = convolve
    # A layer that normalizes its kernel replaces `convolution_op` when it is built.
    layer._jit_compiled_convolution_op = lambda *pair: layer.convolution_op(*pair)


def _of_depthwise(settings: dict) -> dict:
    """Return the settings of a convolution with one channel in a group as those of a depthwise one.

    Keras compiles convolutions in groups with XLA, which is slow, and freezing a graph undoes it.
    """
    parts = ("initializer", "regularizer", "constraint")
    names = {f"kernel_{part}": f"depthwise_{part}" for part in parts}
    kept = {key: value for key, value in settings.items() if key not in ("filters", "groups")}
    return {names.get(key, key): value for key, value in kept.items()}


def _pads_by_parity(layer: tf.keras.layers.Layer) -> bool:
    """Return whether a layer replaces `SAME` padding: Keras fixes it for an even side."""
    if not isinstance(layer, layers.ZeroPadding2D):
        return False
    (top, bottom), (left, right) = layer.padding
    return top == left == bottom - 1 == right - 1 and all(
        isinstance(one, (*STRIDED, *POOLS)) and one.strides == (2, 2) and one.padding == "valid"
        for one in _after(layer)
    )


def _after(layer: tf.keras.layers.Layer) -> list[tf.keras.layers.Layer]:
    return [node.outbound_layer for node in layer.outbound_nodes]


def _before(layer: tf.keras.layers.Layer) -> Sequence[tf.keras.layers.Layer]:
    return [one for node in layer.inbound_nodes for one in tf.nest.flatten(node.inbound_layers)]


def scaled(images: tf.Tensor, scaling: str) -> tf.Tensor:
    """Scale images as a network expects them.

    Args:
        images: [B, H, W, 3], RGB 0..255, any dtype.
        scaling: a key of SCALINGS.

    Returns:
        float32 of the same shape.
    """
    mean, deviation, is_bgr = SCALINGS[scaling]
    pixels = (tf.cast(images, tf.float32) - tf.constant(mean)) / tf.constant(deviation)
    return pixels[..., ::-1] if is_bgr else pixels


def known_end_point(name: str, end_point: str, known: Sequence[str]) -> str:
    """Return an end point of a network.

    Args:
        name: of the network.
        end_point: "" means the last one.
        known: all its end points, from the image on.

    Returns:
        The end point.

    Raises:
        UsageError: it is unknown.
    """
    if end_point and end_point not in known:
        raise UsageError(
            f"unknown end point {name}/{end_point}. Known of {name}: {', '.join(known)} "
            "(the default)."
        )
    return end_point or known[-1]
