"""Export local features in the layout of hloc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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
    # An id is the path relative to the image folder, without suffix. hloc names an image by that
    # path with its suffix.
    names = {
        image_id: image_id + os.path.splitext(path)[1]
        for image_id, path in paths_of(flags.local_store).items()
    }
    export_hloc(features, Path(flags.out), names)
    print(
        f"{shown_path(flags.out)}: local features of {len(features)} images, in the layout of hloc"
    )
