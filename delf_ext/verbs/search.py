"""search: the photographs of a folder that show the same product as yours."""

from __future__ import annotations

from typing import Any

from delf_ext.app.searching import search
from delf_ext.config import UsageError
from delf_ext.verbs.models import batch_size_of, open_one, require_one


def run(flags: Any) -> None:
    if not flags.data or not flags.image:
        raise UsageError(
            "search looks for --image=PHOTO in the photographs of --data=FOLDER: pass both."
        )
    require_one(flags)
    hits = search(
        open_one(flags).model,
        flags.image,
        flags.data,
        top_k=flags.top_k,
        batch_size=batch_size_of(flags),
    )
    for query, found in hits:
        print(f"{query}:")
        for place, hit in enumerate(found, start=1):
            print(f"  {place:>3}. {hit.score:.4f}  {hit.path}")
    for path, reason in hits.retrieval.skipped:
        print(f"skipped {path}: {reason}")
