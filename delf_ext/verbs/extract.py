"""extract: embeddings, or with --local_features local features, of a plain folder of photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import save_record
from data_io.datasets import list_images
from data_io.local_store import skipped_of
from data_io.records import ImageList
from delf_ext.config import UsageError
from delf_ext.verbs.local import extractors_of
from delf_ext.verbs.systems import one_system


def run(flags: Any) -> None:
    if not flags.data or not flags.out:
        raise UsageError("extract reads --data=FOLDER and writes into --out=FOLDER: pass both.")
    images, out = list_images(flags.data), Path(flags.out)
    if flags["local_features"].present:
        save_local(flags, images, out)
    else:
        save_features(one_system(flags)[0], images, out, flags.batch_size)


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


def save_features(model: Any, images: ImageList, out: Path, batch_size: int) -> None:
    """Writes out/features.npz (GlobalFeatures) and out/images.npz (ImageList, with what was skipped and why)."""
    from delf_ext.features.extraction import extract_global

    features, kept = extract_global(model, images, batch_size)
    save_record(out / "images.npz", kept)
    save_record(out / "features.npz", features)
    count, size = features.embeddings.shape
    print(f"{out / 'features.npz'}: {count} embeddings of {size} numbers; {len(kept.skipped)} skipped")
    for path, reason in kept.skipped[:5]:
        print(f"skipped {path}: {reason}")
