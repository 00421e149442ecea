"""mandoo in Python: open a model, search, re-rank, evaluate, train.

The names below are imported when they are first used. Errors are exceptions (`ValueError`; `UsageError` for arguments
that do not fit) with the message that the command line prints.

Examples:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from data_io.synthetic.dataset import DrawConfig, draw_dataset
    >>> import delf_ext as mandoo

    Drawn products stand in for your photographs, and the mean colour for a trained network:

    >>> drawn = draw_dataset(Path(tempfile.mkdtemp()) / "products", DrawConfig(6, 24, 4, 12, 48), progress=False)
    >>> data = mandoo.load_dataset(drawn)
    >>> model = mandoo.Embedder("mean colour", 32, "v1", lambda images: images.mean(axis=(1, 2)) - 127.0)
    >>> hits = mandoo.search(model, data.query, data.gallery, top_k=None)
    >>> len(hits), len(hits.of(0))
    (4, 12)
    >>> better = mandoo.rerank(hits, "k_reciprocal:4,2")
    >>> figures = mandoo.evaluate(model, data).figures
    >>> figures["num_queries"], figures["num_gallery"]
    (4, 12)

    A network is opened from a run directory, a checkpoint or an ONNX file, and trained from a recipe:

    >>> mandoo.recipes.find_recipe("mandoo_dual").model.embedding
    ('similarity',)
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
"""Name -> module:attribute; a module alone is the module itself."""
__all__ = [*EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}. It has: {', '.join(EXPORTS)}."
        )
    module, _, attribute = EXPORTS[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted({*globals(), *EXPORTS})
