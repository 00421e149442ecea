"""Local features in the h5 layout of hloc (cvg/Hierarchical-Localization), so that its users' matchers run on them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_io.artifacts import atomic_path
from data_io.records import LocalFeatures

PROGRESS_FROM = 200


def export_hloc(features: LocalFeatures, path: str | Path, names: Mapping[str, str]) -> None:
    """Writes one group per image, atomically and one image at a time, whatever the store's size.

    names: id -> the image's name in hloc, its path below the folder of images. Datasets of a group: keypoints [M, 2] float32
    (x, y), 0 is the centre of the first pixel, as here; descriptors [d, M] float16, as hloc has them by default; scores [M]
    float32, our attention; image_size [2] int64 (width, height).
    Raises: ValueError when an image has no name, or two have one, or h5py (it comes with TensorFlow) is missing.
    Source: hloc/extract_features.py and hloc/match_features.py.
    """
    h5py = _h5py()
    ids = [str(image_id) for image_id in features.ids]
    taken: dict[str, str] = {}
    for image_id in ids:
        name = names.get(image_id, "").strip("/")
        if not name or taken.setdefault(name, image_id) != image_id:
            why = f"{taken[name]} has the name {name!r} already" if name else "no name"
            raise ValueError(
                f"{image_id}: cannot be exported, {why}; hloc knows an image by its name."
            )
    quiet = len(ids) < PROGRESS_FROM or not sys.stderr.isatty()
    with atomic_path(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        for image_id, name in tqdm(
            list(zip(ids, taken, strict=True)), desc="exporting", unit="image", disable=quiet
        ):
            image = features.of(image_id)
            group = file.create_group(name)
            group["keypoints"] = image.keypoints_px
            group["descriptors"] = image.descriptors.T.astype(np.float16)
            group["scores"] = image.attention
            group["image_size"] = np.array(image.size_px, np.int64)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise ValueError("exporting to hloc needs h5py: pip install h5py") from None
    return h5py
