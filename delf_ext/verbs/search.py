"""search: the photographs of a folder that show the same product as yours."""

from __future__ import annotations

from typing import Any

from data_io.datasets import list_images
from delf_ext.config import UsageError
from delf_ext.verbs.systems import one_system


def run(flags: Any) -> None:
    if not flags.data or not flags.image:
        raise UsageError("search looks for --image=PHOTO in the photographs of --data=FOLDER: pass both.")
    model, _ = one_system(flags)
    from delf_ext.pipeline import embed, rank

    retrieval = embed(model, list_images(flags.image), list_images(flags.data), flags.batch_size)
    ranking = rank(retrieval, flags.top_k)
    for query_path, rows, scores in zip(retrieval.query.paths, ranking.rows, ranking.scores):
        print(f"{query_path}:")
        for place, (row, score) in enumerate(zip(rows, scores), start=1):
            print(f"  {place:>3}. {score:.4f}  {retrieval.gallery.paths[row]}")
    for path, reason in retrieval.skipped:
        print(f"skipped {path}: {reason}")
