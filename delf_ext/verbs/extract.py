"""extract: embeddings of every list of a data set, or of a plain folder of photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import save_record
from data_io.datasets import list_images
from data_io.records import ImageList
from delf_ext.config import UsageError
from delf_ext.verbs.systems import one_system


def run(flags: Any) -> None:
    if not flags.data or not flags.out:
        raise UsageError("extract reads --data=FOLDER and writes into --out=FOLDER: pass both.")
    model, _ = one_system(flags)
    save_features(model, list_images(flags.data), Path(flags.out), flags.batch_size)


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
