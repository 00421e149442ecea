"""A trained baseline as an embedder: images in, unit-length embeddings out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from baseline_keras.network import PIXEL_SCALE, build_embedding, build_network
from baseline_keras.run_directory import KIND, Settings, latest_checkpoint, restore, settings_of
from data_io.artifacts import digest_of
from data_io.images import load_image
from data_io.records import GlobalFeatures, ImageList
from delf_ext.features.embedder import Embedder
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import checkpoint_digest, read_run

LOADING_THREADS = 2


def unit_rows(logits: np.ndarray) -> np.ndarray:
    """Each row [B, D] divided by its own length, whatever precision the network ran in: float32.

    The official code divided by the norm of the whole matrix, which leaves a dot product instead of a cosine. A row of zeros has
    no direction; it stands for equal probabilities, as every constant row does, so it becomes the constant row of unit length.
    """
    exact = np.where((logits == 0).all(axis=1, keepdims=True), 1.0, logits.astype(np.float64))
    return (exact / np.linalg.norm(exact, axis=1, keepdims=True)).astype(np.float32)


class BaselineEmbedder:
    """The last dense layer's output before the softmax, L2-normalised.

    image_size: S in pixels. dimension: D, one per trained class. digest: changes with the weights. embed: images -> embeddings.
    """

    name = KIND

    def __init__(self, network: tf.keras.Sequential) -> None:
        self.image_size, self.dimension = int(network.input_shape[1]), int(network.output_shape[1])
        self.digest = _digest_of_weights(network)
        model = build_embedding(network)
        shape = (None, self.image_size, self.image_size, 3)

        @tf.function(
            input_signature=[tf.TensorSpec(shape, tf.uint8)]
        )  # one trace for every batch size
        def embed(images: tf.Tensor) -> tf.Tensor:
            return model(tf.cast(images, tf.float32) * PIXEL_SCALE, training=False)

        self._embed = embed

    def embed(self, images: np.ndarray) -> np.ndarray:
        """images uint8 [B, S, S, 3] RGB -> embeddings float32 [B, D] of unit length.

        Raises: ValueError on another shape or type, and when the network gives numbers that are not finite.
        """
        expected = (self.image_size, self.image_size, 3)
        if images.ndim != 4 or images.shape[1:] != expected or images.dtype != np.uint8:
            raise ValueError(
                f"images must be uint8 [B, {expected[0]}, {expected[1]}, 3]. Received {images.dtype} {images.shape}."
            )
        if not len(images):
            return np.zeros(
                (0, self.dimension), np.float32
            )  # TensorFlow's fused convolution refuses an empty batch
        logits = self._embed(images).numpy()
        if not np.isfinite(logits).all():
            raise ValueError(
                "the baseline's outputs are not finite: its training diverged. Train again."
            )
        return unit_rows(logits)


def load_embedder(run_dir: str | Path) -> BaselineEmbedder:
    """Load the baseline of a run directory after its last finished epoch.

    Raises: ValueError naming the file when the directory is not a baseline run or holds no finished epoch.
    """
    run = read_run(run_dir)
    return _loaded(settings_of(run), _newest(run))


def _loaded(settings: Settings, prefix: Path) -> BaselineEmbedder:
    network = build_network(settings.num_classes, settings.image_size)
    restore(tf.train.Checkpoint(network=network), prefix)
    return BaselineEmbedder(network)


def _newest(run: Run) -> Path:
    latest = latest_checkpoint(run.path)
    if latest is None:
        raise ValueError(
            f"{run.path}: no finished epoch in it. Continue it: python -m baseline_keras --resume with the same flags."
        )
    return latest[0]


def open_run(run: Run, runtime: Any, log: Callable[[str], None]) -> Embedder:
    """Open a baseline run for `runs.opening`: its network is loaded at the first batch. It runs in TensorFlow alone."""
    settings = settings_of(run)
    prefix = _newest(run)
    digest = digest_of([checkpoint_digest(prefix), KIND, settings.image_size])
    loaded = cache(lambda: _loaded(settings, prefix))
    name = f"{KIND} {run.path.name}"
    return Embedder(name, settings.image_size, digest, lambda images: loaded().embed(images))


def extract(
    embedder: BaselineEmbedder, images: ImageList, batch_size: int = 64, quiet: bool = False
) -> GlobalFeatures:
    """Embeds every image of a list, in the list's order and with its ids. Raises: ImageError for a file that does not decode."""
    blocks = [np.zeros((0, embedder.dimension), np.float32)]
    starts = range(0, len(images), batch_size)
    with ThreadPoolExecutor(LOADING_THREADS) as pool:
        for start in tqdm(starts, desc="embedding", unit="batch", disable=True if quiet else None):
            paths = images.paths[start : start + batch_size]
            loaded = list(pool.map(lambda path: load_image(path, embedder.image_size), paths))
            blocks.append(embedder.embed(np.stack(loaded)))
    return GlobalFeatures(images.ids, np.concatenate(blocks), embedder.digest)


def _digest_of_weights(network: tf.keras.Sequential) -> str:
    digest = hashlib.sha256(f"{KIND} {network.input_shape}".encode())
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()[:12]
