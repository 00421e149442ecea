"""Networks of ours as embedders: a model in memory, one that is loaded when it is needed, and other runtimes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeAlias

import tensorflow as tf

from data_io.artifacts import atomic_path
from delf_ext.features.embedder import Embedder
from delf_ext.features.runtimes.frozen_graph import frozen_graph, tensorflow_function
from delf_ext.features.runtimes.networks import open_network
from delf_ext.models.embedding_model import EmbeddingModel

Graph: TypeAlias = tf.types.experimental.GenericFunction


def variables_digest(layer: tf.keras.layers.Layer) -> str:
    """Return 12 hex digits that change when any weight does."""
    summary = hashlib.sha256()
    for variable in sorted(layer.variables, key=lambda variable: variable.name):
        summary.update(variable.name.encode() + variable.numpy().tobytes())
    return summary.hexdigest()[:12]


def embedding_graph(model: EmbeddingModel, size_px: int) -> Graph:
    """Return the function uint8 [B, S, S, 3] -> float32 [B, D] of a built model, with the weights it has at each call."""
    signature = [tf.TensorSpec([None, size_px, size_px, 3], tf.uint8)]
    return tf.function(
        lambda images: model(images, training=False).embedding, input_signature=signature
    )


def live_embedder(model: EmbeddingModel, size_px: int, name: str) -> Embedder:
    """Return an embedder of a model that trains on: each batch uses the weights of the moment, and nothing is stored."""
    graph = embedding_graph(model, size_px)
    return Embedder(
        name, size_px, "", lambda images: graph(tf.constant(images)).numpy(), lambda: graph
    )


def lazy_embedder(
    name: str, size_px: int, digest: str, load: Callable[[], EmbeddingModel]
) -> Embedder:
    """Return an embedder whose model is loaded, and its batch norms folded, at the first batch.

    Args:
        name: as it is shown.
        size_px: side of the input.
        digest: known before the model is loaded.
        load: returns the built model with its weights.
    """
    graph = cache(lambda: embedding_graph(load(), size_px))
    folded = cache(lambda: tensorflow_function(frozen_graph(graph())))
    return Embedder(
        name, size_px, digest, lambda images: folded()(tf.constant(images)).numpy(), graph
    )


def graph_file(embedder: Embedder, folder: Path) -> Path:
    """Return the frozen graph, kept in `folder` under the digest. Raises: ValueError when there is no graph of ours."""
    path = folder / f"{embedder.digest}.pb"
    if not path.is_file():
        if embedder.graph is None:
            raise ValueError(
                f"{embedder.name} is no TensorFlow network of ours: leave --runtime out."
            )
        with atomic_path(path) as temporary:
            temporary.write_bytes(frozen_graph(embedder.graph()).SerializeToString())
    return path


def in_openvino(embedder: Embedder, folder: Path, bfloat16: bool = False) -> Embedder:
    """Return the same network run by OpenVINO; equal to `runtimes.networks.TOLERANCE`, so the digest stays."""
    run = cache(
        lambda: open_network(graph_file(embedder, folder), "openvino", bfloat16).compiled(0)
    )
    return dataclasses.replace(embedder, embed=lambda images: run()(images), graph=None)
