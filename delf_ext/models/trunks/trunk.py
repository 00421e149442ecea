"""Define the interface of a trunk, and build the trunk of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.checkpoints import LoadReport
from delf_ext.models.trunks import keras, lite, slim
from delf_ext.recipes import schema


class Trunk(Protocol):
    """Keras layer from images to named feature maps; it scales its input itself.

    Attributes:
        endpoint: name of its last feature map, such as "resnet_v1_50/block3".
        local_layer: end point for local features if none is named, such as "block3".
        variables: all its variables, once it is built.
    """

    endpoint: str
    local_layer: str
    variables: list[tf.Variable]

    def __call__(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Compute the feature maps.

        Args:
            images: [B, H, W, 3], RGB 0..255, any dtype.
            training: use the statistics of the batch.

        Returns:
            Feature maps [B, h, w, C] by name, up to `endpoint`.
        """

    @property
    def structure(self) -> dict[str, Any]:
        """What its outputs depend on beside weights and end point, as plain JSON data."""

    def load(self, weights: str) -> LoadReport:
        """Copy pretrained weights into the built trunk; ValueError if they do not fit."""

    def parameter_group(self, name: str) -> str:
        """Return the group of a variable, such as "block1"."""


SOURCES: dict[str, Callable[[schema.Trunk], Trunk]] = {
    "slim": slim.build,
    "lite": lite.build,
    "keras": keras.build,
    "zoo": keras.build,
}
"""Source -> function that builds the trunk of a recipe."""


def build_trunk(config: schema.Trunk) -> Trunk:
    """Return the trunk of a recipe, without variables.

    Args:
        config: the trunk of a recipe.

    Returns:
        The trunk.

    Raises:
        UsageError: the source is not built yet, or has no such name or end point.
    """
    if config.source not in SOURCES:
        raise UsageError(
            f'trunk source "{config.source}" is not built yet. Built: {", ".join(SOURCES)}.'
        )
    return SOURCES[config.source](config)
