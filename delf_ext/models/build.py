"""Build the layers that the records of a recipe name.

A new part is one class or function elsewhere, and one `register` line here.
"""

from __future__ import annotations

from functools import singledispatch

import tensorflow as tf

from delf_ext.models import classifiers, necks, pooling, regional_pooling
from delf_ext.recipes import schema
from delf_ext.recipes.part import NotBuilt, Part


@singledispatch
def build_pool(config: Part) -> tf.keras.layers.Layer:
    """Build a pooling layer (features [B, h, w, C], attention [B, h, w, 1] or None) -> [B, C].

    Args:
        config: a pooling record.

    Returns:
        The layer.

    Raises:
        NotBuilt: the pooling is not built yet.
    """
    raise NotBuilt(config, build_pool)


build_pool.register(schema.Average, pooling.AveragePool)
build_pool.register(schema.Maximum, pooling.MaxPool)
build_pool.register(schema.Gem, pooling.GemPool)
build_pool.register(schema.Rmac, regional_pooling.RmacPool)
build_pool.register(schema.FeatureNorm, pooling.FeatureNormPool)
build_pool.register(schema.DelfAttention, pooling.DelfPool)


@singledispatch
def build_neck(config: Part, name: str) -> tf.keras.layers.Layer:
    """Build a layer [B, d] -> [B, e] between pooling and embedding.

    Args:
        config: a neck record.
        name: of the layer.

    Returns:
        The layer.

    Raises:
        NotBuilt: the neck is not built yet.
    """
    raise NotBuilt(config, build_neck)


build_neck.register(schema.Dense, necks.DenseNeck)
build_neck.register(schema.LayerNorm, necks.layer_norm)
build_neck.register(schema.Dropout, necks.dropout)


@singledispatch
def build_classifier(config: Part, num_classes: int) -> tf.keras.layers.Layer:
    """Build a classifier [B, d] -> [B, C].

    Args:
        config: a classifier record.
        num_classes: C.

    Returns:
        The layer.

    Raises:
        NotBuilt: the classifier is not built yet.
    """
    raise NotBuilt(config, build_classifier)


build_classifier.register(schema.Linear, classifiers.linear)
build_classifier.register(schema.Cosine, classifiers.CosineClassifier)


@singledispatch
def build_map(config: Part) -> tf.keras.layers.Layer:
    """Build a layer [B, h, w, C] -> [B, h, w, D] that changes feature maps.

    Args:
        config: a record of such a layer.

    Returns:
        The layer.

    Raises:
        NotBuilt: the layer is not built yet.
    """
    raise NotBuilt(config, build_map)
