"""Learn the PCA and whitening of DELF descriptors on a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.files.skipped_files import warn_if_mostly_skipped
from data_io.progress import say
from delf_ext.app.local_features import raw_delf
from delf_ext.app.whitening import WHITENING, learn_whitening
from delf_ext.config import UsageError
from delf_ext.verbs.data import load_images
from delf_ext.verbs.requests import local_settings


def run(flags: Any) -> None:
    """Write the whitening to --out, or into the run directory.

    Raises:
        UsageError: if --data is missing, or there is neither --out nor a run directory.
    """
    run_dir = flags.local_model or flags.run_dir
    out = flags.out
    if not out and run_dir and Path(run_dir).is_dir():
        out = str(Path(run_dir) / WHITENING)
    if not flags.data or not out:
        raise UsageError(
            "whiten learns on the images of --data=FOLDER and writes --out=FILE, or into "
            "--run_dir: pass both."
        )
    settings = local_settings(flags)
    images = load_images(flags)
    learn_whitening(settings, raw_delf(settings, say), images, Path(out), log=say)
    warn_if_mostly_skipped(images.skipped, images.paths.tolist(), say)
