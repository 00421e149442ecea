"""Build and step the engine that the goldens are measured on.

Only this file imports the engine. If the engine is rebuilt, change only this file.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from delf_ext.features.embedder import Embedder
from delf_ext.losses.build import build_loss
from delf_ext.losses.loss import Targets
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.trunks.slim import SlimTrunk
from delf_ext.recipes import mandoo_dual, schema
from delf_ext.runs.opening import open_model
from delf_ext.runs.sources import POOLINGS, CheckpointSource, Runtime
from delf_ext.training.objective import Objective
from delf_ext.training.optimizers import build_groups

Flags = Mapping[str, Any]
Losses = dict[str, float]
Step = Callable[[np.ndarray, np.ndarray], Losses]


def _sibling(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"goldens_{name}", Path(__file__).with_name(f"{name}.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


initial = _sibling("inputs").initial


class Engine(NamedTuple):
    """A network with its initial weights, and functions that train it.

    Attributes:
        variables: role -> variable.
        step: trains all variables once on images uint8 [B, S, S, 3] and labels int32 [B]; returns
            each loss before the update, unweighted, and their weighted sum as "loss", without
            weight decay.
        heads_step: the same, but trains only the heads, on feature maps of the untrained trunk.
        largest_gradients: returns loss -> part -> largest absolute gradient; parts are "trunk",
            "attention", "logits" and "similarity", if the network has them.
    """

    variables: dict[str, tf.Variable]
    step: Step
    heads_step: Step
    largest_gradients: Callable[[np.ndarray, np.ndarray], dict[str, dict[str, float]]]


def build(flags: Flags, num_classes: int, end_point: str) -> Engine:
    """Build the network that the original's command-line flags describe, for images of 32 px.

    Args:
        flags: name -> value.
        num_classes: classes of the data; the network has logits only if they are trained.
        end_point: trunk and end point.

    Returns:
        The network with the initial weights of `inputs.py`.
    """
    recipe = mandoo_dual.from_flags(
        {**flags, "resnet_type": end_point, "image_size": 32, "batch_size": 8}
    )
    model = EmbeddingModel(recipe.model, num_classes).build_variables()
    variables = model.named_variables()
    for role, variable in variables.items():
        variable.assign(initial(role, variable.shape))

    def trained(part: tf.keras.layers.Layer) -> Step:
        frozen = () if part is model else ("trunk",)
        groups = build_groups(recipe.optimizer, recipe.stages, 1, model.parameters(), frozen)
        objective = Objective(part, recipe.losses)
        objective.prepare(groups)

        def step(images: np.ndarray, labels: np.ndarray) -> Losses:
            # The metrics are means over all steps since the last reset.
            objective.reset_metrics()
            means = objective.train_step((tf.constant(images), tf.constant(labels)))
            return {name: float(value) for name, value in means.items() if name != "accuracy"}

        return step

    heads_step = trained(model.heads)

    def step_on_maps(images: np.ndarray, labels: np.ndarray) -> Losses:
        maps = model.trunk(tf.constant(images), training=False)[model.trunk.endpoint]
        return heads_step(tf.cast(maps, tf.float32).numpy(), labels)

    def largest_gradients(images: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
        parts: dict[str, list[tf.Variable]] = {}
        for _, group, variable in model.parameters():
            if variable.trainable and group != "pooled/pool":
                parts.setdefault(group.split("/")[0], []).append(variable)
        with tf.GradientTape(persistent=True) as tape:
            output = model(tf.constant(images), training=True)
            losses = {
                term.shown_name: build_loss(term.loss, term.head)(output, Targets(labels))
                for term in recipe.losses
            }
        return {
            name: {part: _largest(tape.gradient(value, of_part)) for part, of_part in parts.items()}
            for name, value in losses.items()
        }

    return Engine(variables, trained(model), step_on_maps, largest_gradients)


def zero_shot(end_point: str, pooling: str, size_px: int) -> Embedder:
    """Build an untrained trunk with its initial weights.

    Args:
        end_point: trunk and end point.
        pooling: value of --pooling.
        size_px: side of the square images, in pixels.

    Returns:
        An embedder of images uint8 [B, size_px, size_px, 3].
    """
    trunk = SlimTrunk(end_point)
    trunk(tf.zeros([1, size_px, size_px, 3]))
    values = {
        _role(variable): initial(_role(variable), variable.shape) for variable in trunk.variables
    }
    # The weights are read at the first batch, so the folder must exist until the process ends.
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = f"{folder}/trunk.ckpt"
    tf.raw_ops.SaveV2(
        prefix=path,
        tensor_names=[*values],
        shape_and_slices=[""] * len(values),
        tensors=[*values.values()],
    )
    name, _, end = end_point.partition("/")
    source = CheckpointSource(
        path, schema.Trunk(name, end_point=end, layout="slim"), POOLINGS[pooling], size_px
    )
    opened = open_model(source, Runtime(mixed_precision="off"), store=False)
    assert isinstance(opened, Embedder)
    return opened


def zero_shot_shapes(end_point: str) -> dict[str, tuple[int, ...]]:
    """Return role -> shape of the variables of an untrained trunk."""
    trunk = SlimTrunk(end_point)
    trunk(tf.zeros([1, 32, 32, 3]))
    return {_role(variable): tuple(variable.shape) for variable in trunk.variables}


def _role(variable: tf.Variable) -> str:
    return variable.name.removesuffix(":0")


def _largest(gradients: list[tf.Tensor | None]) -> float:
    """Return the largest absolute entry; 0 if the loss does not depend on the variables."""
    return max(
        (float(tf.reduce_max(tf.abs(gradient))) for gradient in gradients if gradient is not None),
        default=0.0,
    )
