"""Export local features in the h5 layout of hloc (cvg/Hierarchical-Localization)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_io.files.artifacts import atomic_path
from data_io.files.marks import KEY, MARK
from data_io.files.names import escaped
from data_io.images import PROGRESS_FROM
from data_io.records import LocalFeatures


def export_hloc(features: LocalFeatures, path: str | Path, names: Mapping[str, str]) -> None:
    """Write one group per image, atomically; only one image is in memory at a time.

    Each group has keypoints [M, 2] float32 (x, y) (0 is the centre of the first pixel, as in our
    records), descriptors [d, M] float16 (the default of hloc), scores [M] float32 (our attention)
    and image_size [2] int64 (width, height).

    Source: hloc/extract_features.py and hloc/match_features.py.

    Args:
        features: of all images.
        path: the h5 file to write.
        names: id -> the image's name in hloc, which is its path below the folder of images.

    Raises:
        ValueError: an image has no name, two have the same one, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise ValueError("exporting to hloc needs h5py: run `pip install h5py`.") from None
    id_of_name = _unique_names(features, names)
    # None hides the bar if stderr is not a terminal.
    hidden = True if len(features) < PROGRESS_FROM else None
    with atomic_path(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        file.attrs[KEY] = MARK
        for name, image_id in tqdm(
            id_of_name.items(), desc="exporting", unit="image", disable=hidden
        ):
            image = features.of(image_id)
            group = file.create_group(escaped(name))
            group["keypoints"] = image.keypoints_px
            group["descriptors"] = image.descriptors.T.astype(np.float16)
            group["scores"] = image.attention
            group["image_size"] = np.array(image.size_px, np.int64)


def _unique_names(features: LocalFeatures, names: Mapping[str, str]) -> dict[str, str]:
    """Return name -> id, in the order of the ids."""
    id_of_name: dict[str, str] = {}
    for image_id in map(str, features.ids):
        name = names.get(image_id, "").strip("/")
        if not name:
            raise ValueError(
                f"{image_id}: cannot be exported: it has no name, "
                "and hloc identifies images by name."
            )
        other_id = id_of_name.setdefault(name, image_id)
        if other_id != image_id:
            raise ValueError(
                f"{image_id}: cannot be exported: {other_id} already has the name {name!r}."
            )
    return id_of_name
