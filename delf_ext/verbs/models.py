"""Open the models that the flags name: runs, a pretrained trunk, an ONNX network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from data_io.datasets import list_images, load_dataset
from data_io.progress import Log, say
from data_io.records import ImageList
from delf_ext.config import UsageError, require
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.features.extraction import BATCH_SIZE
from delf_ext.recipes import schema
from delf_ext.recipes.trunk_names import LITE, SIZE_PX, trunk_named
from delf_ext.runs.opening import open_model
from delf_ext.runs.sources import (
    DEFAULT_MODEL,
    POOLINGS,
    CheckpointSource,
    ModelSource,
    OnnxSource,
    RunSource,
    Runtime,
    require_runtime,
)
from delf_ext.runs.weights import known_trunk
from delf_ext.verbs.data import resolve_data
from delf_ext.verbs.printing import HeldLog
from pretrained.lite_weights import package_file

Data = TypeVar("Data")
NO_MODEL = f"no model named: using {DEFAULT_MODEL}, trained on ImageNet."
BETTER_MODEL = "If your photographs have labels, `mandoo adapt` makes a better one in seconds."


def sources_of(flags: Any, several: bool = False) -> list[ModelSource]:
    """Return the models that the flags name, untrained ones first; without any, the default one.

    Args:
        flags: the flags of a verb.
        several: whether the verb takes --runs.

    Returns:
        The sources.

    Raises:
        UsageError: if a flag does not fit the models, or no model is named and the default one is
            not installed.
    """
    run_dirs = [*flags.runs, *([flags.run_dir] if flags.run_dir else [])]
    sources: list[ModelSource] = [OnnxSource(flags.onnx_model)] if flags.onnx_model else []
    if flags.pretrained_model:
        sources.append(_checkpoint(flags.pretrained_model, flags))
    sources += [RunSource(str(run_dir)) for run_dir in run_dirs]
    if not sources:
        _require_default_model(flags, several)
        sources.append(_checkpoint(DEFAULT_MODEL, flags))
    if not any(isinstance(source, CheckpointSource) for source in sources):
        for name in ("pooling", "image_size"):
            require(
                not flags[name].present,
                f"--{name} is for --pretrained_model; a run directory and an ONNX model have "
                "their own: leave it out.",
            )
    for source in sources:
        require_runtime(source, Runtime(flags.runtime))
    return sources


def names_model(flags: Any) -> bool:
    """Return whether the flags name a model; without one, DEFAULT_MODEL is used."""
    return bool(flags.runs or flags.run_dir or flags.pretrained_model or flags.onnx_model)


def _require_default_model(flags: Any, several: bool) -> None:
    """Raise UsageError unless the default model is installed and the flags fit it."""
    for name in ("resnet_type", "layout"):
        require(
            not flags[name].present or bool(flags.local_model),
            f"--{name} describes --pretrained_model=CHECKPOINT: pass both.",
        )
    try:
        package_file(DEFAULT_MODEL)
    except ValueError as error:
        runs = "--runs=RUN,RUN, " if several else ""
        raise UsageError(
            f"no model named, and {error} Or pass {runs}--run_dir=RUN, --onnx_model=FILE.onnx "
            "or --pretrained_model=CHECKPOINT."
        ) from None


def _checkpoint(weights: str, flags: Any) -> CheckpointSource:
    trunk = trunk_of(flags, weights)
    size_px = flags.image_size
    if not flags["image_size"].present:
        size_px = SIZE_PX.get(trunk.name, size_px)
    return CheckpointSource(weights, trunk, POOLINGS[flags.pooling], size_px)


def trunk_of(flags: Any, weights: str) -> schema.Trunk:
    """Return the trunk that --resnet_type and --layout describe.

    Args:
        flags: the flags of a verb.
        weights: name or path of weights; if they are of a known network, they say the trunk,
            unless --resnet_type is passed to describe --pretrained_model.

    Returns:
        The trunk.

    Raises:
        UsageError: the trunk has no layouts.
        ValueError: the weights cannot be read.
    """
    is_described = flags["resnet_type"].present and weights == flags.pretrained_model
    # The package of the default model may be missing where another model is used.
    network = flags.resnet_type if is_described else LITE.get(weights, "")
    if not network and (known := known_trunk(weights)):
        network = known.network
    return trunk_named(network or flags.resnet_type, schema.Trunk(layout=flags.layout))


def open_models(flags: Any, log: Log = say) -> list[AnyEmbedder]:
    """Open all models that the flags name.

    Args:
        flags: the flags of a verb.
        log: called with each line of the log.

    Returns:
        The models in the order of `sources_of`.

    Raises:
        UsageError: if the flags do not fit together.
        ValueError: if a model cannot be opened.
    """
    sources = sources_of(flags)
    if not names_model(flags):
        log(f"{NO_MODEL} {BETTER_MODEL}")
    runtime = Runtime(flags.runtime, flags.mixed_precision)
    features = Path(flags.features) if flags.features else None
    if features is not None and len(sources) > 1:
        raise UsageError(
            "--features belongs to one model. For several models leave it out: "
            "each run stores its own embeddings."
        )
    return [
        open_model(
            source,
            runtime,
            store=flags.store_features,
            features=features,
            calibration=lambda: calibration_images(flags),
            log=log,
        )
        for source in sources
    ]


def open_with(load: Callable[[Any], Data], flags: Any) -> tuple[Data, AnyEmbedder]:
    """Open the model of a verb, load its data, and print how they were read first.

    A missing model is refused before the data are read.

    Args:
        load: loads the data and prints how they were read.
        flags: the flags of the verb.

    Returns:
        The data and the model.

    Raises:
        UsageError: if the flags name several models, or none and the default is not installed.
        ValueError: if the model or the data cannot be read.
    """
    log = HeldLog()
    model = open_one(flags, log)
    data = load(flags)
    log.release()
    return data, model


def open_one(flags: Any, log: Log = say) -> AnyEmbedder:
    """Open the model of a verb that uses a single one.

    Args:
        flags: the flags of the verb.
        log: called with each line of the log.

    Returns:
        The model.

    Raises:
        UsageError: if the flags name several models, or none and the default is not installed.
        ValueError: if the model cannot be opened.
    """
    require(
        len(sources_of(flags)) == 1,
        "this verb uses one model: pass only one of --run_dir, --pretrained_model and "
        "--onnx_model. `compare` takes several.",
    )
    return open_models(flags, log)[0]


def batch_size_of(flags: Any) -> int:
    """Return --batch_size, or the default for embedding if it was not passed."""
    return int(flags.batch_size) if flags["batch_size"].present else BATCH_SIZE


def calibration_images(flags: Any) -> ImageList:
    """Return the images to calibrate 8-bit inference on: the gallery, or a whole plain folder."""
    path = resolve_data(flags).path
    layout = flags.data_layout
    try:
        # Calibration needs no labels.
        data = load_dataset(path, flags.query_split, merge_labels=True, layout=layout)
    except ValueError:
        return list_images(path)
    return data.gallery if len(data.gallery) else data.train
