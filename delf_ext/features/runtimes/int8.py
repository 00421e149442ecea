"""Quantise a network to 8-bit integers with NNCF, and run it with OpenVINO.

NNCF calibrates the network on images of the user. Its embeddings are near those of float32, but
differ by more than TOLERANCE, so they have their own digest and the two are never mixed.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_io.files.artifacts import digest_of
from data_io.files.contents import content_digest
from data_io.messages import shown_path
from data_io.records import ImageList
from delf_ext.features.decoding import decoded_batches
from delf_ext.features.embedder import Embed, Embedder
from delf_ext.features.network_embedders import OpenedLater, graph_file
from delf_ext.features.runtimes.networks import open_network

CALIBRATION_IMAGES = 300
# The figures below are of 60 images; the ranges of fewer may miss what other images need.
ENOUGH_IMAGES = 60
# Symmetric activations, and one unused bit in the weights of the first layer. Mean cosine to
# float32 of a ResNet-50's embeddings of 99 Grocery Store images, calibrated on 60: 0.9956. With the
# unused bit in all layers 0.9941, ranges by quantile 0.9933; asymmetric activations and sums in
# float change nothing (0.9956, 0.9958).
PRESET = "performance"
OVERFLOW_FIX = "first_layer_only"
# Operations of the pooling and of the division by the length stay in float: they are cheap, and
# embeddings would not have unit length.
KEPT_FLOAT = ["ReduceMean", "ReduceSum", "Power", "Multiply", "Divide"]


def in_openvino_int8(embedder: Embedder, images: ImageList, folder: Path) -> Embedder:
    """Return the network, with its present weights, in 8-bit integers.

    Prints which images it was calibrated on. The digest changes with the weights, these images and
    the settings.

    Args:
        embedder: one with a TensorFlow graph.
        images: at most CALIBRATION_IMAGES of them are used.
        folder: where graphs and quantised networks are kept.

    Returns:
        The quantised embedder.

    Raises:
        ValueError: NNCF or OpenVINO is missing, or none of the images is readable.
    """
    chosen = spread(images, CALIBRATION_IMAGES)
    contents = [content_digest(path) for path in chosen.paths]
    settings = [PRESET, OVERFLOW_FIX, KEPT_FLOAT]
    digest = digest_of([embedder.digest, "int8", settings, contents])
    path = folder / f"{digest}-int8" / "network.xml"
    is_known = path.is_file()
    if not is_known:
        print(f"int8: quantising {embedder.name}; this takes minutes, only once", flush=True)
        batches = decoded_batches(chosen, embedder.image_size, batch_size=1)
        samples = [item[None] for (item,) in batches if not isinstance(item, str)]
        if not samples:
            raise ValueError(
                f"--runtime=openvino-int8: none of {len(chosen)} images to calibrate on "
                "could be read."
            )
        quantize(graph_file(embedder, folder), samples, path)
    when = "before" if is_known else "now"
    which = f"{len(chosen)} of {len(images)} images, {chosen.paths[0]} to {chosen.paths[-1]}"
    warning = too_few_warning(len(chosen))
    if warning:
        print(warning)
    print(f"int8: calibrated {when} on {which} ({shown_path(path)})")

    def opened() -> Embed:
        try:
            return open_network(path, "openvino").compiled(0)
        except ValueError as error:
            raise ValueError(
                f"{error} Delete the folder {shown_path(path.parent)} and run again."
            ) from error

    network = OpenedLater(opened)
    return dataclasses.replace(
        embedder, digest=digest, embed=network, graph=None, release=network.release
    )


def too_few_warning(num_images: int) -> str:
    """Return a warning if a network is calibrated on so few images, else "".

    >>> too_few_warning(60)
    ''
    """
    if num_images >= ENOUGH_IMAGES:
        return ""
    return (
        f"warning: int8 calibrated on fewer than {ENOUGH_IMAGES} images can be far from float32: "
        "pass more --data, or --runtime=openvino."
    )


def spread(images: ImageList, count: int) -> ImageList:
    """Return at most `count` images at even distances in the list."""
    rows = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
    return images.take(rows)


def quantize(graph: Path, samples: Sequence[np.ndarray], out: Path) -> None:
    """Quantise a frozen graph; a killed run leaves no incomplete result.

    Args:
        graph: file of a frozen graph with one input.
        samples: inputs of the network, one batch [B, S, S, 3] each.
        out: the `.xml` file to write, with a `.bin` beside it; no other file is in its folder.

    Raises:
        ValueError: NNCF or OpenVINO is missing.
        OSError: the result cannot be written.
    """
    # Otherwise NNCF reports each use to its makers.
    os.environ.setdefault("NNCF_CI", "1")
    try:
        import nncf
        import openvino
    except ImportError:
        raise ValueError(
            "--runtime=openvino-int8 needs OpenVINO and NNCF: "
            'pip install -e ".[int8]" in the clone.'
        ) from None
    nncf.set_log_level(logging.ERROR)
    quantized = nncf.quantize(
        openvino.Core().read_model(graph),
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset(PRESET),
        subset_size=len(samples),
        ignored_scope=nncf.IgnoredScope(types=KEPT_FLOAT, validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix(OVERFLOW_FIX)
        ),
    )
    out.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent.parent, prefix=".int8.") as temporary:
        complete = Path(temporary) / "complete"
        openvino.save_model(quantized, complete / out.name, compress_to_fp16=False)
        try:
            complete.rename(out.parent)
        except OSError:
            # Another process may have written the same result first.
            if not out.is_file():
                raise
