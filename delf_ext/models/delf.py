"""DELF on one pyramid level: for every cell of a feature map how much it matters, and what it looks like."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.models.attention import Attention
from delf_ext.models.pooling import norm_attention
from delf_ext.models.trunks.slim import SlimTrunk


class Delf(tf.keras.layers.Layer):
    """A trunk's end point as dense local features. Source: Noh et al. 2017, arXiv:1612.06321, sections 4.1 to 4.3.

    Call: images [B, H, W, 3] RGB 0..255 -> attention [B, h, w], descriptors [B, h, w, C] of unit length or, after `whiten`,
    [B, h, w, d]: L2, PCA, whitening, L2.
    endpoint: one that the backbone reaches. attention: trained on it, or None: the length of a cell's feature vector, which
    needs no training.
    """

    def __init__(
        self, backbone: SlimTrunk, endpoint: str, attention: Attention | None = None
    ) -> None:
        super().__init__(name="delf")
        self.backbone, self.endpoint, self.attention = backbone, endpoint, attention
        self.mean: tf.Tensor | None = None
        self.projection: tf.Tensor | None = None

    def whiten(self, mean: tf.Tensor, projection: tf.Tensor) -> None:
        """From now on descriptors are (unit vector - mean [C]) projected [C, d] and of unit length again."""
        self.mean, self.projection = (
            tf.constant(mean, tf.float32),
            tf.constant(projection, tf.float32),
        )

    def call(self, images: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.cast(self.backbone(images, training=False)[self.endpoint], tf.float32)
        attention = (
            norm_attention(features)
            if self.attention is None
            else self.attention(features, training=False)
        )
        descriptors = tf.math.l2_normalize(features, axis=-1)
        if self.projection is not None:
            descriptors = tf.math.l2_normalize((descriptors - self.mean) @ self.projection, axis=-1)
        return tf.cast(attention[..., 0], tf.float32), descriptors
