"""What turns a batch of photographs into embeddings: an untrained trunk, or a trained run."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import tensorflow as tf

from data_io.artifacts import atomic_path, digest_of, read_json
from delf_ext.config import RunConfig
from delf_ext.features.fast_runtime import Run, open_network
from delf_ext.features.inference_graph import frozen_graph, tensorflow_function
from delf_ext.models.backbones import Backbone
from delf_ext.models.checkpoints import LoadReport, load_backbone, load_network
from delf_ext.models.dual_head import DualHead
from delf_ext.models.pooling import pool


@dataclass(frozen=True)
class Embedder:
    """embed: uint8 [B, S, S, 3] -> float32 [B, D]. digest: changes with weights, preprocessing and configuration.

    speed_key: the same for networks of one speed. graph: what TensorFlow runs, where it does. with_threads: `embed` on so many
    threads, where the runtime lets them be chosen; 0 leaves them to it.
    """

    name: str
    image_size: int
    digest: str
    embed: Run
    speed_key: str = ""
    graph: tf.types.experimental.GenericFunction | None = None
    with_threads: Callable[[int], Run] | None = None


def weights_digest(layer: tf.keras.layers.Layer) -> str:
    """Changes when any weight does."""
    summary = hashlib.sha256()
    for variable in sorted(layer.variables, key=lambda variable: variable.name):
        summary.update(variable.name.encode() + variable.numpy().tobytes())
    return summary.hexdigest()[:12]


def _tensorflow_embedder(
    name: str, size: int, digest: str, speed_key: str, function: Callable[[tf.Tensor], tf.Tensor]
) -> Embedder:
    graph = tf.function(function, input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8)])
    return Embedder(name, size, digest, lambda images: graph(tf.constant(images)).numpy(), speed_key, graph)


def folded(embedder: Embedder) -> Embedder:
    """The same network with its batch norms folded, weights as they are at the first batch. Not for a network that trains on."""
    graph = embedder.graph
    if graph is None:
        return embedder
    function = cache(lambda: tensorflow_function(frozen_graph(graph)))  # not before it is needed: it takes seconds
    return dataclasses.replace(embedder, embed=lambda images: function()(tf.constant(images)).numpy())


def graph_file(embedder: Embedder, folder: Path) -> Path:
    """The frozen graph, kept in `folder` under the digest. Raises: ValueError when the embedder is no network of ours."""
    path = folder / f"{embedder.digest}.pb"
    if not path.is_file():
        if embedder.graph is None:
            raise ValueError(f"{embedder.name} is no TensorFlow network of ours: leave --runtime out.")
        with atomic_path(path) as temporary:
            temporary.write_bytes(frozen_graph(embedder.graph).SerializeToString())
    return path


def in_openvino(embedder: Embedder, folder: Path, bfloat16: bool = False) -> Embedder:
    """The same network, weights as they are now, run by OpenVINO; equal to `fast_runtime.TOLERANCE`, so the digest stays."""
    path = graph_file(embedder, folder)
    with_threads = partial(open_network(path, "openvino", bfloat16).compiled, 0)
    return dataclasses.replace(embedder, embed=with_threads(0), graph=None, with_threads=with_threads)


def zero_shot_embedder(checkpoint: str, endpoint: str, layout: str, pooling: str, image_size: int) -> tuple[Embedder, LoadReport]:
    """A pretrained trunk as it is: the pooled end point. pooling: avg, gem or attention (by feature norm: nobody trained one)."""
    backbone = Backbone(endpoint, layout)
    pool(tf.zeros([1, 1, 1, 1]), pooling)  # a wrong name is refused before the network is built
    backbone(tf.zeros([1, image_size, image_size, 3]))
    report = load_backbone(backbone, checkpoint)
    identity = digest_of([weights_digest(backbone), backbone.endpoint, layout, pooling, image_size])

    def embed(images: tf.Tensor) -> tf.Tensor:
        features = backbone(images, training=False)[backbone.endpoint]
        return tf.math.l2_normalize(tf.cast(pool(features, pooling), tf.float32), axis=-1)

    name = f"zero-shot {backbone.endpoint} {pooling}"
    return _tensorflow_embedder(name, image_size, identity, name, embed), report


def network_embedder(network: DualHead, name: str) -> Embedder:
    """A built dual head with the weights that it has now: while it trains, make a new one for a new digest."""
    size = network.config.image_size
    identity = digest_of([weights_digest(network), dataclasses.asdict(network.config)])
    return _tensorflow_embedder(
        name, size, identity, f"dual_head {network.config.endpoint}", lambda images: network(images, training=False)[0]
    )


def read_run_config(run_dir: str | Path) -> RunConfig:
    """Raises: ValueError naming the file when config.json is missing, half-written or of another system."""
    path = Path(run_dir) / "config.json"
    values = read_json(path)
    try:
        return RunConfig.from_dict(values)
    except (TypeError, ValueError) as error:  # a value of another type, or one that is refused
        raise ValueError(f"{path}: not a run's configuration ({error}).") from None


def run_embedder(run_dir: str | Path) -> Embedder:
    """The network that a finished or running training has kept. Raises: ValueError when the directory holds no usable run."""
    config = read_run_config(run_dir)
    network = DualHead(config.model).build_variables()
    which = load_network(network, Path(run_dir) / "checkpoint")
    return network_embedder(network, f"{config.system} {Path(run_dir).name} ({which})")
