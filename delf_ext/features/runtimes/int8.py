"""A network of ours in 8-bit integers, run by OpenVINO: NNCF quantises it after training, on photographs of the user's data.

Its vectors are near those of float32, but not by TOLERANCE: so they have a digest of their own, and the two are not mixed.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_io.artifacts import digest_of
from data_io.records import ImageList
from data_io.stores.embedding_parts import content_digest
from delf_ext.features.embedder import Embedder
from delf_ext.features.extraction import decoded_batches
from delf_ext.features.network_embedders import graph_file
from delf_ext.features.runtimes.networks import open_network

CALIBRATION_IMAGES = 300
# Symmetric activations, and a bit of the first layer's weights unused. Mean cosine to float32 of ResNet-50's embeddings of 99
# Grocery photographs, calibrated on 60: 0.9956. With that bit unused in all layers 0.9941, ranges by quantile 0.9933; asymmetric
# activations, and sums kept in float, change nothing (0.9956, 0.9958).
PRESET, OVERFLOW_FIX = "performance", "first_layer_only"
# Pooling and the division by the length: cheap, and vectors would not have unit length.
KEPT_FLOAT = ["ReduceMean", "ReduceSum", "Power", "Multiply", "Divide"]


def in_openvino_int8(embedder: Embedder, images: ImageList, folder: Path) -> Embedder:
    """The network, weights as they are now, quantised on CALIBRATION_IMAGES of `images`, and printed with them.

    folder: where the graph and the quantised network are kept. The digest changes with weights, those photographs and settings.
    Raises: ValueError naming the extra when NNCF or OpenVINO is missing, and when none of the photographs is readable.
    """
    chosen = spread(images, CALIBRATION_IMAGES)
    contents = [content_digest(path) for path in chosen.paths]
    settings = [PRESET, OVERFLOW_FIX, KEPT_FLOAT]
    digest = digest_of([embedder.digest, "int8", settings, contents])
    path = folder / f"{digest}-int8" / "network.xml"
    known = path.is_file()
    if not known:
        print(f"int8: quantising {embedder.name}; it takes minutes, once", flush=True)
        batches = decoded_batches(chosen, embedder.image_size, batch_size=1)
        samples = [item[None] for (item,) in batches if not isinstance(item, str)]
        if not samples:
            raise ValueError(
                f"--runtime=openvino-int8: none of {len(chosen)} photographs to calibrate on could be read."
            )
        quantize(graph_file(embedder, folder), samples, path)
    when = "before" if known else "now"
    which = f"{len(chosen)} of {len(images)} photographs, {chosen.paths[0]} to {chosen.paths[-1]}"
    print(f"int8: calibrated {when} on {which} ({path})")
    run = open_network(path, "openvino").compiled(0)
    return dataclasses.replace(embedder, digest=digest, embed=run, graph=None)


def spread(images: ImageList, count: int) -> ImageList:
    """At most `count` of the list, evenly over it."""
    return images.take(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))


def quantize(graph: Path, samples: Sequence[np.ndarray], out: Path) -> None:
    """A frozen graph with one input to OpenVINO's out (.xml, with a .bin beside it), in a folder of its own, whole or not at all.

    samples: inputs of the network, one batch each.
    """
    os.environ.setdefault("NNCF_CI", "1")  # or NNCF would report each use to its makers
    try:
        import nncf
        import openvino
    except ImportError:
        raise ValueError(
            "--runtime=openvino-int8 needs OpenVINO and NNCF: pip install -e '.[int8]'"
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
        made = Path(temporary) / "whole"
        openvino.save_model(quantized, made / out.name, compress_to_fp16=False)
        try:
            made.rename(out.parent)
        except OSError:
            if not out.is_file():  # else another process was quicker
                raise
