"""Open a model file: a pretrained checkpoint or an ONNX network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from data_io.files.artifacts import digest_of
from data_io.progress import Log
from delf_ext.features.embedder import Embedder
from delf_ext.features.network_embedders import lazy_embedder
from delf_ext.features.runtimes.networks import installed_runtime
from delf_ext.features.runtimes.onnx_embedder import onnx_embedder
from delf_ext.models.precision import uses_bfloat16
from delf_ext.recipes import codec, schema
from delf_ext.recipes.trunk_names import LITE
from delf_ext.runs.run_directory import checkpoint_digest
from delf_ext.runs.runtimes import mark_bfloat16
from delf_ext.runs.sources import POOLINGS, CheckpointSource, OnnxSource, Runtime
from delf_ext.runs.weights import find_weights

if TYPE_CHECKING:
    from delf_ext.models.embedding_model import EmbeddingModel


def open_checkpoint(source: CheckpointSource, log: Log) -> Embedder:
    """Open a pretrained trunk without further training.

    Args:
        source: checkpoint, trunk, pooling and image size.
        log: called with the report of the loaded weights, and if the layout is assumed.

    Returns:
        The embedder; its weights are loaded at the first batch.

    Raises:
        ValueError: there is no such checkpoint, or it is of another trunk or layout.
    """
    return open_poolings(source, {"pooled": source.pool}, log)


def open_poolings(source: CheckpointSource, pools: Mapping[str, schema.Pool], log: Log) -> Embedder:
    """Open a pretrained trunk with one or several poolings of its feature map.

    Args:
        source: checkpoint, trunk and image size; its pooling is not used.
        pools: name -> pooling; the embeddings are joined in this order.
        log: called with the report of the loaded weights, and if the layout is assumed.

    Returns:
        The embedder; its weights are loaded at the first batch.

    Raises:
        ValueError: there is no such checkpoint, or it is of another trunk or layout.
    """
    trunk, path = find_weights(source.trunk, source.path, log)
    heads = tuple(schema.Head(name, pool) for name, pool in pools.items())
    config = schema.Model(trunk, heads, tuple(pools))
    end_point = f"/{trunk.end_point}" if trunk.end_point else ""
    name = f"untrained {trunk.name}{end_point} {' and '.join(map(_pool_name, pools.values()))}"
    weights = checkpoint_digest(path)
    digest = digest_of([weights, codec.to_json(config), source.size_px])

    def load() -> EmbeddingModel:
        from delf_ext.models.embedding_model import EmbeddingModel

        model = EmbeddingModel(config, 0).build_variables()
        report = model.trunk.load(str(path))
        # Weights in a package fit, and always have a classifier that is unused.
        if source.path not in LITE or report.missing or report.shape_mismatch:
            log(str(report))
        return model

    return lazy_embedder(name, source.size_px, digest, load)


def _pool_name(pool: schema.Pool) -> str:
    names = {known: name for name, known in POOLINGS.items()}
    return names.get(pool, type(pool).__name__)


def open_onnx(source: OnnxSource, runtime: Runtime) -> Embedder:
    """Open an ONNX network.

    Args:
        source: path of FILE.onnx; FILE.onnx.json beside it describes the input.
        runtime: "auto", "openvino" or "onnxruntime".

    Returns:
        The embedder.

    Raises:
        ValueError: a file is missing or cannot be used, or the runtime is not installed.
    """
    name = installed_runtime() if runtime.name == "auto" else runtime.name
    bfloat16 = name == "openvino" and uses_bfloat16(runtime.mixed_precision)
    model = onnx_embedder(source.path, name, bfloat16)
    return mark_bfloat16(model) if bfloat16 else model
