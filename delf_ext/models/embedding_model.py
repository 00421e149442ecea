"""The model of any recipe: a trunk with heads, and its parameters by name and group."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from data_io.checkpoint_folder import readable_prefix
from delf_ext.models.checkpoints import READ_ERRORS, read_reason
from delf_ext.models.heads import Heads, Output
from delf_ext.models.trunks.trunk import build_trunk
from delf_ext.recipes import schema

BLANK_PX = 64  # the side of the blank image that makes the variables


class Parameter(NamedTuple):
    """A variable, its name in a checkpoint, and its group, such as "trunk/block1", "attention" or "main/classifier"."""

    name: str
    group: str
    variable: tf.Variable


class EmbeddingModel(tf.keras.Model):
    """Call: photographs [B, S, S, 3], RGB 0..255 -> Output."""

    def __init__(self, config: schema.Model, num_classes: int) -> None:
        super().__init__(name="embedding_model")
        self.config = config
        self.trunk = build_trunk(config.trunk)
        self.heads = Heads(config, num_classes)

    def call(self, images: tf.Tensor, training: bool = False) -> Output:
        endpoints = self.trunk(images, training=training)
        output = self.heads(endpoints[self.trunk.endpoint], training=training)
        return output._replace(endpoints={**endpoints, **output.endpoints})

    def build_variables(self) -> EmbeddingModel:
        """Make every variable by one call on a blank image, so that weights can be loaded and counted."""
        self(tf.zeros([1, BLANK_PX, BLANK_PX, 3]), training=False)
        return self

    def parameters(self) -> list[Parameter]:
        """Return all variables of the built model. Names do not depend on how the layers are nested."""
        found = []
        for variable in self.trunk.variables:
            name = variable.name.split(":")[0]
            found.append(Parameter(name, f"trunk/{self.trunk.parameter_group(name)}", variable))
        if self.heads.attention is not None:
            found += _parameters(self.heads.attention, "attention", "attention")
        for name, head in self.heads.by_name.items():
            found += _parameters(head.pool, name, f"{name}/pool")
            for layer in (*head.maps, *head.neck):
                found += _parameters(layer, name, f"{name}/neck")
            if head.classifier is not None:
                found += _parameters(head.classifier, name, f"{name}/classifier")
        assert len({parameter.name for parameter in found}) == len(found), (
            "parameter names must differ"
        )
        return found

    def named_variables(self) -> dict[str, tf.Variable]:
        """Return the variables by the names that checkpoints use."""
        return {parameter.name: parameter.variable for parameter in self.parameters()}


def _parameters(layer: tf.keras.layers.Layer, owner: str, group: str) -> list[Parameter]:
    """The last two words of a variable's name are its layer and its role: "dense1/kernel"."""
    names = ["/".join(variable.name.split(":")[0].split("/")[-2:]) for variable in layer.variables]
    return [
        Parameter(f"{owner}/{name}", group, variable)
        for name, variable in zip(names, layer.variables)
    ]


def in_group(parameter_group: str, group: str) -> bool:
    """Return whether a group of a recipe ("trunk", "classifier", "trunk/block1") holds a parameter's group."""
    return f"/{group}/" in f"/{parameter_group}/"


def read_weights(model: EmbeddingModel, path: Path) -> None:
    """Load one checkpoint of a run. Raises: ValueError naming it when it cannot be read or does not fit."""
    checkpoint = tf.train.Checkpoint(weights=model.named_variables())
    try:
        checkpoint.read(readable_prefix(path)).assert_existing_objects_matched().expect_partial()
    except (*READ_ERRORS, AssertionError) as error:
        raise ValueError(
            f"{path}: damaged, or of another network than recipe.json ({read_reason(error)})."
        ) from None
