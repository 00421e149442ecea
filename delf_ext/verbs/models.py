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
from delf_ext.recipes.trunk_names import LITE, trunk_named
from delf_ext.runs.opening import open_model
from delf_ext.runs.sources import (
    POOLINGS,
    CheckpointSource,
    ModelSource,
    OnnxSource,
    RunSource,
    Runtime,
    require_runtime,
)
from delf_ext.verbs.data import resolve_data

Data = TypeVar("Data")


def sources_of(flags: Any, several: bool = False) -> list[ModelSource]:
    """Return the models that the flags name, untrained ones first.

    Args:
        flags: the flags of a verb.
        several: whether the verb takes --runs.

    Returns:
        The sources.

    Raises:
        UsageError: if no model is named, or the runtime cannot run one of them.
    """
    run_dirs = [*flags.runs, *([flags.run_dir] if flags.run_dir else [])]
    if not (run_dirs or flags.pretrained_model or flags.onnx_model):
        runs = "--runs=RUN,RUN, " if several else ""
        raise UsageError(
            f"no model given. Pass {runs}--run_dir=RUN, --onnx_model=FILE.onnx, or "
            "--pretrained_model=CHECKPOINT for a trunk without training."
        )
    sources: list[ModelSource] = [OnnxSource(flags.onnx_model)] if flags.onnx_model else []
    if flags.pretrained_model:
        sources.append(_checkpoint(flags))
    sources += [RunSource(str(run_dir)) for run_dir in run_dirs]
    for source in sources:
        require_runtime(source, Runtime(flags.runtime))
    return sources


def _checkpoint(flags: Any) -> CheckpointSource:
    return CheckpointSource(
        flags.pretrained_model, trunk_of(flags), POOLINGS[flags.pooling], flags.image_size
    )


def trunk_of(flags: Any) -> schema.Trunk:
    """Return the trunk that --resnet_type and --layout describe."""
    # The name of weights in a package says which trunk they are of.
    is_named = flags.pretrained_model in LITE and not flags["resnet_type"].present
    name = flags.pretrained_model if is_named else flags.resnet_type
    return trunk_named(name, schema.Trunk(layout=flags.layout))


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
        UsageError: if the flags name several models, or none.
        ValueError: if the model or the data cannot be read.
    """
    log = HeldLog()
    model = open_one(flags, log)
    data = load(flags)
    log.release()
    return data, model


class HeldLog:
    """A log that prints nothing before `release`, and then each line as it comes.

    A model keeps its log for later lines.
    """

    def __init__(self) -> None:
        self._held: list[str] | None = []

    def __call__(self, line: str) -> None:
        """Print a line, or hold it back."""
        if self._held is None:
            say(line)
        else:
            self._held.append(line)

    def release(self) -> None:
        """Print the lines that were held back, and all later ones."""
        held = self._held or []
        self._held = None
        for line in held:
            say(line)


def open_one(flags: Any, log: Log = say) -> AnyEmbedder:
    """Open the model of a verb that uses a single one.

    Args:
        flags: the flags of the verb.
        log: called with each line of the log.

    Returns:
        The model.

    Raises:
        UsageError: if the flags name several models, or none.
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
