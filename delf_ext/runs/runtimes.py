"""Let another runtime or precision compute the embeddings of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from data_io.files.caches import cache_folder
from data_io.records import ImageList
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embed, Embedder, with_sizes
from delf_ext.features.network_embedders import in_openvino
from delf_ext.features.runtimes.int8 import in_openvino_int8
from delf_ext.models.precision import set_mixed_precision, uses_bfloat16
from delf_ext.runs.sources import Runtime


def in_runtime(
    model: Embedder, runtime: Runtime, calibration: Callable[[], ImageList] | None
) -> Embedder:
    """Return a model of this project in the given runtime.

    Args:
        model: a model that runs in TensorFlow.
        runtime: library and precision.
        calibration: returns the images that the 8-bit runtime is calibrated on.

    Returns:
        The model; its digest differs if the runtime changes the embeddings.

    Raises:
        UsageError: the 8-bit runtime has no images to calibrate on.
        ValueError: OpenVINO is not installed.
    """
    if model.with_logits is not None:
        # Calibrated together with the logits, the 8-bit network would have other embeddings.
        is_int8 = runtime.name == "openvino-int8"
        longer = None if is_int8 else in_runtime(model.with_logits, runtime, calibration)
        plain = in_runtime(dataclasses.replace(model, with_logits=None), runtime, calibration)
        return dataclasses.replace(plain, with_logits=longer)
    # The official baseline has no graph: it always runs in TensorFlow, in float32.
    if model.graph is None:
        return dataclasses.replace(model, embed=_with_precision(model.embed, "off"))
    opened = _opened(model, runtime, calibration)
    if model.at_size is None:
        return opened
    at_size = model.at_size

    def of_size(size_px: int) -> Embedder:
        sized = dataclasses.replace(at_size(size_px), float32=model.float32)
        return in_runtime(sized, runtime, calibration)

    return with_sizes(opened, of_size)


def _opened(
    model: Embedder, runtime: Runtime, calibration: Callable[[], ImageList] | None
) -> Embedder:
    """Return a model with a TensorFlow graph in the given runtime; see `in_runtime`."""
    graphs = cache_folder() / "graphs"
    if runtime.name == "openvino-int8":
        if calibration is None:
            raise UsageError("--runtime=openvino-int8 needs images to calibrate on: pass --data.")
        return in_openvino_int8(model, calibration(), graphs)
    precision = "off" if model.float32 else runtime.mixed_precision
    bfloat16 = uses_bfloat16(precision)
    if runtime.name != "openvino":
        model = dataclasses.replace(model, embed=_with_precision(model.embed, precision))
        return mark_bfloat16(model) if bfloat16 else model
    if find_spec("openvino") is None:
        raise ValueError(
            '--runtime=openvino needs OpenVINO: pip install -e ".[fast]" in the clone.'
        )
    model = in_openvino(model, graphs, bfloat16)
    return mark_bfloat16(model, "openvino") if bfloat16 else model


def mark_bfloat16(model: Embedder, runtime: str = "") -> Embedder:
    """Return the model with a digest that says that it computes in bfloat16.

    Args:
        model: the model.
        runtime: library that rounds in other places than TensorFlow; its embeddings are not mixed
            with TensorFlow's. Measured with EfficientNet-Lite2: a distance of up to 0.06.

    Returns:
        The model with another digest.
    """
    mark = "-".join(filter(None, ("bf16", runtime)))
    return dataclasses.replace(model, digest=f"{model.digest}-{mark}")


def _with_precision(embed: Embed, choice: str) -> Embed:
    """Set TensorFlow's precision before each call: models of both precisions may alternate."""

    def run(images: np.ndarray) -> np.ndarray:
        set_mixed_precision(choice)
        return embed(images)

    return run
