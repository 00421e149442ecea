"""export: results in the layouts of other tools. So far: local features for hloc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from data_io.hloc import export_hloc
from data_io.stores.local_features import load_local, paths_of
from delf_ext.config import UsageError


def run(flags: Any) -> None:
    if not flags.local_store or not flags.out:
        raise UsageError(
            "export turns the local features of --local_store=FOLDER into hloc's --out=FILE.h5: pass both."
        )
    features = load_local(flags.local_store)
    # An id is the path below the folder of images without its suffix: hloc's name is that path, wherever the folder lies.
    names = {
        image_id: image_id + os.path.splitext(path)[1]
        for image_id, path in paths_of(flags.local_store).items()
    }
    export_hloc(features, Path(flags.out), names)
    print(f"{flags.out}: local features of {len(features)} images, as hloc reads them")
