"""Local features: the extractors that were asked for, and the stores they fill."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_io.artifacts import StaleArtifact
from data_io.progress import Log, quiet
from data_io.records import ImageList, LocalFeatures
from data_io.stores.local_features import is_store, load_local
from delf_ext.config import DelfConfig, UsageError
from delf_ext.geometry.matching import MatchConfig
from delf_ext.geometry.ransac import RansacConfig
from delf_ext.geometry.verification import VerifyConfig
from delf_ext.recipes import schema
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.geometric import GeometricConfig
from delf_ext.runs.layouts import with_layout
from delf_ext.runs.opening import load_model
from delf_ext.runs.run_directory import read_run

WHITENING = "whitening.npz"
SAMPLED_IMAGES, SAMPLED_PER_IMAGE = 200, 300  # what a whitening is learned on
FIRST_BATCH_S = 20.0  # an extractor's first batch also traces its graph
USUAL_DIMS = 128

# DELF's cells overlap, so that the second nearest is often the same part of the same thing: no ratio test. And they are coarse.
VERIFY = {
    "delf": VerifyConfig(MatchConfig(max_ratio=1.0), max_error_fraction=0.02, accepted_from=23),
    "sift": VerifyConfig(MatchConfig(max_ratio=0.9), accepted_from=12),
}


@dataclass(frozen=True)
class LocalSettings:
    """Which local features, and how pairs of photographs are verified with them.

    kinds: "delf", "sift" or both. model: DELF's trunk, a run directory or a checkpoint. trunk: name and layout of a
    checkpoint's trunk. delf: its pyramid; delf.rotations_deg are the turns of a query. descriptor_dim: dimensions kept
    by PCA; 0 = 128, or what `whitening` keeps. descriptor_type: "float16" or "int8". whitening: a file made by
    `whiten`; "" takes the model's, else one is learned. overwrite: replace what other settings made.
    geometry_model: "similarity", "affine" or "homography". min_inliers: matches that agree, from which a pair is
    accepted; 0 = 23 for DELF, 12 for SIFT. order_by: "inliers" or "combined".
    """

    kinds: tuple[str, ...] = ("delf",)
    model: str = ""
    trunk: schema.Trunk = schema.Trunk()
    delf: DelfConfig = DelfConfig(rotations_deg=(0.0, 90.0, 180.0, 270.0))
    descriptor_dim: int = 0
    descriptor_type: str = "float16"
    whitening: str = ""
    overwrite: bool = False
    geometry_model: str = "affine"
    min_inliers: int = 0
    order_by: str = "inliers"
    seed: int = 0
    mixed_precision: str = "auto"

    def __post_init__(self) -> None:
        if self.min_inliers < 0:
            raise UsageError(f"--min_inliers must not be negative. Received {self.min_inliers}.")

    @property
    def geometric(self) -> GeometricConfig:
        """How pairs are verified and ordered."""
        return GeometricConfig(
            order=self.order_by, verify=tuple(self._verify(kind) for kind in self.kinds)
        )

    def _verify(self, kind: str) -> VerifyConfig:
        usual = VERIFY[kind]
        ransac = RansacConfig(model=self.geometry_model, seed=self.seed)
        return dataclasses.replace(
            usual, ransac=ransac, accepted_from=self.min_inliers or usual.accepted_from
        )


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
                log(f"whitening: {path}")
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
        f"whitening: {path}, learned on {len(sample)} descriptors of {min(len(images), SAMPLED_IMAGES)} photographs"
    )
    return learned


def _sift(settings: LocalSettings) -> Extractor:
    from delf_ext.features.local.sift import SiftConfig, SiftExtractor

    sift = SiftExtractor(SiftConfig(max_features=settings.delf.max_features))
    return Extractor("sift", sift, sift)
