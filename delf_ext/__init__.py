"""Search images by content: open a model, search, re-rank, evaluate and train.

Start here. `import delf_ext as mandoo` gives the whole Python API:

    open_model      open a run directory, a checkpoint or an ONNX file; without one, `lite2`
    load_dataset    read a folder, a CSV file or the challenge's folders
    search          rank the images of a gallery for each query
    rerank          improve a ranking with a chain of steps
    extract         embed images
    evaluate        measure a model on labelled queries
    compare         measure several models on the same queries
    classify        give photographs the labels of those that they resemble
    adapt           fit a head on the embeddings of a model, in seconds
    train, resume   train a recipe; continue a run
    recipes         the recipes that come with the package
    Embedder        wrap your own function from images to embeddings
    UsageError      error for arguments that do not fit (a ValueError)

A name is imported when it is first used, so `import delf_ext` is fast. Errors have the same
one-line messages as on the command line.

Examples:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from data_io.synthetic.dataset import DrawConfig, draw_dataset
    >>> import delf_ext as mandoo

    The program can draw products, so this example needs no photographs:

    >>> config = DrawConfig(
    ...     num_classes=6, num_train=24, num_queries=4, num_gallery=12, image_size_px=48
    ... )
    >>> folder = draw_dataset(Path(tempfile.mkdtemp()) / "products", config, progress=False)
    >>> data = mandoo.load_dataset(folder)

    The mean colour of an image takes the place of a trained network:

    >>> def mean_colour(images):
    ...     return images.mean(axis=(1, 2)) - 127.0
    >>> model = mandoo.Embedder("mean colour", image_size=32, digest="v1", embed=mean_colour)

    Rank the 12 gallery images for each of the 4 queries, re-rank, and measure:

    >>> hits = mandoo.search(model, data.query, data.gallery, top_k=None)
    >>> len(hits), len(hits.of(0))
    (4, 12)
    >>> reranked = mandoo.rerank(hits, "k_reciprocal:4,2")
    >>> evaluation = mandoo.evaluate(model, data)
    >>> 0 < evaluation["mAP"] <= 1
    True

    A trained network is opened from its run directory:

    >>> mandoo.open_model("runs/nothing")
    Traceback (most recent call last):
    ...
    delf_ext.config.UsageError: runs/nothing: no run directory, checkpoint or ONNX file there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_io.datasets import load_dataset as load_dataset
    from delf_ext import recipes as recipes
    from delf_ext.app.adaptation import adapt as adapt
    from delf_ext.app.classification import classify as classify
    from delf_ext.app.comparison import compare as compare
    from delf_ext.app.evaluation import evaluate as evaluate
    from delf_ext.app.searching import extract as extract
    from delf_ext.app.searching import rerank as rerank
    from delf_ext.app.searching import search as search
    from delf_ext.app.training import resume as resume
    from delf_ext.app.training import train as train
    from delf_ext.config import UsageError as UsageError
    from delf_ext.features.embedder import Embedder as Embedder
    from delf_ext.runs.opening import open_model as open_model

EXPORTS = {
    "Embedder": "delf_ext.features.embedder:Embedder",
    "UsageError": "delf_ext.config:UsageError",
    "adapt": "delf_ext.app.adaptation:adapt",
    "classify": "delf_ext.app.classification:classify",
    "compare": "delf_ext.app.comparison:compare",
    "evaluate": "delf_ext.app.evaluation:evaluate",
    "extract": "delf_ext.app.searching:extract",
    "load_dataset": "data_io.datasets:load_dataset",
    "open_model": "delf_ext.runs.opening:open_model",
    "recipes": "delf_ext.recipes:",
    "rerank": "delf_ext.app.searching:rerank",
    "resume": "delf_ext.app.training:resume",
    "search": "delf_ext.app.searching:search",
    "train": "delf_ext.app.training:train",
}
"""Public name -> "module:attribute"; without an attribute, the name is the module itself."""
__all__ = [*EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}. It has: {', '.join(EXPORTS)}."
        )
    module_name, _, attribute = EXPORTS[name].partition(":")
    module = importlib.import_module(module_name)
    return getattr(module, attribute) if attribute else module


def __dir__() -> list[str]:
    return sorted({*globals(), *EXPORTS})
