"""Embed images with a trained baseline."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from baseline_keras.network import PIXEL_SCALE, build_embedding, build_network
from baseline_keras.run_directory import KIND, Settings, latest_checkpoint, restore, settings_of
from data_io.files.artifacts import digest_of
from data_io.finite import require_finite
from data_io.images import load_image
from data_io.records import GlobalFeatures, ImageList
from delf_ext.features.embedder import Embedder
from delf_ext.features.network_embedders import OpenedLater
from delf_ext.runs.recipe_run import training_of
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import checkpoint_digest, read_run

LOADING_THREADS = 2


def unit_rows(logits: np.ndarray) -> np.ndarray:
    """Scale each row to unit length.

    The official code divided by the norm of the whole matrix, which gives dot products instead of
    cosines. A row of zeros means equal probabilities, like every other constant row, so the result
    is the constant row of unit length.

    Args:
        logits: float [B, D] of any precision.

    Returns:
        float32 [B, D].
    """
    rows = np.where((logits == 0).all(axis=1, keepdims=True), 1.0, logits.astype(np.float64))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class BaselineEmbedder:
    """Embedder whose embeddings are the logits of the network, scaled to unit length.

    Attributes:
        name: "keras_baseline".
        image_size: side S of the input in pixels.
        dimension: D, one per trained class.
        digest: changes with the weights.
    """

    name = KIND

    def __init__(self, network: tf.keras.Sequential) -> None:
        self.image_size = int(network.input_shape[1])
        self.dimension = int(network.output_shape[1])
        self.digest = _digest_of_weights(network)
        model = build_embedding(network)
        shape = (None, self.image_size, self.image_size, 3)

        # With this signature the function is traced only once for all batch sizes.
        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
        def embed(images: tf.Tensor) -> tf.Tensor:
            return model(tf.cast(images, tf.float32) * PIXEL_SCALE, training=False)

        self._embed = embed

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Embed a batch of images.

        Args:
            images: uint8 [B, S, S, 3], RGB.

        Returns:
            Embeddings float32 [B, D], unit length.

        Raises:
            ValueError: the images have another shape or type, or the outputs of the network are not
                finite.
        """
        side = self.image_size
        if images.ndim != 4 or images.shape[1:] != (side, side, 3) or images.dtype != np.uint8:
            raise ValueError(
                f"images must be uint8 [B, {side}, {side}, 3]. "
                f"Received {images.dtype} {images.shape}."
            )
        # TensorFlow's fused convolution fails for an empty batch.
        if not len(images):
            return np.zeros((0, self.dimension), np.float32)
        logits = self._embed(images).numpy()
        if not np.isfinite(logits).all():
            raise ValueError(
                "the baseline's outputs are not finite: its training diverged. Train again."
            )
        return unit_rows(logits)


def load_embedder(run_dir: str | Path) -> BaselineEmbedder:
    """Load the baseline of a run directory after its last finished epoch.

    Args:
        run_dir: the run directory.

    Returns:
        The embedder.

    Raises:
        ValueError: the directory is not a run of the baseline, or no epoch is finished.
    """
    run = read_run(run_dir)
    return _load(settings_of(run), _newest_checkpoint(run))


def _load(settings: Settings, prefix: Path) -> BaselineEmbedder:
    network = build_network(settings.num_classes, settings.image_size)
    restore(tf.train.Checkpoint(network=network), prefix)
    require_finite(prefix, ((weight.name, weight.numpy()) for weight in network.variables))
    return BaselineEmbedder(network)


def _newest_checkpoint(run: Run) -> Path:
    latest = latest_checkpoint(run.path)
    if latest is None:
        raise ValueError(
            f"{run.path}: no epoch is finished. Continue the training: "
            "python -m baseline_keras --resume with the same flags."
        )
    return latest[0]


def open_run(run: Run) -> Embedder:
    """Open a run of the baseline for `delf_ext.runs.opening`.

    The network is loaded at the first batch. It always runs in TensorFlow.

    Args:
        run: a run of the baseline.

    Returns:
        The embedder.
    """
    settings = settings_of(run)
    prefix = _newest_checkpoint(run)
    digest = digest_of([checkpoint_digest(prefix), KIND, settings.image_size])
    network = OpenedLater(lambda: _load(settings, prefix).embed)
    name = f"{KIND} {run.path.name}"
    return Embedder(
        name,
        settings.image_size,
        digest,
        network,
        held_back=training_of(run),
        release=network.release,
    )


def extract(
    embedder: BaselineEmbedder, images: ImageList, batch_size: int = 64, quiet: bool = False
) -> GlobalFeatures:
    """Embed all images of a list.

    Args:
        embedder: the trained baseline.
        images: N images.
        batch_size: images to embed at once.
        quiet: whether to hide the progress bar.

    Returns:
        Embeddings [N, D] with the ids and in the order of the images.

    Raises:
        ImageError: an image cannot be decoded.
    """
    blocks = [np.zeros((0, embedder.dimension), np.float32)]
    starts = range(0, len(images), batch_size)
    # None shows the bar only on a terminal.
    is_hidden = True if quiet else None
    with ThreadPoolExecutor(LOADING_THREADS) as pool:
        for start in tqdm(starts, desc="embedding", unit="batch", disable=is_hidden):
            paths = images.paths[start : start + batch_size]
            pixels = list(pool.map(lambda path: load_image(path, embedder.image_size), paths))
            blocks.append(embedder.embed(np.stack(pixels)))
    return GlobalFeatures(images.ids, np.concatenate(blocks), embedder.digest)


def _digest_of_weights(network: tf.keras.Sequential) -> str:
    digest = hashlib.sha256(f"{KIND} {network.input_shape}".encode())
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()[:12]
