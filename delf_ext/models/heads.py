"""Build the heads of a model: from a feature map to vectors, logits and the embedding."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from delf_ext.models.attention import Attention
from delf_ext.models.build import build_classifier, build_map, build_neck, build_pool
from delf_ext.recipes import schema
from delf_ext.recipes.part import snake_case


class HeadOutput(NamedTuple):
    """Output of one head.

    Attributes:
        vector: [B, d], not normalised.
        logits: [B, C]; None without a classifier.
        parts: [B, M, d]; None if the head has no parts.
    """

    vector: tf.Tensor
    logits: tf.Tensor | None = None
    parts: tf.Tensor | None = None


class Output(NamedTuple):
    """Output of a model.

    Attributes:
        embedding: [B, D], unit length.
        heads: output of each head by name.
        endpoints: named feature maps [B, h, w, C].
    """

    embedding: tf.Tensor
    heads: dict[str, HeadOutput]
    endpoints: dict[str, tf.Tensor]


class Head(tf.keras.layers.Layer):
    """One head of a recipe."""

    def __init__(self, config: schema.Head, num_classes: int) -> None:
        """Build the layers.

        Args:
            config: the head of a recipe.
            num_classes: number of classes of the classifier.

        Raises:
            UsageError: a part is not built yet.
        """
        super().__init__(name=config.name)
        self.config = config
        self.maps = [build_map(part) for part in config.maps]
        self.pool = build_pool(config.pool)
        self.neck = [
            build_neck(part, f"{snake_case(type(part).__name__)}{number}")
            for number, part in enumerate(config.neck, start=1)
        ]
        self.classifier = None
        if config.classifier is not None:
            self.classifier = build_classifier(config.classifier, num_classes)

    def call(
        self,
        features: tf.Tensor,
        attention: tf.Tensor | None,
        earlier: dict[str, HeadOutput],
        training: bool = False,
    ) -> HeadOutput:
        """Compute the output of the head.

        Args:
            features: [B, h, w, C].
            attention: [B, h, w, 1]; None if no head uses attention.
            earlier: outputs of the heads before this one.
            training: use the statistics of the batch, and dropout.

        Returns:
            The vector and the logits.
        """
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
    """All heads of a model."""

    def __init__(self, config: schema.Model, num_classes: int) -> None:
        super().__init__(name="heads")
        self.config = config
        uses_attention = any(isinstance(head.pool, schema.DelfAttention) for head in config.heads)
        self.attention = Attention() if uses_attention else None
        self.by_name = {head.name: Head(head, num_classes) for head in config.heads}

    def call(
        self,
        features: tf.Tensor,
        earlier_maps: dict[str, tf.Tensor] | None = None,
        training: bool = False,
    ) -> Output:
        """Compute the outputs of all heads, and join vectors to the embedding.

        Args:
            features: map [B, h, w, C] of the trunk's end point.
            earlier_maps: maps [B, h, w, C] of the end points that heads name in `after`.
            training: use the statistics of the batch, and dropout.

        Returns:
            The outputs; `endpoints` has the attention [B, h, w, 1] if a head uses it.
        """
        endpoints: dict[str, tf.Tensor] = {}
        attention = None
        if self.attention is not None:
            attention = self.attention(features, training=training)
            endpoints["attention"] = attention
        outputs: dict[str, HeadOutput] = {}
        for name, head in self.by_name.items():
            after = head.config.after
            own_map = (earlier_maps or {})[after] if after else features
            outputs[name] = head(own_map, attention, dict(outputs), training=training)
        embedding = self._join([outputs[name].vector for name in self.config.embedding])
        return Output(embedding, outputs, endpoints)

    def _join(self, vectors: list[tf.Tensor]) -> tf.Tensor:
        units = [tf.math.l2_normalize(vector, axis=-1) for vector in vectors]
        if len(units) == 1:
            return units[0]
        return tf.math.l2_normalize(tf.concat(units, axis=-1), axis=-1)
