"""extract: embeddings, or with --local_features local features, of a plain folder of photographs."""

from __future__ import annotations

import csv
import re
from io import StringIO
from pathlib import Path
from typing import Any

from data_io.artifacts import save_record, write_text
from data_io.datasets import list_images
from data_io.progress import say
from data_io.records import ImageList
from data_io.stores.embeddings import PARTS
from data_io.stores.local_features import skipped_of
from delf_ext.app.local_features import extractors_of
from delf_ext.app.searching import extract
from delf_ext.config import UsageError
from delf_ext.features.embedder import AnyEmbedder, Ensemble
from delf_ext.verbs.models import batch_size_of, open_one, require_one
from delf_ext.verbs.requests import local_settings

SHOWN = 5


def run(flags: Any) -> None:
    if not flags.data or not flags.out:
        raise UsageError("extract reads --data=FOLDER and writes into --out=FOLDER: pass both.")
    shard = shard_of(flags.shard)
    if flags["local_features"].present:
        if shard != (1, 1):
            raise UsageError("--shard is for embeddings; local features are stored by one process.")
        save_local(flags, list_images(flags.data), Path(flags.out))
    else:
        require_one(flags)
        images = list_images(flags.data)
        save_features(
            open_one(flags).model,
            images,
            Path(flags.out),
            batch_size_of(flags),
            shard,
            flags.overwrite,
        )


def shard_of(text: str) -> tuple[int, int]:
    """Return (i, n) of "i/n"."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(
            f"--shard takes i/n, the i-th of n shares, such as 1/2 and 2/2. Received {text!r}."
        )
    return index, count


def save_local(flags: Any, images: ImageList, out: Path) -> None:
    """Complete the stores out/delf and out/sift; what they hold already is not extracted again."""
    from delf_ext.features.local.extraction import extract_local

    for extractor in extractors_of(local_settings(flags), images, out, log=say):
        folder = out / extractor.name
        features = extract_local(
            extractor.gallery,
            images,
            folder,
            flags.descriptor_type,
            flags.overwrite,
            extractor.name,
        )
        skipped = (*images.skipped, *skipped_of(folder))
        say(
            f"{folder}: {features.offsets[-1]} local features of {len(features)} images; {len(skipped)} skipped"
        )
        for path, reason in skipped[:SHOWN]:
            say(f"skipped {path}: {reason}")


def save_features(
    model: AnyEmbedder,
    images: ImageList,
    out: Path,
    batch_size: int,
    shard: tuple[int, int],
    overwrite: bool,
) -> None:
    """Complete the parts in out/features.parts.

    Once all are there, write out/features.npz (GlobalFeatures), out/images.npz (ImageList) and out/skipped.csv.
    """
    from delf_ext.features.extraction_job import extract_in_parts

    if isinstance(model, Ensemble):
        if shard != (1, 1):
            raise UsageError(
                "--shard is for one model; extract each member of the ensemble by itself."
            )
        result = extract(model, images, batch_size=batch_size)
    else:
        joined = extract_in_parts(model, images, out / PARTS, batch_size, shard, overwrite)
        if joined is None:
            return
        result = joined
    features, kept = result
    save_record(out / "images.npz", kept)
    save_record(out / "features.npz", features)
    write_skipped(out / "skipped.csv", kept.skipped)
    count, size = features.embeddings.shape
    say(
        f"{out / 'features.npz'}: {count} embeddings of {size} numbers; {len(kept.skipped)} skipped"
    )
    for path, reason in kept.skipped[:SHOWN]:
        say(f"skipped {path}: {reason}")
    if len(kept.skipped) > SHOWN:
        say(f"all of them: {out / 'skipped.csv'}")


def write_skipped(path: Path, skipped: tuple[tuple[str, str], ...]) -> None:
    """Write a CSV with the columns path and reason."""
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("path", "reason"), *skipped])
    write_text(
        path, text.getvalue().encode(errors="backslashreplace").decode()
    )  # names need not be UTF-8
