"""Heads: a trunk's feature map to vectors, logits and the embedding."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.attention import Attention
from delf_ext.models.build import build_classifier, build_map, build_neck, build_pool
from delf_ext.recipes import schema
from delf_ext.recipes.part import snake_case


class HeadOutput(NamedTuple):
    """vector [B, d], not normalized; logits [B, C], or None; parts [B, M, d], or None."""

    vector: tf.Tensor
    logits: tf.Tensor | None = None
    parts: tf.Tensor | None = None


class Output(NamedTuple):
    """What every model returns: the embedding [B, D] of unit length, its heads and its named feature maps."""

    embedding: tf.Tensor
    heads: dict[str, HeadOutput]
    endpoints: dict[str, tf.Tensor]


class Head(tf.keras.layers.Layer):
    """One head of a recipe.

    Call: features [B, h, w, C], attention [B, h, w, 1] or None, outputs of the heads before it -> HeadOutput.
    """

    def __init__(self, config: schema.Head, num_classes: int) -> None:
        super().__init__(name=config.name)
        if config.after:
            raise UsageError(
                f"head {config.name!r}: a head after an end point inside the trunk is not built yet."
            )
        self.config = config
        self.maps = [build_map(part) for part in config.maps]
        self.pool = build_pool(config.pool)
        names = [
            f"{snake_case(type(part).__name__)}{number}"
            for number, part in enumerate(config.neck, start=1)
        ]
        self.neck = [build_neck(part, name) for part, name in zip(config.neck, names, strict=True)]
        self.classifier = (
            None if config.classifier is None else build_classifier(config.classifier, num_classes)
        )

    def call(
        self,
        features: tf.Tensor,
        attention: tf.Tensor | None,
        earlier: dict[str, HeadOutput],
        training: bool = False,
    ) -> HeadOutput:
        for layer in self.maps:
            features = layer(features, training=training)
        vector = tf.cast(self.pool(features, attention), tf.float32)
        appended = [earlier[name].logits for name in self.config.append]
        if appended:
            vector = tf.concat([vector, *appended], axis=-1)
        if self.config.stop_gradient:
            vector = tf.stop_gradient(vector)
        for layer in self.neck:
            vector = layer(vector, training=training)
        return HeadOutput(vector, None if self.classifier is None else self.classifier(vector))


class Heads(tf.keras.layers.Layer):
    """All heads of a model on one feature map.

    Call: features [B, h, w, C] -> Output, whose end points are the attention [B, h, w, 1] where a head uses it.
    """

    def __init__(self, config: schema.Model, num_classes: int) -> None:
        super().__init__(name="heads")
        self.config = config
        shares_attention = any(isinstance(head.pool, schema.DelfAttention) for head in config.heads)
        self.attention = Attention() if shares_attention else None
        self.by_name = {head.name: Head(head, num_classes) for head in config.heads}

    def call(self, features: tf.Tensor, training: bool = False) -> Output:
        endpoints: dict[str, tf.Tensor] = {}
        attention = None
        if self.attention is not None:
            attention = endpoints["attention"] = self.attention(features, training=training)
        outputs: dict[str, HeadOutput] = {}
        for name, head in self.by_name.items():
            outputs[name] = head(features, attention, dict(outputs), training=training)
        units = [
            tf.math.l2_normalize(outputs[name].vector, axis=-1) for name in self.config.embedding
        ]
        joined = (
            units[0]
            if len(units) == 1
            else tf.math.l2_normalize(tf.concat(units, axis=-1), axis=-1)
        )
        return Output(joined, outputs, endpoints)
