"""Export local features in the layout of hloc."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.datasets.data_set import with_suffix
from data_io.hloc import export_hloc
from data_io.messages import shown_path
from data_io.stores.local_features import load_local, paths_of
from delf_ext.config import UsageError


def run(flags: Any) -> None:
    """Write the local features of --local_store to the HDF5 file --out.

    Raises:
        UsageError: if one of the two flags is missing.
    """
    if not flags.local_store or not flags.out:
        raise UsageError(
            "export reads --local_store=FOLDER and writes hloc's --out=FILE.h5: pass both."
        )
    features = load_local(flags.local_store)
    # An id is the path relative to the image folder. hloc names an image by that path with its
    # suffix.
    paths = paths_of(flags.local_store)
    names = {image_id: with_suffix(image_id, path) for image_id, path in paths.items()}
    export_hloc(features, Path(flags.out), names)
    print(
        f"{shown_path(flags.out)}: local features of {len(features)} images, in the layout of hloc"
    )
