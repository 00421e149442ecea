"""whiten: learns the PCA and whitening of DELF's descriptors on any photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.datasets import list_images
from data_io.progress import say
from delf_ext.app.local_features import raw_delf
from delf_ext.app.whitening import WHITENING, learn_whitening
from delf_ext.config import UsageError
from delf_ext.verbs.requests import local_settings


def run(flags: Any) -> None:
    run_dir = flags.local_model or flags.run_dir
    out = flags.out or (
        str(Path(run_dir) / WHITENING) if run_dir and Path(run_dir).is_dir() else None
    )
    if not flags.data or not out:
        raise UsageError(
            "whiten learns on the photographs of --data=FOLDER and writes --out=FILE, or into --run_dir: pass both."
        )
    settings = local_settings(flags)
    learn_whitening(settings, raw_delf(settings, say), list_images(flags.data), Path(out), log=say)
