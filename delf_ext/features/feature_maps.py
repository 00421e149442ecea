"""Compute the trunk's feature maps of a list of images once, and keep them on disk.

Training uses them to train the heads of a frozen trunk.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from data_io.files.artifacts import atomic_path, digest_of, read_json, write_json
from data_io.files.contents import contents_of
from data_io.images import DECODING_VERSION
from data_io.progress import progress
from data_io.records import ImageList
from delf_ext.features.decoding import decoded_batches
from delf_ext.features.network_embedders import variables_digest
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.recipes import codec


def stored_feature_maps(
    model: EmbeddingModel, size_px: int, images: ImageList, folder: Path, batch_size: int
) -> np.ndarray:
    """Return the trunk's feature maps; compute them unless they are stored.

    Stored maps are used only if they were made of the same images, weights, size and decoding.

    Args:
        model: built, with its weights.
        size_px: side of the images.
        images: N images.
        folder: where `trunk.npy` is kept.
        batch_size: images per call of the trunk.

    Returns:
        float16 [N, h, w, C], memory-mapped; row i is of images.ids[i].

    Raises:
        ValueError: an image can no longer be read.
    """
    trunk = model.trunk
    identity = digest_of(
        [
            variables_digest(trunk),
            codec.to_json(model.config.trunk),
            size_px,
            DECODING_VERSION,
            images.ids.tolist(),
            contents_of(images.paths.tolist()),
        ]
    )
    path = folder / "trunk.npy"
    note = folder / "trunk.json"
    if not (path.exists() and note.exists() and read_json(note)["digest"] == identity):
        graph = tf.function(
            lambda batch: tf.cast(trunk(batch, training=False)[trunk.endpoint], tf.float16)
        )
        with atomic_path(path) as temporary:
            _write_maps(graph, images, size_px, batch_size, temporary)
            # A killed process must not leave an old note beside new maps.
            note.unlink(missing_ok=True)
        write_json(note, {"digest": identity})
    return np.load(path, mmap_mode="r")


def _write_maps(
    graph: tf.types.experimental.GenericFunction,
    images: ImageList,
    size_px: int,
    batch_size: int,
    path: Path,
) -> None:
    signature = tf.TensorSpec([batch_size, size_px, size_px, 3], tf.uint8)
    shape = graph.get_concrete_function(signature).output_shapes[1:]
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)),
        "fortran_order": False,
        "shape": (len(images), *shape),
    }
    start = 0
    # Not memory-mapped: a full disk would then kill the process instead of raising an error.
    with open(path, "wb") as file, progress(len(images), "feature maps") as bar:
        np.lib.format.write_array_header_1_0(file, header)
        for batch in decoded_batches(images, size_px, batch_size):
            pixels = _require_readable(batch, images.paths[start : start + len(batch)])
            black = [np.zeros_like(pixels[0])] * (batch_size - len(pixels))
            file.write(graph(np.stack(pixels + black)).numpy()[: len(batch)].tobytes())
            start += len(batch)
            bar.update(len(batch))


def _require_readable(batch: list[np.ndarray | str], paths: np.ndarray) -> list[np.ndarray]:
    pixels = []
    for item, path in zip(batch, paths, strict=True):
        if isinstance(item, str):
            raise ValueError(f"{path}: {item}.")
        pixels.append(item)
    return pixels
