"""Make embedders of TensorFlow models: in memory, loaded at the first batch, or run by OpenVINO.

Importing this module does not import TensorFlow: the functions import it when they run.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from data_io.files.artifacts import atomic_path
from data_io.messages import shown_path
from data_io.progress import say
from data_io.stores.embeddings import copy_digest
from data_io.stores.logits import LOGITS
from delf_ext.features.embedder import Embed, Embedder, with_sizes
from delf_ext.features.runtimes.networks import open_network

if TYPE_CHECKING:
    import tensorflow as tf

    from delf_ext.models.embedding_model import EmbeddingModel

    Graph: TypeAlias = tf.types.experimental.GenericFunction


def variables_digest(layer: tf.keras.layers.Layer) -> str:
    """Return 12 hex digits that change if any weight of `layer` changes."""
    summary = hashlib.sha256()
    for variable in sorted(layer.variables, key=lambda variable: variable.name):
        summary.update(variable.name.encode() + variable.numpy().tobytes())
    return summary.hexdigest()[:12]


class LogitsOf(NamedTuple):
    """Which logits of a network belong to its classes.

    Attributes:
        head: name of the head with the classifier.
        scale: factor of the logits in the loss: cosines are trained with a factor.
        class_names: names of the classes in the order of the logits.
    """

    head: str
    scale: float
    class_names: tuple[str, ...]


def embedding_graph(
    model: EmbeddingModel, size_px: int, logits_of: LogitsOf | None = None
) -> Graph:
    """Return the embedding of a built model as a graph; each call uses the weights of that moment.

    Args:
        model: built, with its weights.
        size_px: side S of the input.
        logits_of: logits that follow the embedding; None = the embedding alone.

    Returns:
        Function of uint8 images [B, S, S, 3] to float32 embeddings [B, D], or to rows [B, D + C].
    """
    import tensorflow as tf

    def rows(images: tf.Tensor) -> tf.Tensor:
        output = model(images, training=False)
        if logits_of is None:
            return output.embedding
        logits = tf.cast(output.heads[logits_of.head].logits, tf.float32) * logits_of.scale
        return tf.concat([output.embedding, logits], axis=-1)

    signature = [tf.TensorSpec([None, size_px, size_px, 3], tf.uint8)]
    # No model branches on the value of a tensor, and AutoGraph takes longer than the tracing.
    return tf.function(rows, input_signature=signature, autograph=False)


def live_embedder(
    model: EmbeddingModel, size_px: int, name: str, logits_of: LogitsOf | None = None
) -> Embedder:
    """Return an embedder of a model in training, without digest and store.

    Args:
        model: built; each batch uses the weights of that moment.
        size_px: side of the input.
        name: shown to the user.
        logits_of: the logits of `with_logits`; None = no classifier.
    """
    graph = embedding_graph(model, size_px)
    embedder = Embedder(name, size_px, "", _with_numpy(graph), lambda: graph)
    if logits_of is None:
        return embedder
    longer = embedding_graph(model, size_px, logits_of)
    with_logits = dataclasses.replace(
        embedder,
        embed=_with_numpy(longer),
        graph=lambda: longer,
        logit_names=logits_of.class_names,
    )
    return dataclasses.replace(embedder, with_logits=with_logits)


def lazy_embedder(
    name: str,
    size_px: int,
    digest: str,
    load: Callable[[], EmbeddingModel],
    logits_of: LogitsOf | None = None,
) -> Embedder:
    """Return an embedder that loads its model, and folds the batch norms, at the first batch.

    Args:
        name: shown to the user.
        size_px: side of the input.
        digest: known before the model is loaded.
        load: returns the built model with its weights; called at the first batch, and again for
            each graph and after a release.
        logits_of: the logits of `with_logits`; None = no classifier.
    """
    embedder = _lazy(name, size_px, digest, partial(_loaded_graph, load, None))
    if logits_of is None:
        return embedder
    graph = partial(_loaded_graph, load, logits_of)
    longer = _lazy(name, size_px, copy_digest(digest, LOGITS), graph)
    with_logits = dataclasses.replace(longer, logit_names=logits_of.class_names)
    return dataclasses.replace(embedder, with_logits=with_logits)


def _loaded_graph(
    load: Callable[[], EmbeddingModel], logits_of: LogitsOf | None, size_px: int
) -> Graph:
    return embedding_graph(load(), size_px, logits_of)


def _lazy(name: str, size_px: int, digest: str, graph_at: Callable[[int], Graph]) -> Embedder:
    """Return a network that is opened at the first batch, and the same one at other sizes."""
    graph = partial(graph_at, size_px)

    def folded() -> Embed:
        from delf_ext.features.runtimes.frozen_graph import freeze, tensorflow_function

        frozen = freeze(graph())
        # The model is not needed any more, and Keras' layers refer to each other.
        gc.collect()
        return _with_numpy(tensorflow_function(frozen))

    network = OpenedLater(folded)
    embedder = Embedder(name, size_px, digest, network, graph, release=network.release)
    return with_sizes(
        embedder,
        lambda other_px: _lazy(name, other_px, copy_digest(digest, f"{other_px}px"), graph_at),
    )


class OpenedLater:
    """Network that is opened at the first batch."""

    def __init__(self, open_network: Callable[[], Embed]) -> None:
        """Keep how to open the network.

        Args:
            open_network: returns the network; called at the first batch, and again after a release.
        """
        self._open = open_network
        self._embed: Embed | None = None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Embed images, uint8 [B, S, S, 3] -> float32 [B, D]."""
        if self._embed is None:
            self._embed = self._open()
        return self._embed(images)

    def release(self) -> None:
        """Free the memory of the network; the next batch opens it again."""
        if self._embed is None:
            return
        self._embed = None
        gc.collect()
        if "tensorflow" in sys.modules:
            from tensorflow.python.eager import context

            # TensorFlow keeps the kernels of functions that are gone.
            context.context().clear_kernel_cache()


def _with_numpy(graph: Graph) -> Embed:
    import tensorflow as tf

    def embed(images: np.ndarray) -> np.ndarray:
        return graph(tf.constant(images)).numpy()

    return embed


def graph_file(embedder: Embedder, folder: Path) -> Path:
    """Write the frozen graph of an embedder unless it exists; the file is named by its digest.

    Args:
        embedder: one with a TensorFlow graph.
        folder: folder of frozen graphs.

    Returns:
        Path of the `.pb` file.

    Raises:
        ValueError: the embedder has no TensorFlow graph.
    """
    path = folder / f"{embedder.digest}.pb"
    if path.is_file():
        return path
    if embedder.graph is None:
        raise ValueError(
            f"{embedder.name} is not a TensorFlow network of this project: leave --runtime out."
        )
    from delf_ext.features.runtimes.frozen_graph import frozen_graph

    with atomic_path(path) as temporary:
        temporary.write_bytes(frozen_graph(embedder.graph()).SerializeToString())
    return path


def in_openvino(embedder: Embedder, folder: Path, bfloat16: bool = False) -> Embedder:
    """Return the same network run by OpenVINO, opened at the first batch.

    Args:
        embedder: one with a TensorFlow graph.
        folder: folder of frozen graphs.
        bfloat16: let OpenVINO compute in bfloat16.

    Returns:
        Embedder with the same digest: embeddings differ by at most `networks.TOLERANCE`.
    """

    def opened() -> Embed:
        path = graph_file(embedder, folder)
        try:
            return open_network(path, "openvino", bfloat16).compiled(0)
        except ValueError:
            if find_spec("openvino") is None:
                raise
            # A power cut or a full disk can leave half a file: make it again, once.
            path.unlink(missing_ok=True)
            say(f"{shown_path(path)}: made again, because it could not be read")
        return open_network(graph_file(embedder, folder), "openvino", bfloat16).compiled(0)

    network = OpenedLater(opened)
    return dataclasses.replace(embedder, embed=network, graph=None, release=network.release)
