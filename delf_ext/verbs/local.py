"""--local_features: the extractors that a verb was asked for, and the stores they fill."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_io.artifacts import StaleArtifact
from data_io.local_store import is_store, load_local
from data_io.records import ImageList, LocalFeatures
from delf_ext.config import DelfConfig, UsageError
from delf_ext.geometry.matching import MatchConfig
from delf_ext.geometry.ransac import RansacConfig
from delf_ext.geometry.verification import VerifyConfig
from delf_ext.reranking.deadline import Deadline
from delf_ext.verbs.weights import resolve_layout

WHITENING = "whitening.npz"
SAMPLED_IMAGES, SAMPLED_PER_IMAGE = 200, 300  # what a whitening is learned on
FIRST_BATCH_S = 20.0  # an extractor's first batch also traces its graph

# DELF's cells overlap, so that the second nearest is often the same part of the same thing: no ratio test. And they are coarse.
VERIFY = {
    "delf": VerifyConfig(MatchConfig(max_ratio=1.0), max_error_fraction=0.02, accepted_from=23),
    "sift": VerifyConfig(MatchConfig(max_ratio=0.9), accepted_from=12),
}


@dataclass(frozen=True)
class Extractor:
    """One kind of local features: of gallery images, and of queries, which are looked at in more turns."""

    name: str
    gallery: Any
    query: Any


def require_max_features(flags: Any) -> None:
    if flags.max_features < 1:
        raise UsageError(f"--max_features must be at least 1. Received {flags.max_features}.")


def kinds_of(flags: Any) -> tuple[str, ...]:
    """delf, sift, or both in this order."""
    return ("delf", "sift") if flags.local_features == "both" else (flags.local_features,)


def verify_from_flags(kind: str, flags: Any) -> VerifyConfig:
    usual = VERIFY[kind]
    ransac = RansacConfig(model=flags.geometry_model, seed=flags.seed)
    return dataclasses.replace(usual, ransac=ransac, accepted_from=flags.min_inliers or usual.accepted_from)


def extractors_of(flags: Any, images: ImageList, folder: Path | None, fits: Callable[[], bool] = lambda: True) -> list[Extractor]:
    """Raises: ValueError or UsageError when a model is missing, or OpenCV is.

    images: what DELF's whitening is learned on where there is none; it is kept in `folder`, and needed without one. fits: asked
    before each part of that, TimeoutError after its first False.
    """
    require_max_features(flags)
    makers = {"sift": lambda: _sift(flags), "delf": lambda: _delf(flags, images, folder, fits)}  # a missing OpenCV shows at once
    made = {kind: make() for kind, make in makers.items() if kind in kinds_of(flags)}
    return [made[kind] for kind in kinds_of(flags)]


class LocalStores:
    """The stores of a verb's extractors below a folder, completed by what is asked for: the `LocalOf` of a Verifier."""

    def __init__(self, flags: Any, gallery: ImageList, folder: Path) -> None:
        require_max_features(flags)
        self._flags, self._gallery, self._folder = flags, gallery, folder
        self._extractors: list[Extractor] = []
        self._begun: set[tuple[str, str]] = set()  # with --overwrite a store is emptied once

    def open(self, fits: Callable[[], bool] = lambda: True) -> list[Extractor]:
        """The extractors; made at the first call. Raises: as `extractors_of`."""
        if not self._extractors:
            self._extractors = extractors_of(self._flags, self._gallery, self._folder, fits)
        return self._extractors

    def __call__(self, query: ImageList, gallery: ImageList, deadline: Deadline) -> list[tuple[LocalFeatures, LocalFeatures]]:
        from delf_ext.features.local_extraction import extract_local

        fits, flags = deadline.part_fits(FIRST_BATCH_S), self._flags
        if not fits():
            raise TimeoutError("no time left to extract local features.")

        def completed(side: Any, images: ImageList, name: str, part: str) -> LocalFeatures:
            store, overwrite = self._folder / name / part, flags.overwrite and (name, part) not in self._begun
            self._begun.add((name, part))
            return extract_local(side, images, store, flags.descriptor_type, overwrite, f"{name} {part}", fits)

        return [
            (completed(kind.query, query, kind.name, "query"), completed(kind.gallery, gallery, kind.name, "gallery"))
            for kind in self.open(fits)
        ]

    def kept(self) -> list[tuple[LocalFeatures, LocalFeatures]]:
        """What the stores hold, per extractor that has both; nothing is extracted."""
        folders = [(self._folder / kind / "query", self._folder / kind / "gallery") for kind in kinds_of(self._flags)]
        return [(load_local(query), load_local(gallery)) for query, gallery in folders if is_store(query) and is_store(gallery)]


def raw_delf(flags: Any) -> Any:
    """DELF without whitening, of --local_model, else of --run_dir or --pretrained_model. Prints what it is made of."""
    from delf_ext.features.delf import DelfExtractor, checkpoint_delf, run_delf
    from delf_ext.models.precision import set_mixed_precision

    set_mixed_precision(flags.mixed_precision)
    model = flags.local_model or flags.run_dir or flags.pretrained_model
    if not model:
        raise UsageError(
            "DELF needs a trunk: pass --local_model, --run_dir or --pretrained_model; --local_features=sift needs none."
        )
    if Path(model).is_dir():
        network = run_delf(model, flags.local_layer)
    else:
        endpoint = f"{flags.resnet_type.split('/')[0]}/{flags.local_layer}"
        network, report = checkpoint_delf(model, endpoint, resolve_layout(model, flags.layout, endpoint))
        print(report)
    attention = "length of the feature vectors" if network.attention is None else "trained"
    print(f"DELF: {model}, {network.endpoint}; attention: {attention}", flush=True)
    return DelfExtractor(network, _delf_config(flags))


def _delf_config(flags: Any) -> DelfConfig:
    return DelfConfig(
        layer=flags.local_layer,
        longer_side_px=flags.local_image_size,
        scales=tuple(_numbers("local_scales", flags.local_scales)),
        max_features=flags.max_features,
    )


def _numbers(name: str, values: list[str]) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"--{name} is a list of numbers, separated by commas. Received {','.join(values)}.")
    return numbers


def _delf(flags: Any, images: ImageList, folder: Path | None, fits: Callable[[], bool]) -> Extractor:
    from delf_ext.features.delf import DelfExtractor

    turns = tuple(_numbers("local_rotations", flags.local_rotations))
    raw = raw_delf(flags)
    raw.turned(turns)  # refuses what it cannot do before a whitening is learned
    if not 1 <= flags.descriptor_dim <= raw.dimension:
        raise UsageError(f"--descriptor_dim must lie in 1..{raw.dimension}, the layer's width. Received {flags.descriptor_dim}.")
    whitened = DelfExtractor(raw.network, raw.config, whitening_of(flags, raw, images, folder, fits))
    return Extractor("delf", whitened, whitened.turned(turns))


def whitening_of(flags: Any, raw: Any, images: ImageList, folder: Path | None, fits: Callable[[], bool]) -> Any:
    """--whitening's; else the one beside the model, where it fits; else the one in `folder`, learned first where there is none.

    Raises: StaleArtifact where the one in `folder` does not fit, unless --overwrite is given.
    """
    from delf_ext.features.whitening import load_whitening

    if flags.whitening:
        found = load_whitening(flags.whitening)
        if flags["descriptor_dim"].present and found.dimension != flags.descriptor_dim:
            raise UsageError(
                f"--whitening={flags.whitening} keeps {found.dimension} dimensions, not --descriptor_dim={flags.descriptor_dim}."
            )
        return found
    beside = Path(flags.local_model or flags.run_dir or flags.pretrained_model) / WHITENING
    for path in [beside, *([folder / WHITENING] if folder else [])]:
        if path.exists():
            found = load_whitening(path)
            if found.made_for == raw.model_digest and found.dimension == flags.descriptor_dim:
                print(f"whitening: {path}")
                return found
            if path != beside and not flags.overwrite:  # the features in the folder need it
                raise StaleArtifact(f"{path} was learned for another model, layer or --descriptor_dim. Pass --overwrite.")
    if folder is None:
        raise UsageError(
            "DELF needs a --whitening=FILE; `whiten` learns one on any photographs. --local_features=sift needs none."
        )
    return learn(flags, raw, images, folder / WHITENING, fits)


def learn(flags: Any, raw: Any, images: ImageList, path: Path, fits: Callable[[], bool] = lambda: True) -> Any:
    """A whitening to --descriptor_dim dimensions, learned on random ones of the images and kept in `path`."""
    from delf_ext.features.local_extraction import sample_descriptors
    from delf_ext.features.whitening import learn_whitening, save_whitening

    sample = sample_descriptors(raw, images, SAMPLED_IMAGES, SAMPLED_PER_IMAGE, flags.seed, fits)
    whitening = learn_whitening(sample, flags.descriptor_dim, raw.model_digest)
    save_whitening(path, whitening)
    print(
        f"whitening: {path}, learned on {len(sample)} descriptors of {min(len(images), SAMPLED_IMAGES)} photographs", flush=True
    )
    return whitening


def _sift(flags: Any) -> Extractor:
    from delf_ext.features.sift import SiftConfig, SiftExtractor

    sift = SiftExtractor(SiftConfig(max_features=flags.max_features))
    return Extractor("sift", sift, sift)
