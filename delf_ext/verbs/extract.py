"""Write the embeddings or the local features of a folder of images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from data_io.progress import say
from delf_ext.app.extraction import save_embeddings, save_local_features
from delf_ext.config import UsageError
from delf_ext.verbs.data import load_images
from delf_ext.verbs.models import batch_size_of, open_with
from delf_ext.verbs.requests import local_settings, named_copies_of


def run(flags: Any) -> None:
    """Write embeddings, or with --local_features local features, of --data into --out.

    Raises:
        UsageError: naming the flag that is missing or does not fit.
    """
    if not flags.data or not flags.out:
        raise UsageError("extract reads --data=FOLDER and writes to --out=FOLDER: pass both.")
    shard = shard_of(flags.shard)
    copies = named_copies_of(flags)
    if flags["local_features"].present:
        if copies is not None:
            raise UsageError("--copies works for embeddings only: leave it out for local features.")
        if shard != (1, 1):
            raise UsageError(
                "--shard works for embeddings only: leave it out to store local features."
            )
        settings = local_settings(flags)
        save_local_features(settings, load_images(flags), Path(flags.out), say)
    else:
        images, model = open_with(load_images, flags)
        save_embeddings(
            model,
            images,
            Path(flags.out),
            batch_size_of(flags),
            shard,
            flags.overwrite,
            copies,
            say,
        )


def shard_of(text: str) -> tuple[int, int]:
    """Return (i, n) of "i/n".

    Raises:
        UsageError: if the text has another form, or i is not between 1 and n.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(
            f"--shard takes i/n, the i-th of n shares, such as 1/2 and 2/2. Received {text!r}."
        )
    return index, count
