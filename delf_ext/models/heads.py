"""What stands on the trunk: class logits, and the similarity branch that makes the embedding."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.models.pooling import attention_pool, average_pool


class LogitsHead(tf.keras.layers.Layer):
    """Linear classifier on the spatial mean of attention times L2-normalised features.

    Call: features [B, h, w, C], attention [B, h, w, 1] -> logits [B, num_classes].
    Source: DELF's attention training (scope `attention_block`), arXiv:1612.06321.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(name="logits")
        self.classifier = tf.keras.layers.Dense(num_classes, name="classifier")  # a 1x1 convolution on a 1x1 map

    def call(self, features: tf.Tensor, attention: tf.Tensor) -> tf.Tensor:
        return self.classifier(average_pool(attention * tf.math.l2_normalize(features, axis=-1)))


class SimilarityHead(tf.keras.layers.Layer):
    """Sum of attention times raw features, then two dense layers (1024 ReLU, 2048): the embedding before normalisation.

    stop_gradient: nothing that this branch learns reaches trunk, attention or logits. skip_connection: adds the unweighted
    sum of features. concat_logits: appends the logits to the input. Source: the hackathon system (DESIGN section 7).
    """

    def __init__(self, stop_gradient: bool, skip_connection: bool, concat_logits: bool) -> None:
        super().__init__(name="similarity")
        self.stop_gradient, self.skip_connection, self.concat_logits = stop_gradient, skip_connection, concat_logits
        self.hidden = tf.keras.layers.Dense(1024, activation="relu", name="dense1")
        self.output_layer = tf.keras.layers.Dense(2048, name="dense2")

    def call(self, features: tf.Tensor, attention: tf.Tensor, logits: tf.Tensor | None) -> tf.Tensor:
        pooled = attention_pool(features, attention)
        if self.skip_connection:
            pooled += tf.reduce_sum(features, axis=[1, 2])
        if self.concat_logits:
            pooled = tf.concat([pooled, logits], axis=-1)
        if self.stop_gradient:
            pooled = tf.stop_gradient(pooled)
        return self.output_layer(self.hidden(pooled))
