"""Extract embeddings or local features of a list of images into files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_io.files.artifacts import save_record, write_text
from data_io.files.skipped_files import count_skipped, warn_if_mostly_skipped
from data_io.messages import NUM_SHOWN, shown_path, skipped_lines
from data_io.progress import Log, quiet
from data_io.records import GlobalFeatures, ImageList
from data_io.stores.embeddings import PARTS_FOLDER, copy_digest, copy_parts
from data_io.stores.local_features import skipped_of
from data_io.tables.csv_rows import csv_text
from delf_ext.app.local_features import extractors_of
from delf_ext.app.local_settings import LocalSettings
from delf_ext.config import UsageError
from delf_ext.features.collapse import collapse_warning
from delf_ext.features.embedder import Adapted, AnyEmbedder, Ensemble
from delf_ext.features.extraction import BATCH_SIZE, extract_with_copies
from delf_ext.features.query_copies import with_copy
from delf_ext.features.test_time import copies_of, copy_names, in_gallery, join_copies
from delf_ext.index.failed import usable
from delf_ext.pipeline import failed_notes
from delf_ext.recipes.schema import TestTime

WHOLE = (1, 1)
"""The only shard of work that is not divided."""


def save_embeddings(
    model: AnyEmbedder,
    images: ImageList,
    out: Path,
    batch_size: int = BATCH_SIZE,
    shard: tuple[int, int] = WHOLE,
    overwrite: bool = False,
    test_time: TestTime | None = None,
    log: Log = quiet,
) -> None:
    """Embed images in parts that survive a kill, and join the parts when all of them exist.

    Writes out/features.npz (GlobalFeatures), out/images.npz (ImageList) and out/skipped.csv.

    Args:
        model: an embedder, an ensemble or a model with a head. An ensemble is embedded at once,
            without parts; the parts of a model with a head are those of its base model.
        images: the images to embed.
        out: folder for the results.
        batch_size: images per call of the model.
        shard: (i, n), the i-th of n equal shares, counted from 1.
        overwrite: replace parts that another model made.
        test_time: copies of the images to embed; None = as the model's recipe says.
        log: called with each line of the result.

    Raises:
        UsageError: if an ensemble is to be embedded in shards, or the model cannot embed the
            copies.
        StaleArtifact: if the parts in `out` were made by another model, unless `overwrite` is set.
        ValueError: if no image can be read, or another process works on this shard.
    """
    embedded = _embedded(model, images, out, batch_size, shard, overwrite, test_time)
    if embedded is None:
        return
    features, kept = embedded
    save_record(out / "images.npz", kept)
    save_record(out / "features.npz", features)
    paths = kept.paths.tolist()
    left_out = count_skipped(kept.skipped, paths).files
    write_skipped(out / "skipped.csv", left_out)
    num_images, size = features.embeddings.shape
    path = shown_path(out / "features.npz")
    log(f"{path}: {num_images} embeddings of {size} numbers; {len(left_out)} skipped")
    for line in failed_notes(
        kept, features, "images", "marked as `failed`, with an embedding of 0"
    ):
        log(line)
    for line in skipped_lines(kept.skipped):
        log(line)
    if len(left_out) > NUM_SHOWN:
        log(f"list of all skipped files: {shown_path(out / 'skipped.csv')}")
    warning = collapse_warning(usable(features).embeddings)
    if warning:
        log(warning)
    warn_if_mostly_skipped(kept.skipped, paths, log)


def _embedded(
    model: AnyEmbedder,
    images: ImageList,
    out: Path,
    batch_size: int,
    shard: tuple[int, int],
    overwrite: bool,
    test_time: TestTime | None,
) -> tuple[GlobalFeatures, ImageList] | None:
    """Embed in parts; None while parts of other shards are missing."""
    from delf_ext.features.extraction_job import extract_in_parts

    base = model.base if isinstance(model, Adapted) else model
    if isinstance(base, Ensemble):
        if shard != WHOLE:
            raise UsageError(
                "an ensemble cannot be extracted with --shard: extract each member on its own."
            )
        return extract_with_copies(model, images, test_time, batch_size)
    (test_time,) = map(in_gallery, copies_of(model, test_time))
    folder = out / PARTS_FOLDER
    embedded = {"": extract_in_parts(base, images, folder, batch_size, shard, overwrite)}
    for name in copy_names(test_time):
        copying = with_copy(base, name)
        copying = replace(copying, digest=copy_digest(base.digest, name))
        folder = copy_parts(out, name)
        embedded[name] = extract_in_parts(copying, images, folder, batch_size, shard, overwrite)
    complete = {name: part for name, part in embedded.items() if part is not None}
    if len(complete) < len(embedded):
        return None
    _, kept = complete[""]
    copies = {name: replace(part, digest=base.digest) for name, (part, _) in complete.items()}
    features = join_copies(copies, test_time)
    return model.projected(features) if isinstance(model, Adapted) else features, kept


def save_local_features(
    settings: LocalSettings, images: ImageList, out: Path, log: Log = quiet
) -> None:
    """Extract local features into the stores out/delf and out/sift.

    Images that a store holds already are not extracted again.

    Args:
        settings: which local features.
        images: the images to extract from.
        out: folder of the stores.
        log: called with each line of the result.

    Raises:
        UsageError: if a model or a setting does not fit.
        StaleArtifact: if a store was made with other settings, unless `settings.overwrite` is set.
    """
    from delf_ext.features.local.extraction import extract_local

    for extractor in extractors_of(settings, images, out, log=log):
        folder = out / extractor.name
        features = extract_local(
            extractor.gallery,
            images,
            folder,
            settings.descriptor_type,
            settings.overwrite,
            extractor.name,
        )
        skipped = (*images.skipped, *skipped_of(folder))
        used = images.paths[np.isin(images.ids, features.ids)].tolist()
        log(
            f"{shown_path(folder)}: {features.offsets[-1]} local features of "
            f"{len(features)} images; {len(count_skipped(skipped, used).files)} skipped"
        )
        for line in skipped_lines(skipped):
            log(line)
        warn_if_mostly_skipped(skipped, used, log)


def write_skipped(path: Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Write a CSV file with the columns "path" and "reason"."""
    write_text(path, csv_text([("path", "reason"), *skipped]))
