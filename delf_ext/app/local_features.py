"""Local features: the extractors that were asked for, and the stores they fill."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_io.progress import Log, quiet
from data_io.records import ImageList, LocalFeatures
from data_io.stores.local_features import is_store, load_local
from delf_ext.app.local_settings import USUAL_DIMS, LocalSettings
from delf_ext.app.whitening import whitening_of
from delf_ext.config import UsageError
from delf_ext.reranking.deadline import Deadline
from delf_ext.runs.layouts import with_layout
from delf_ext.runs.recipe_run import load_model
from delf_ext.runs.run_directory import read_run

FIRST_BATCH_S = 20.0  # an extractor's first batch also traces its graph


@dataclass(frozen=True)
class Extractor:
    """One kind of local features: of gallery images, and of queries, which are looked at in more turns."""

    name: str
    gallery: Any
    query: Any


def extractors_of(
    settings: LocalSettings,
    images: ImageList,
    folder: Path | None,
    fits: Callable[[], bool] = lambda: True,
    log: Log = quiet,
) -> list[Extractor]:
    """Make the extractors.

    Args:
        settings: which ones.
        images: what DELF's whitening is learned on where there is none.
        folder: where a learned whitening is kept; needed to learn one.
        fits: asked before each part of that learning.
        log: called with each line worth reading.

    Raises:
        ValueError: or UsageError when a model is missing, or OpenCV is.
        TimeoutError: after the first False of `fits`.
    """
    makers = {  # a missing OpenCV shows at once
        "sift": lambda: _sift(settings),
        "delf": lambda: _delf(settings, images, folder, fits, log),
    }
    made = {kind: make() for kind, make in makers.items() if kind in settings.kinds}
    return [made[kind] for kind in settings.kinds]


class LocalStores:
    """The stores of some extractors below a folder, completed by what is asked for: the `LocalOf` of a Verifier."""

    def __init__(
        self, settings: LocalSettings, gallery: ImageList, folder: Path, log: Log = quiet
    ) -> None:
        self._settings, self._gallery, self._folder, self._log = settings, gallery, folder, log
        self._extractors: list[Extractor] = []
        self._begun: set[tuple[str, str]] = set()  # with `overwrite` a store is emptied once

    def open(self, fits: Callable[[], bool] = lambda: True) -> list[Extractor]:
        """Return the extractors; they are made at the first call. Raises: as `extractors_of`."""
        if not self._extractors:
            self._extractors = extractors_of(
                self._settings, self._gallery, self._folder, fits, self._log
            )
        return self._extractors

    def __call__(
        self, query: ImageList, gallery: ImageList, deadline: Deadline
    ) -> list[tuple[LocalFeatures, LocalFeatures]]:
        from delf_ext.features.local.extraction import extract_local

        fits, settings = deadline.part_fits(FIRST_BATCH_S), self._settings
        if not fits():
            raise TimeoutError("no time left to extract local features.")

        def completed(side: Any, images: ImageList, name: str, part: str) -> LocalFeatures:
            store, overwrite = (
                self._folder / name / part,
                settings.overwrite and (name, part) not in self._begun,
            )
            self._begun.add((name, part))
            return extract_local(
                side, images, store, settings.descriptor_type, overwrite, f"{name} {part}", fits
            )

        return [
            (
                completed(kind.query, query, kind.name, "query"),
                completed(kind.gallery, gallery, kind.name, "gallery"),
            )
            for kind in self.open(fits)
        ]

    def kept(self) -> list[tuple[LocalFeatures, LocalFeatures]]:
        """Return what the stores hold, per extractor that has both; nothing is extracted."""
        folders = [
            (self._folder / kind / "query", self._folder / kind / "gallery")
            for kind in self._settings.kinds
        ]
        return [
            (load_local(query), load_local(gallery))
            for query, gallery in folders
            if is_store(query) and is_store(gallery)
        ]


def raw_delf(settings: LocalSettings, log: Log = quiet) -> Any:
    """Return DELF without whitening on `settings.model`.

    Raises: UsageError without a model, ValueError when it cannot be used.
    """
    from delf_ext.features.local.delf import DelfExtractor, checkpoint_delf, trained_delf
    from delf_ext.models.precision import set_mixed_precision

    set_mixed_precision(settings.mixed_precision)
    model, layer = settings.model, settings.delf.layer
    if not model:
        raise UsageError(
            "DELF needs a trunk: pass --local_model, --run_dir or --pretrained_model; --local_features=sift needs none."
        )
    if Path(model).is_dir():
        network = trained_delf(load_model(read_run(model))[0], layer, model)
    else:
        trunk = with_layout(settings.trunk, model, log)
        network, report = checkpoint_delf(model, f"{trunk.name}/{layer}", trunk.layout)
        log(str(report))
    attention = "length of the feature vectors" if network.attention is None else "trained"
    log(f"DELF: {model}, {network.endpoint}; attention: {attention}")
    return DelfExtractor(network, dataclasses.replace(settings.delf, rotations_deg=(0.0,)))


def _delf(
    settings: LocalSettings,
    images: ImageList,
    folder: Path | None,
    fits: Callable[[], bool],
    log: Log,
) -> Extractor:
    from delf_ext.features.local.delf import DelfExtractor

    raw = raw_delf(settings, log)
    turns = settings.delf.rotations_deg
    raw.turned(turns)  # refuses what it cannot do before a whitening is learned
    dims = settings.descriptor_dim or USUAL_DIMS
    if not 1 <= dims <= raw.dimension:
        raise UsageError(
            f"--descriptor_dim must lie in 1..{raw.dimension}, the layer's width. Received {dims}."
        )
    whitened = DelfExtractor(
        raw.network, raw.config, whitening_of(settings, raw, images, folder, fits, log)
    )
    return Extractor("delf", whitened, whitened.turned(turns))


def _sift(settings: LocalSettings) -> Extractor:
    from delf_ext.features.local.sift import SiftConfig, SiftExtractor

    sift = SiftExtractor(SiftConfig(max_features=settings.delf.max_features))
    return Extractor("sift", sift, sift)
