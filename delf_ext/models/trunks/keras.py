"""Build the networks of tf.keras.applications, of torchvision and timm, and of the extra `zoo`."""

from __future__ import annotations

import importlib
from typing import Any

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.checkpoints import LoadReport
from delf_ext.models.trunks.densenet import densenet
from delf_ext.models.trunks.loading import load_keras, load_torch
from delf_ext.models.trunks.mobile import mobile
from delf_ext.models.trunks.network import Cut, Network, cut, known_end_point, scaled
from delf_ext.recipes import schema
from delf_ext.recipes.part import one_of
from pretrained.densenet_networks import DENSENETS
from pretrained.keras_networks import NETWORKS, layouts_of
from pretrained.mobile_networks import MOBILENETS

ZOO = "keras_cv_attention_models"


class KerasTrunk(tf.keras.layers.Layer):
    """Network of Keras or the zoo up to one end point; `losses` has its weight decay."""

    def __init__(self, config: schema.Trunk) -> None:
        """Prepare the trunk; the network is built at the first call.

        Args:
            config: trunk of a recipe with source "keras" or "zoo".

        Raises:
            UsageError: the network, its end point or layout is unknown.
        """
        super().__init__(name="trunk")
        self.network = config.name
        known = [name for name, one in NETWORKS.items() if one.source == config.source]
        if self.network not in known:
            raise UsageError(
                f"unknown trunk {self.network!r} of source {config.source}. "
                f"Known: {', '.join(known)}."
            )
        described = NETWORKS[self.network]
        self.layer = known_end_point(self.network, config.end_point, list(described.end_points))
        self.endpoint = f"{self.network}/{self.layer}"
        self.local_layer = described.local
        layouts = layouts_of(self.network)
        if config.layout not in ("auto", *layouts):
            raise UsageError(
                f"{self.network} has the layouts {one_of(layouts)}. "
                f"Received {config.layout!r} (--layout, Trunk.layout)."
            )
        self.layout = layouts[0] if config.layout == "auto" else config.layout
        self._config = config
        self._groups: dict[str, str] = {}

    def build(self, shape: Any) -> None:
        """Build the network with its variables."""
        with tf.init_scope():
            whole = whole_network(self.network, self.layout)
            part = cut(whole, self.network, self.layer, self._config)
        self._scaling = whole.scaling
        self._names = [f"{self.network}/{name}" for name in list(whole.end_points)]
        self._network = part.model
        self._groups = part.groups
        self._part = _Untracked(part)
        super().build(shape)

    def call(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Compute the feature maps of all end points up to the last one.

        Args:
            images: [B, H, W, 3], RGB 0..255, any dtype.
            training: use and change the statistics, unless they are frozen; drop branches and
                channels as the network does.

        Returns:
            Feature maps [B, h, w, C] by name, such as "densenet121/block3".
        """
        maps = self._network(scaled(images, self._scaling), training=bool(training))
        return dict(zip(self._names, tf.nest.flatten(maps)))

    @property
    def structure(self) -> dict[str, Any]:
        """The layout, if the network has several."""
        return {"layout": self.layout}

    def load(self, weights: str) -> LoadReport:
        """Copy pretrained weights into the built trunk.

        Args:
            weights: path of a .h5 file of Keras, or of a state dict of torchvision or timm.

        Returns:
            The report.

        Raises:
            ValueError: they are of another network, or cannot be read. Then no variable is changed.
        """
        if self.layout == "keras":
            return load_keras(self._part.content.in_order, weights, self.network)
        return load_torch(self.variables, weights, self.network, self.layout)

    def parameter_group(self, name: str) -> str:
        """Return the first end point that needs a variable, such as "stem" or "block3"."""
        return self._groups[name]


class _Untracked:
    """Holder of values that Keras must not take for parts of a layer."""

    def __init__(self, content: Cut) -> None:
        self.content = content


def whole_network(name: str, layout: str) -> Network:
    """Build a network without its classifier, and with random weights.

    Args:
        name: a key of NETWORKS.
        layout: one of `layouts_of(name)`.

    Returns:
        The network.

    Raises:
        UsageError: the extra `zoo` is missing.
    """
    described = NETWORKS[name]
    if layout != "keras":
        if name in DENSENETS:
            return densenet(DENSENETS[name])
        return mobile(MOBILENETS[name], layout, tuple(described.end_points))
    if described.source == "zoo":
        model = _from_zoo(name, described.constructor)
    else:
        construct = getattr(tf.keras.applications, described.constructor)
        image = tf.keras.Input((described.built_px, described.built_px, 3))
        model = construct(include_top=False, weights=None, input_tensor=image)
    return Network(model, described.end_points, described.scaling)


def _from_zoo(name: str, constructor: str) -> tf.keras.Model:
    module, _, function = constructor.partition(".")
    try:
        zoo = importlib.import_module(f"{ZOO}.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != ZOO:
            raise
        raise UsageError(
            f'the trunk {name} needs keras-cv-attention-models: pip install -e ".[zoo]" in the '
            "clone."
        ) from None
    # Without pretrained=None it would download weights.
    model: tf.keras.Model = getattr(zoo, function)(
        input_shape=(None, None, 3), num_classes=0, pretrained=None
    )
    return model


def build(config: schema.Trunk) -> KerasTrunk:
    """Return the trunk of a recipe; UsageError if it is unknown."""
    return KerasTrunk(config)
