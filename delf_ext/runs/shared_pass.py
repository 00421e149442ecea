"""Open a pretrained trunk with several poolings that share one pass through the trunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_io.files.caches import cache_folder
from data_io.progress import Log, quiet
from data_io.records import ImageList
from data_io.stores.embeddings import EmbeddingStore
from data_io.stores.joined_embeddings import JoinedStore
from delf_ext.features.embedder import Embedder
from delf_ext.runs.model_files import open_checkpoint, open_poolings
from delf_ext.runs.runtimes import in_runtime
from delf_ext.runs.sources import POOLINGS, CheckpointSource, Runtime, require_runtime


@dataclass(frozen=True)
class SharedPass:
    """Trunk with several poolings.

    Attributes:
        model: returns the joined embeddings (see `JoinedStore`), and stores those of each pooling.
        poolings: keys of POOLINGS, in the order in which their embeddings are joined.
        digests: digest of the model with each pooling alone; its embeddings have it in the store.
    """

    model: Embedder
    poolings: tuple[str, ...]
    digests: tuple[str, ...]


def open_shared_pass(
    source: CheckpointSource,
    poolings: Sequence[str],
    runtime: Runtime,
    calibration: Callable[[], ImageList],
    log: Log = quiet,
) -> SharedPass:
    """Open a trunk with several poolings.

    Embeddings are stored as those of each pooling alone, so `search` and `evaluate` with one of the
    poolings find them. The 8-bit network has others if it has other poolings: it stores its own.

    Args:
        source: checkpoint, trunk and image size.
        poolings: keys of POOLINGS.
        runtime: library and precision that compute the embeddings.
        calibration: returns images to calibrate the 8-bit runtime.
        log: called with each line of the log.

    Returns:
        The model; its weights are loaded at the first batch.

    Raises:
        UsageError: the runtime does not fit.
        ValueError: there are no such weights, or they are of another trunk.
    """
    require_runtime(source, runtime)
    pools = {name: POOLINGS[name] for name in poolings}
    model = in_runtime(open_poolings(source, pools, log), runtime, calibration)
    if runtime.name == "openvino-int8":
        digests = [f"{model.digest}-{name}" for name in poolings]
    else:
        alone = [dataclasses.replace(source, pool=pool) for pool in pools.values()]
        opened = [in_runtime(open_checkpoint(one, quiet), runtime, None) for one in alone]
        digests = [one.digest for one in opened]
    folder = cache_folder() / "features"
    store = JoinedStore([EmbeddingStore(folder, digest, log) for digest in digests])
    model = dataclasses.replace(model, store=store)
    return SharedPass(model, tuple(poolings), tuple(digests))
