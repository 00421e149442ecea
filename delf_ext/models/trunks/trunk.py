"""What the engine asks of a trunk, and which sources of trunks are built."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.checkpoints import LoadReport
from delf_ext.recipes import schema


class Trunk(Protocol):
    """A Keras layer from photographs to named feature maps. Its input scaling and layout belong to it.

    Call: images [B, H, W, 3] RGB 0..255, any dtype -> {name: [B, h, w, C]} with every end point up to `endpoint`.
    """

    endpoint: str
    variables: list[tf.Variable]

    def __call__(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]: ...

    def load(self, weights: str) -> LoadReport:
        """Copy pretrained weights into the built trunk. Raises: ValueError when they do not fit."""

    def parameter_group(self, name: str) -> str:
        """Return the group of a variable, such as "block1"."""

    def split(self, endpoint: str) -> tuple[Callable, Callable]:
        """Return the trunk up to an end point and the rest of it. Raises: UsageError where it cannot be split."""


SOURCES = {"slim": "delf_ext.models.trunks.slim:build"}
"""source -> the function from a `schema.Trunk` to a Trunk, as module:function; imported when it is needed."""


def build_trunk(config: schema.Trunk) -> Trunk:
    """Return the trunk of a recipe, not yet built.

    Raises: UsageError when its source is not built yet, ValueError when it does not know the name or the end point.
    """
    if config.source not in SOURCES:
        raise UsageError(
            f'trunk source "{config.source}" is not built yet. Built: {", ".join(SOURCES)}.'
        )
    module, _, function = SOURCES[config.source].partition(":")
    return getattr(importlib.import_module(module), function)(config)
