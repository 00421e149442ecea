"""Build the model of a recipe: a trunk with heads, and its parameters by name and group."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from data_io.checkpoint_folder import readable_prefix
from data_io.finite import require_finite
from delf_ext.config import UsageError
from delf_ext.models.checkpoints import READ_ERRORS, read_reason
from delf_ext.models.heads import Heads, Output
from delf_ext.models.trunks.trunk import build_trunk
from delf_ext.recipes import schema

# Inception-v3 needs at least 75 pixels.
BLANK_PX = 96


class Parameter(NamedTuple):
    """Variable of a model.

    Attributes:
        name: its name in a checkpoint.
        group: such as "trunk/block1", "attention" or "main/classifier".
        variable: the variable.
    """

    name: str
    group: str
    variable: tf.Variable


class EmbeddingModel(tf.keras.Model):
    """Trunk with heads."""

    def __init__(self, config: schema.Model, num_classes: int) -> None:
        """Build the layers; variables are created by `build_variables`.

        Args:
            config: the model of a recipe.
            num_classes: number of classes of each classifier.
        """
        super().__init__(name="embedding_model")
        self.config = config
        self.trunk = build_trunk(config.trunk)
        self.heads = Heads(config, num_classes)

    def call(self, images: tf.Tensor, training: bool = False) -> Output:
        """Embed images.

        Args:
            images: [B, S, S, 3], RGB 0..255.
            training: use the statistics of the batch, and dropout.

        Returns:
            The embedding, the heads' outputs and the named feature maps.
        """
        endpoints = self.trunk(images, training=training)
        earlier_maps = {after: endpoints[self._end_point(after)] for after in self._afters}
        output = self.heads(endpoints[self.trunk.endpoint], earlier_maps, training=training)
        return output._replace(endpoints={**endpoints, **output.endpoints})

    def build_variables(self) -> EmbeddingModel:
        """Create all variables by a call on a blank image, so that weights can be loaded.

        Returns:
            This model.

        Raises:
            UsageError: a head is after an end point that the trunk does not have.
        """
        blank = tf.zeros([1, BLANK_PX, BLANK_PX, 3])
        if self._afters:
            self._require_end_points(self.trunk(blank, training=False))
        self(blank, training=False)
        return self

    @property
    def _afters(self) -> list[str]:
        """End points inside the trunk that heads get."""
        return [head.after for head in self.config.heads if head.after]

    def _end_point(self, after: str) -> str:
        return f"{self.trunk.endpoint.partition('/')[0]}/{after}"

    def _require_end_points(self, known: Iterable[str]) -> None:
        for after in self._afters:
            if self._end_point(after) not in known:
                names = ", ".join(name.partition("/")[2] for name in known)
                raise UsageError(f"a head is after end point {after!r}. Known: {names}.")

    def parameters(self) -> list[Parameter]:
        """Return all variables of the built model.

        Returns:
            The parameters; their names do not depend on how the layers are nested.
        """
        parameters = []
        for variable in self.trunk.variables:
            name = variable.name.split(":")[0]
            group = f"trunk/{self.trunk.parameter_group(name)}"
            parameters.append(Parameter(name, group, variable))
        if self.heads.attention is not None:
            parameters += _parameters(self.heads.attention, "attention", "attention")
        for name, head in self.heads.by_name.items():
            parameters += _parameters(head.pool, name, f"{name}/pool")
            for layer in (*head.maps, *head.neck):
                parameters += _parameters(layer, name, f"{name}/neck")
            if head.classifier is not None:
                parameters += _parameters(head.classifier, name, f"{name}/classifier")
        names = {parameter.name for parameter in parameters}
        assert len(names) == len(parameters), "parameter names must differ"
        return parameters

    def named_variables(self) -> dict[str, tf.Variable]:
        """Return the variables by the names that checkpoints use."""
        return {parameter.name: parameter.variable for parameter in self.parameters()}


def _parameters(layer: tf.keras.layers.Layer, owner: str, group: str) -> list[Parameter]:
    """Return the parameters of a layer, named by owner, layer and role: "main/dense1/kernel"."""
    parameters = []
    for variable in layer.variables:
        layer_and_role = variable.name.split(":")[0].split("/")[-2:]
        parameters.append(Parameter("/".join([owner, *layer_and_role]), group, variable))
    return parameters


def in_group(parameter_group: str, group: str) -> bool:
    """Return whether a parameter's group is in a recipe's group.

    Args:
        parameter_group: such as "trunk/block1".
        group: such as "trunk", "classifier" or "trunk/block1".

    Returns:
        Whether `group` is a part of `parameter_group`.
    """
    return f"/{group}/" in f"/{parameter_group}/"


def read_weights(model: EmbeddingModel, path: Path) -> None:
    """Load a checkpoint of a run.

    Args:
        model: with variables.
        path: prefix of the checkpoint.

    Raises:
        ValueError: the checkpoint cannot be read, does not fit the model, or has numbers that are
            not finite.
    """
    checkpoint = tf.train.Checkpoint(weights=model.named_variables())
    try:
        checkpoint.read(readable_prefix(path)).expect_partial().assert_existing_objects_matched()
    except (*READ_ERRORS, AssertionError) as error:
        raise ValueError(
            f"{path}: damaged, or of another network than recipe.json ({read_reason(error)})."
        ) from None
    require_finite(path, ((name, one.numpy()) for name, one in model.named_variables().items()))
