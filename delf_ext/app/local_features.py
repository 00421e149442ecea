"""Make the extractors of local features, and fill their stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_io.checkpoint_paths import has_state_file
from data_io.progress import Log, quiet
from data_io.records import ImageList, LocalFeatures
from data_io.stores.local_features import is_store, load_local
from delf_ext.app.local_settings import LocalSettings
from delf_ext.app.whitening import whitening_of
from delf_ext.config import UsageError
from delf_ext.reranking.deadline import Deadline
from delf_ext.runs.adapted_run import ADAPTED, adapted_recipe_of, base_source
from delf_ext.runs.recipe_run import load_model
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import read_run
from delf_ext.runs.sources import CheckpointSource, RunSource
from delf_ext.runs.weights import find_weights

if TYPE_CHECKING:
    from delf_ext.features.local.delf import DelfExtractor
    from delf_ext.features.local.extraction import LocalExtractor

FIRST_BATCH_S = 20.0
"""Assumed seconds of the first batch, which also builds the graph of the network."""


@dataclass(frozen=True)
class Extractor:
    """Extractors of one kind of local features.

    Attributes:
        name: "delf" or "sift".
        gallery: for gallery images.
        query: for queries; it also looks at turned images.
    """

    name: str
    gallery: LocalExtractor
    query: LocalExtractor


def extractors_of(
    settings: LocalSettings,
    images: ImageList,
    folder: Path | None,
    has_time: Callable[[], bool] = lambda: True,
    log: Log = quiet,
) -> list[Extractor]:
    """Make the extractors that the settings name.

    Args:
        settings: which local features.
        images: images to learn DELF's whitening on, if there is none.
        folder: folder where a learned whitening is stored; None = do not learn one.
        has_time: called before each batch of the learning; False stops it.
        log: called with each log line.

    Returns:
        One for each kind, in the order of `settings.kinds`.

    Raises:
        UsageError: a model or a setting is missing or does not fit.
        ValueError: a model cannot be read, or OpenCV is not installed.
        TimeoutError: `has_time` returned False.
    """
    extractors = {}
    # SIFT comes first: a missing OpenCV is reported before DELF learns a whitening.
    if "sift" in settings.kinds:
        extractors["sift"] = _sift(settings)
        log("local features: SIFT")
    if "delf" in settings.kinds:
        extractors["delf"] = _delf(settings, images, folder, has_time, log)
    return [extractors[kind] for kind in settings.kinds]


@dataclass
class LocalStores:
    """Stores of local features below a folder. Missing features are extracted when asked for.

    Attributes:
        settings: which local features.
        gallery: images to learn DELF's whitening on, if there is none.
        folder: holds one store per extractor and side, and a learned whitening.
        log: called with each log line.
    """

    settings: LocalSettings
    gallery: ImageList
    folder: Path
    log: Log
    _extractors: list[Extractor] = field(default_factory=list, init=False)
    # With `overwrite`, a store is emptied at its first use only.
    _opened: set[Path] = field(default_factory=set, init=False)

    def open(self, has_time: Callable[[], bool] = lambda: True) -> list[Extractor]:
        """Return the extractors. The first call makes them and raises like `extractors_of`."""
        if not self._extractors:
            self._extractors = extractors_of(
                self.settings, self.gallery, self.folder, has_time, self.log
            )
        return self._extractors

    def __call__(
        self, query: ImageList, gallery: ImageList, deadline: Deadline
    ) -> list[tuple[LocalFeatures, LocalFeatures]]:
        """Return the local features of some queries and gallery images.

        Args:
            query: the queries.
            gallery: the gallery images.
            deadline: deadline of the extraction.

        Returns:
            (of the queries, of the gallery images) for each extractor.

        Raises:
            TimeoutError: if they cannot be extracted in time; what is extracted is stored.
        """
        has_time = deadline.time_check(FIRST_BATCH_S)
        if not has_time():
            raise TimeoutError("no time left to extract local features.")
        return [
            (
                self._complete(extractor.query, query, extractor.name, "query", has_time),
                self._complete(extractor.gallery, gallery, extractor.name, "gallery", has_time),
            )
            for extractor in self.open(has_time)
        ]

    def _complete(
        self,
        extractor: LocalExtractor,
        images: ImageList,
        name: str,
        side: str,
        has_time: Callable[[], bool],
    ) -> LocalFeatures:
        """Extract what a store does not hold yet, and return its features."""
        from delf_ext.features.local.extraction import extract_local

        folder = self.folder / name / side
        overwrite = self.settings.overwrite and folder not in self._opened
        self._opened.add(folder)
        descriptor_type = self.settings.descriptor_type
        return extract_local(
            extractor, images, folder, descriptor_type, overwrite, f"{name} {side}", has_time
        )

    def stored(self) -> list[tuple[LocalFeatures, LocalFeatures]]:
        """Return (of queries, of gallery) for each extractor that has stored both."""
        folders = [self.folder / kind for kind in self.settings.kinds]
        return [
            (load_local(folder / "query"), load_local(folder / "gallery"))
            for folder in folders
            if is_store(folder / "query") and is_store(folder / "gallery")
        ]


def raw_delf(settings: LocalSettings, log: Log) -> DelfExtractor:
    """Make DELF without whitening.

    Args:
        settings: model, trunk and layer.
        log: called with each log line.

    Returns:
        The extractor, for upright images.

    Raises:
        UsageError: no model is named.
        ValueError: the model cannot be read, or has no such layer.
    """
    from delf_ext.features.local.delf import DelfExtractor, pretrained_delf, trained_delf
    from delf_ext.models.precision import set_mixed_precision

    set_mixed_precision(settings.mixed_precision)
    path = settings.model
    layer = settings.delf.layer
    if not path:
        raise UsageError(
            "DELF needs a trunk: pass --local_model, --run_dir or --pretrained_model. "
            "--local_features=sift needs none."
        )
    if Path(path).is_dir() and not has_state_file(Path(path)):
        run = read_run(path)
        if run.kind == ADAPTED:
            return raw_delf(_of_base(settings, run), log)
        model, _ = load_model(run)
        network = trained_delf(model, layer, path)
    else:
        trunk, path = find_weights(settings.trunk, path, log)
        network, report = pretrained_delf(path, trunk, layer)
        log(str(report))
    attention = "length of the feature vectors" if network.attention is None else "trained"
    log(f"DELF: {path}, {network.endpoint}; attention: {attention}")
    return DelfExtractor(network, replace(settings.delf, rotations_deg=(0.0,)))


def _of_base(settings: LocalSettings, run: Run) -> LocalSettings:
    """Return the settings with the base model of a head in place of the head's run."""
    source = base_source(adapted_recipe_of(run).base, run.path)
    if isinstance(source, CheckpointSource):
        return replace(settings, model=source.path, trunk=source.trunk)
    if isinstance(source, RunSource):
        return replace(settings, model=source.path)
    raise UsageError(
        f"DELF needs one trunk, and {run.path} has another kind of base model: "
        "pass --local_model, or --local_features=sift."
    )


def _delf(
    settings: LocalSettings,
    images: ImageList,
    folder: Path | None,
    has_time: Callable[[], bool],
    log: Log,
) -> Extractor:
    from delf_ext.features.local.delf import DelfExtractor

    raw = raw_delf(settings, log)
    rotations_deg = settings.delf.rotations_deg
    # Refuses bad rotations before a whitening is learned.
    raw.turned(rotations_deg)
    dim = settings.dim_of(raw.dimension)
    if not 1 <= dim <= raw.dimension:
        raise UsageError(
            f"--descriptor_dim must be in 1..{raw.dimension}, the width of the layer. "
            f"Received {dim}."
        )
    whitening = whitening_of(settings, raw, images, folder, has_time, log)
    whitened = DelfExtractor(raw.network, raw.config, whitening)
    return Extractor("delf", whitened, whitened.turned(rotations_deg))


def _sift(settings: LocalSettings) -> Extractor:
    from delf_ext.features.local.sift import SiftConfig, SiftExtractor

    sift = SiftExtractor(SiftConfig(max_features=settings.delf.max_features))
    return Extractor("sift", sift, sift)
