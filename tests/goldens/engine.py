"""Builds and steps the engine that goldens are measured on.

The only file here that knows the engine: rewrite it for another one, and nothing else.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from delf_ext.config import LossConfig, ModelConfig, RunConfig, TrainConfig
from delf_ext.features.embedders import Embedder, zero_shot_embedder
from delf_ext.losses.total import named_losses
from delf_ext.models.backbones import Backbone
from delf_ext.models.dual_head import DualHead
from delf_ext.training.objective import Objective

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
    """A network at its initial weights, and what trains it.

    variables: by role. step: trains everything once on images, uint8 [B, S, S, 3], and labels,
    int32 [B]; returns each loss before the update, unweighted, and their weighted sum as "loss",
    without weight decay. heads_step: the same on float32 feature maps of the trunk as it is.
    largest_gradients: the largest absolute gradient of each loss, {loss: {"trunk", "attention",
    "logits", "similarity"}}, as far as the network has those parts.
    """

    variables: dict[str, tf.Variable]
    step: Step
    heads_step: Step
    largest_gradients: Callable[[np.ndarray, np.ndarray], dict[str, dict[str, float]]]


def build(flags: Flags, num_classes: int, end_point: str) -> Engine:
    """Builds the network of the original's command-line flags, for images of 32 px.

    num_classes: of the data; the network has logits only where they are trained.
    """
    loss = _section(LossConfig, flags)
    model = _section(
        ModelConfig,
        flags,
        endpoint=end_point,
        image_size=32,
        num_classes=num_classes if loss.train_logits else 0,
        similarity_head=loss.trains_similarity,
    )
    training = _section(TrainConfig, flags, batch_size=8)
    RunConfig(model=model, loss=loss, training=training)  # refuses what no run may ask for
    network = DualHead(model).build_variables()
    variables = {_role(variable): variable for variable in network.variables}
    for role, variable in variables.items():
        variable.assign(initial(role, variable.shape))

    def trained(part: tf.keras.layers.Layer) -> Step:
        objective = Objective(part, loss, network.heads.classifier_variables)
        fast = training.lr * training.classifier_lr_factor
        objective.set_optimizers(
            tf.keras.optimizers.Adam(training.lr), tf.keras.optimizers.Adam(fast)
        )

        def step(images: np.ndarray, labels: np.ndarray) -> Losses:
            objective.reset_metrics()  # they are means over steps
            means = objective.train_step((tf.constant(images), tf.constant(labels)))
            return {name: float(value) for name, value in means.items() if name != "accuracy"}

        return step

    heads_step = trained(network.heads)

    def step_on_maps(images: np.ndarray, labels: np.ndarray) -> Losses:
        maps = network.backbone(tf.constant(images), training=False)[network.backbone.endpoint]
        return heads_step(tf.cast(maps, tf.float32).numpy(), labels)

    def largest_gradients(images: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
        parts: dict[str, list[tf.Variable]] = {"trunk": network.backbone.trainable_variables}
        for name in ("attention", "logits", "similarity"):
            head = getattr(network.heads, name)
            parts |= {} if head is None else {name: head.trainable_variables}
        with tf.GradientTape(persistent=True) as tape:
            _, endpoints = network(tf.constant(images), training=True)
            losses = named_losses(endpoints, tf.constant(labels), loss)
        return {
            name: {part: _largest(tape.gradient(value, of_part)) for part, of_part in parts.items()}
            for name, value in losses.items()
        }

    return Engine(variables, trained(network), step_on_maps, largest_gradients)


def zero_shot(end_point: str, pooling: str, size_px: int) -> Embedder:
    """Builds an untrained trunk at its initial weights.

    Its `embed` turns uint8 [B, size_px, size_px, 3] into float32 [B, D] of unit length.
    """
    trunk = Backbone(end_point)
    trunk(tf.zeros([1, size_px, size_px, 3]))
    values = {
        _role(variable): initial(_role(variable), variable.shape) for variable in trunk.variables
    }
    with tempfile.TemporaryDirectory() as folder:
        path, whole = f"{folder}/trunk.ckpt", [""] * len(values)
        tf.raw_ops.SaveV2(
            prefix=path, tensor_names=[*values], shape_and_slices=whole, tensors=[*values.values()]
        )
        embedder, _ = zero_shot_embedder(path, end_point, "slim", pooling, size_px)
    return embedder


def zero_shot_shapes(end_point: str) -> dict[str, tuple[int, ...]]:
    """Names the variables of an untrained trunk, with their shapes."""
    trunk = Backbone(end_point)
    trunk(tf.zeros([1, 32, 32, 3]))
    return {_role(variable): tuple(variable.shape) for variable in trunk.variables}


def _section(kind: type, flags: Flags, **values: Any) -> Any:
    """Fills a configuration with the flags that are named like its fields."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in flags.items() if name in names}, **values)


def _role(variable: tf.Variable) -> str:
    return variable.name.removesuffix(":0").removeprefix("dual_head/heads/")


def _largest(gradients: list[tf.Tensor | None]) -> float:
    """Finds the largest of all entries; 0 where a loss does not reach the variables at all."""
    return max(
        (float(tf.reduce_max(tf.abs(gradient))) for gradient in gradients if gradient is not None),
        default=0.0,
    )
