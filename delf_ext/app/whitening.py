"""Find, load or learn the whitening of DELF's descriptors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from data_io.files.artifacts import StaleArtifact
from data_io.messages import shown_path, skipped_lines
from data_io.progress import Log, quiet
from data_io.records import ImageList
from delf_ext.app.local_settings import LocalSettings
from delf_ext.config import UsageError

if TYPE_CHECKING:
    from delf_ext.features.local.delf import DelfExtractor
    from delf_ext.features.local.whitening import Whitening

WHITENING = "whitening.npz"
"""File name of a whitening in a run directory or a folder of local features."""
NUM_IMAGES = 200
"""Number of images that a whitening is learned on."""
NUM_PER_IMAGE = 300
"""Number of descriptors per image that a whitening is learned on."""


def whitening_of(
    settings: LocalSettings,
    raw: DelfExtractor,
    images: ImageList,
    folder: Path | None,
    has_time: Callable[[], bool],
    log: Log,
) -> Whitening:
    """Return the whitening to use; learn one if there is none.

    The first of these that fits is used: the file in the settings, the one beside the model, the
    one in `folder`.

    Args:
        settings: model, dimensions and file.
        raw: DELF without whitening.
        images: images to learn a whitening on.
        folder: folder where a learned whitening is stored.
        has_time: called before each batch of the learning; False stops it.
        log: called with each log line.

    Returns:
        The whitening.

    Raises:
        UsageError: the file in the settings has another dimension, or there is no whitening
            and no folder.
        StaleArtifact: the one in `folder` does not fit, unless `overwrite` is set.
        TimeoutError: `has_time` returned False.
    """
    from delf_ext.features.local.whitening import load_whitening

    if settings.whitening:
        named = load_whitening(settings.whitening)
        if settings.descriptor_dim and named.dimension != settings.descriptor_dim:
            raise UsageError(
                f"--whitening={settings.whitening} keeps {named.dimension} dimensions, "
                f"not --descriptor_dim={settings.descriptor_dim}."
            )
        return named
    folders = [Path(settings.model)] if folder is None else [Path(settings.model), folder]
    for path in [parent / WHITENING for parent in folders]:
        whitening = load_whitening(path) if path.exists() else None
        if (
            whitening is not None
            and whitening.made_for == raw.model_digest
            and whitening.dimension == settings.dim_of(raw.dimension)
        ):
            log(f"whitening: {shown_path(path)}")
            return whitening
    if folder is None:
        raise UsageError(
            "DELF needs a whitening: pass --whitening=FILE. `whiten` learns one on any "
            "images. --local_features=sift (extra `geometry`) needs none."
        )
    # The features in the folder were computed with the whitening that is there.
    if path.exists() and folder != Path(settings.model) and not settings.overwrite:
        raise StaleArtifact(
            f"{path} was learned for another model, layer or --descriptor_dim. Pass --overwrite."
        )
    return learn_whitening(settings, raw, images, path, has_time, log)


def learn_whitening(
    settings: LocalSettings,
    raw: DelfExtractor,
    images: ImageList,
    path: Path,
    has_time: Callable[[], bool] = lambda: True,
    log: Log = quiet,
) -> Whitening:
    """Learn a whitening on a random sample of the images, and write it to a file.

    Args:
        settings: dimensions and seed.
        raw: DELF without whitening.
        images: images to learn on.
        path: file to write.
        has_time: called before each batch; False stops the learning.
        log: called with each log line.

    Returns:
        The whitening.

    Raises:
        TimeoutError: `has_time` returned False.
        ValueError: there are fewer descriptors than dimensions.
    """
    from delf_ext.features.local import whitening
    from delf_ext.features.local.extraction import sample_descriptors

    bad: list[tuple[str, str]] = []
    sample = sample_descriptors(
        raw, images, NUM_IMAGES, NUM_PER_IMAGE, settings.seed, has_time, bad
    )
    for line in skipped_lines(bad):
        log(line)
    learned = whitening.learn_whitening(sample, settings.dim_of(raw.dimension), raw.model_digest)
    whitening.save_whitening(path, learned)
    num_images = min(len(images), NUM_IMAGES) - len(bad)
    log(
        f"whitening: {shown_path(path)}, learned on {len(sample)} descriptors "
        f"of {num_images} images"
    )
    return learned
