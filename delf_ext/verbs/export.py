"""export: results in the layouts of other tools. So far: local features for hloc."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.hloc import export_hloc
from data_io.local_store import load_local, paths_of
from delf_ext.config import UsageError


def run(flags: Any) -> None:
    if not flags.local_store or not flags.out:
        raise UsageError("export turns the local features of --local_store=FOLDER into hloc's --out=FILE.h5: pass both.")
    features = load_local(flags.local_store)
    export_hloc(features, Path(flags.out), paths_of(flags.local_store))
    print(f"{flags.out}: local features of {len(features)} images, as hloc reads them")
