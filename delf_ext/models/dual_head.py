"""The hackathon's network: one trunk, an attention, and two heads trained side by side."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.config import ModelConfig
from delf_ext.models.attention import Attention
from delf_ext.models.backbones import Backbone
from delf_ext.models.heads import LogitsHead, SimilarityHead
from delf_ext.models.pooling import attention_pool

Endpoints = dict[str, tf.Tensor]


class Heads(tf.keras.layers.Layer):
    """Feature map [B, h, w, C] -> embedding [B, D] of unit length, {"attention", "pooled", "logits", "embedding"}.

    Without a similarity head the embedding is the attention-weighted sum of features itself.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(name="heads")
        if config.logit_concat_sim and not config.num_classes:
            raise ValueError("--logit_concat_sim appends the class logits: it needs --train_logits.")
        self.attention = Attention()
        self.logits = LogitsHead(config.num_classes) if config.num_classes else None
        self.similarity = (
            SimilarityHead(config.stop_gradient_sim, config.skipcon_attn, config.logit_concat_sim)
            if config.similarity_head
            else None
        )

    @property
    def classifier_variables(self) -> list[tf.Variable]:
        """What the classification loss trains beside the trunk: attention and classifier."""
        return self.attention.trainable_variables + (self.logits.trainable_variables if self.logits is not None else [])

    def call(self, features: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, Endpoints]:
        attention = self.attention(features, training=training)
        endpoints = {"attention": attention, "pooled": attention_pool(features, attention)}
        logits = None
        if self.logits is not None:
            logits = endpoints["logits"] = self.logits(features, attention)
        vector = endpoints["pooled"] if self.similarity is None else self.similarity(features, attention, logits)
        embedding = endpoints["embedding"] = tf.math.l2_normalize(vector, axis=-1)
        return embedding, endpoints


class DualHead(tf.keras.Model):
    """Photographs [B, S, S, 3], RGB 0..255 -> embedding [B, D] of unit length, named endpoints of trunk and heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(name="dual_head")
        self.config = config
        self.backbone = Backbone(
            config.endpoint, config.layout, config.weight_decay, config.freeze_batch_norm, config.batch_norm_decay
        )
        self.heads = Heads(config)

    def call(self, images: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, Endpoints]:
        endpoints = self.backbone(images, training=training)
        embedding, head_endpoints = self.heads(endpoints[self.backbone.endpoint], training=training)
        return embedding, {**endpoints, **head_endpoints}

    def build_variables(self) -> DualHead:
        """Makes every variable by one call on a blank image, so that weights can be loaded and counted."""
        self(tf.zeros([1, self.config.image_size, self.config.image_size, 3]), training=False)
        return self
