"""Find the images of a folder that show the same product as a query image."""

from __future__ import annotations

from typing import Any

from data_io.files.names import shown
from delf_ext.app.searching import search
from delf_ext.config import UsageError
from delf_ext.verbs.data import load_gallery
from delf_ext.verbs.models import batch_size_of, open_with
from delf_ext.verbs.printing import show_mostly_skipped
from delf_ext.verbs.requests import named_copies_of


def run(flags: Any) -> None:
    """Print the most similar images of --data for each image of --image.

    Raises:
        UsageError: if --data, --image or the model is missing.
    """
    if not flags.data or not flags.image:
        raise UsageError(
            "search looks for --image=PHOTO in the images of --data=FOLDER: pass both."
        )
    copies = named_copies_of(flags)
    gallery, model = open_with(load_gallery, flags)
    hits = search(
        model,
        flags.image,
        gallery,
        top_k=flags.top_k,
        batch_size=batch_size_of(flags),
        test_time=copies,
    )
    for query_path, results in hits:
        print(f"{shown(query_path)}:")
        for rank, hit in enumerate(results, start=1):
            print(f"  {rank:>3}. {hit.score:.4f}  {shown(hit.path)}")
    for line in hits.retrieval.failed_notes():
        print(line)
    for path, reason in hits.retrieval.skipped:
        print(f"skipped {shown(path)}: {shown(reason)}")
    if hits.retrieval.warning:
        print(hits.retrieval.warning)
    show_mostly_skipped(hits.retrieval)
