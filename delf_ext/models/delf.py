"""Compute DELF's attention and descriptors for each cell of a feature map."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.models.attention import Attention
from delf_ext.models.pooling import norm_attention
from delf_ext.models.trunks.trunk import Trunk


class Delf(tf.keras.layers.Layer):
    """Dense local features at an end point of a trunk.

    Source: Noh et al. 2017, arXiv:1612.06321, sections 4.1 to 4.3.
    """

    def __init__(self, backbone: Trunk, endpoint: str, attention: Attention | None = None) -> None:
        """Build the layer.

        Args:
            backbone: reaches the end point.
            endpoint: such as "resnet_v1_50/block3".
            attention: trained on the end point; None uses the length of a cell's feature vector,
                which needs no training.
        """
        super().__init__(name="delf")
        self.backbone = backbone
        self.endpoint = endpoint
        self.attention = attention
        self.mean: tf.Tensor | None = None
        self.projection: tf.Tensor | None = None

    def whiten(self, mean: tf.Tensor, projection: tf.Tensor) -> None:
        """Whiten the descriptors of each later call: L2, subtract the mean, project, L2.

        Args:
            mean: [C].
            projection: [C, d].
        """
        self.mean = tf.constant(mean, tf.float32)
        self.projection = tf.constant(projection, tf.float32)

    def call(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute attention and descriptors of all cells, always for inference.

        Args:
            images: [B, H, W, 3], RGB 0..255.

        Returns:
            Attention float32 [B, h, w], and descriptors float32 [B, h, w, C] of unit length, or
            [B, h, w, d] after `whiten`.
        """
        features = tf.cast(self.backbone(images, training=False)[self.endpoint], tf.float32)
        if self.attention is None:
            attention = norm_attention(features)
        else:
            attention = self.attention(features, training=False)
        descriptors = tf.math.l2_normalize(features, axis=-1)
        if self.projection is not None:
            descriptors = tf.math.l2_normalize((descriptors - self.mean) @ self.projection, axis=-1)
        return tf.cast(attention[..., 0], tf.float32), descriptors
