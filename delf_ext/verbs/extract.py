"""extract: embeddings, or with --local_features local features, of a plain folder of photographs."""

from __future__ import annotations

import csv
import re
from io import StringIO
from pathlib import Path
from typing import Any

from data_io.artifacts import save_record, write_text
from data_io.datasets import list_images
from data_io.local_store import skipped_of
from data_io.records import ImageList
from delf_ext.config import UsageError
from delf_ext.verbs.local import extractors_of
from delf_ext.verbs.systems import one_system


def run(flags: Any) -> None:
    if not flags.data or not flags.out:
        raise UsageError("extract reads --data=FOLDER and writes into --out=FOLDER: pass both.")
    shard = shard_of(flags.shard)
    images, out = list_images(flags.data), Path(flags.out)
    if not flags["local_features"].present:
        save_features(one_system(flags)[0], images, out, flags.batch_size, shard, flags.overwrite)
    elif shard != (1, 1):
        raise UsageError("--shard is for embeddings; local features are stored by one process.")
    else:
        save_local(flags, images, out)


def shard_of(text: str) -> tuple[int, int]:
    """(i, n) of "i/n"."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(f"--shard takes i/n, the i-th of n shares, such as 1/2 and 2/2. Received {text!r}.")
    return index, count


def save_local(flags: Any, images: ImageList, out: Path) -> None:
    """Completes the stores out/delf and out/sift; what they hold already is not extracted again."""
    from delf_ext.features.local_extraction import extract_local

    for extractor in extractors_of(flags, images, out):
        folder = out / extractor.name
        features = extract_local(extractor.gallery, images, folder, flags.descriptor_type, flags.overwrite, extractor.name)
        skipped = (*images.skipped, *skipped_of(folder))
        print(f"{folder}: {features.offsets[-1]} local features of {len(features)} images; {len(skipped)} skipped")
        for path, reason in skipped[:5]:
            print(f"skipped {path}: {reason}")


def save_features(model: Any, images: ImageList, out: Path, batch_size: int, shard: tuple[int, int], overwrite: bool) -> None:
    """Completes the parts in out/features.parts. Once all are there it writes out/features.npz (GlobalFeatures), out/images.npz
    (ImageList) and out/skipped.csv (path, reason)."""
    from delf_ext.features.extraction_job import extract_in_parts

    result = extract_in_parts(model, images, out / "features.parts", batch_size, shard, overwrite)
    if result is None:
        return
    features, kept = result
    save_record(out / "images.npz", kept)
    save_record(out / "features.npz", features)
    write_skipped(out / "skipped.csv", kept.skipped)
    count, size = features.embeddings.shape
    print(f"{out / 'features.npz'}: {count} embeddings of {size} numbers; {len(kept.skipped)} skipped")
    for path, reason in kept.skipped[:5]:
        print(f"skipped {path}: {reason}")
    if len(kept.skipped) > 5:
        print(f"all of them: {out / 'skipped.csv'}")


def write_skipped(path: Path, skipped: tuple[tuple[str, str], ...]) -> None:
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("path", "reason"), *skipped])
    write_text(path, text.getvalue().encode(errors="backslashreplace").decode())  # names need not be UTF-8
