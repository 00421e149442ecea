"""Find, load or learn the whitening of DELF's descriptors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_io.artifacts import StaleArtifact
from data_io.messages import shown_path
from data_io.progress import Log, quiet
from data_io.records import ImageList
from delf_ext.app.local_settings import USUAL_DIMS, LocalSettings
from delf_ext.config import UsageError

WHITENING = "whitening.npz"


SAMPLED_IMAGES, SAMPLED_PER_IMAGE = 200, 300  # what a whitening is learned on


def whitening_of(
    settings: LocalSettings,
    raw: Any,
    images: ImageList,
    folder: Path | None,
    fits: Callable[[], bool] = lambda: True,
    log: Log = quiet,
) -> Any:
    """Return the whitening named in the settings; else the one beside the model, where it fits; else the one in `folder`.

    There it is learned first where there is none.
    Raises: StaleArtifact where the one in `folder` does not fit, unless `overwrite` is set.
    """
    from delf_ext.features.local.whitening import load_whitening

    if settings.whitening:
        found = load_whitening(settings.whitening)
        if settings.descriptor_dim and found.dimension != settings.descriptor_dim:
            raise UsageError(
                f"--whitening={settings.whitening} keeps {found.dimension} dimensions, "
                f"not --descriptor_dim={settings.descriptor_dim}."
            )
        return found
    dims = settings.descriptor_dim or USUAL_DIMS
    beside = Path(settings.model) / WHITENING
    for path in [beside, *([folder / WHITENING] if folder else [])]:
        if path.exists():
            found = load_whitening(path)
            if found.made_for == raw.model_digest and found.dimension == dims:
                log(f"whitening: {shown_path(path)}")
                return found
            if path != beside and not settings.overwrite:  # the features in the folder need it
                raise StaleArtifact(
                    f"{path} was learned for another model, layer or --descriptor_dim. Pass --overwrite."
                )
    if folder is None:
        raise UsageError(
            "DELF needs a --whitening=FILE; `whiten` learns one on any photographs. --local_features=sift needs none."
        )
    return learn_whitening(settings, raw, images, folder / WHITENING, fits, log)


def learn_whitening(
    settings: LocalSettings,
    raw: Any,
    images: ImageList,
    path: Path,
    fits: Callable[[], bool] = lambda: True,
    log: Log = quiet,
) -> Any:
    """Learn a whitening on random ones of the images, and keep it in `path`."""
    from delf_ext.features.local import whitening
    from delf_ext.features.local.extraction import sample_descriptors

    sample = sample_descriptors(raw, images, SAMPLED_IMAGES, SAMPLED_PER_IMAGE, settings.seed, fits)
    learned = whitening.learn_whitening(
        sample, settings.descriptor_dim or USUAL_DIMS, raw.model_digest
    )
    whitening.save_whitening(path, learned)
    log(
        f"whitening: {shown_path(path)}, learned on {len(sample)} descriptors of {min(len(images), SAMPLED_IMAGES)} photographs"
    )
    return learned
