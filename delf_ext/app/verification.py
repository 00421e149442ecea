"""Look at what local features found: pairs of photographs with their matches, and figures over all verified pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from data_io.images import ImageError, decode_image
from data_io.progress import Log, quiet
from data_io.records import ImageKeypoints, ImageList, LocalFeatures
from delf_ext.app.evaluation import Measured
from delf_ext.app.local_features import extractors_of
from delf_ext.app.local_settings import LocalSettings
from delf_ext.evaluation.match_histogram import choose_threshold
from delf_ext.evaluation.match_pictures import draw_match, stack
from delf_ext.geometry.verification import Verification, verify
from delf_ext.reranking.geometric import GeometricConfig, pair_key

Local = Sequence[tuple[LocalFeatures, LocalFeatures]]  # per extractor: of queries, of gallery
Pairs = dict[
    str, tuple[np.ndarray, np.ndarray]
]  # "matching" and "other" -> inliers [n], accepted [n]


def match(
    settings: LocalSettings, query: ImageList, candidate: ImageList, log: Log = quiet
) -> tuple[Image.Image, list[Verification]]:
    """Compare two photographs by their local features.

    Args:
        settings: which local features, and how they are verified.
        query: a list of one photograph.
        candidate: a list of one photograph.
        log: called with each line worth reading.

    Returns:
        A picture with the matches, and what each extractor found.

    Raises:
        ImageError: naming the file that cannot be read. ValueError: as `extractors_of`.
    """
    images = [decode_image(query.paths[0]), decode_image(candidate.paths[0])]
    both = ImageList(np.array(["query", "gallery"]), np.concatenate([query.paths, candidate.paths]))
    keypoints = [
        (one.query.extract(images[:1])[0], one.gallery.extract(images[1:])[0])
        for one in extractors_of(settings, both, None, log=log)
    ]
    return draw_pair(
        images, keypoints, (str(query.ids[0]), str(candidate.ids[0])), settings.geometric
    )


def draw_pair(
    images: Sequence[np.ndarray],
    keypoints: Sequence[tuple[ImageKeypoints, ImageKeypoints]],
    names: tuple[str, str],
    config: GeometricConfig,
) -> tuple[Image.Image, list[Verification]]:
    """Verify a pair of photographs by each extractor's keypoints, and draw the results one under the other."""
    ways = config.verify * (len(keypoints) // len(config.verify))
    found = [
        verify(pair[0], [pair[1]], [pair_key(*names)], way)[0] for pair, way in zip(keypoints, ways)
    ]
    title = (
        "   ".join(names) if "".join(names).isascii() else "query   gallery"
    )  # Pillow's own font has Latin letters only
    pictures = [
        draw_match(images[0], images[1], *pair, one, title, one.accepted)
        for pair, one in zip(keypoints, found)
    ]
    return stack(pictures), found


def match_drawer(
    measured: Measured, local: Local, config: GeometricConfig
) -> Callable[[str, str], Image.Image | None]:
    """Return (query id, gallery id) -> the pair with its matches; None where a file cannot be read."""
    query, gallery = measured.retrieval.query, measured.retrieval.gallery
    path_of = [dict(zip(images.ids.tolist(), images.paths.tolist())) for images in (query, gallery)]

    def draw(query_id: str, gallery_id: str) -> Image.Image | None:
        known = [pair for pair in local if query_id in pair[0] and gallery_id in pair[1]]
        try:
            images = [
                decode_image(paths[name]) for paths, name in zip(path_of, (query_id, gallery_id))
            ]
        except ImageError:
            return None
        keypoints = [
            (queries.of(query_id), galleries.of(gallery_id)) for queries, galleries in known
        ]
        return draw_pair(images, keypoints, (query_id, gallery_id), config)[0] if known else None

    return draw


def verified_pairs(measured: Measured) -> Pairs:
    """Return the inliers of the pairs that show the same thing ("matching") and of the "other" ones; junk is in neither."""
    evidence, truth = measured.evaluated.evidence, measured.truth
    if evidence is None:
        return {}
    pairs: dict[str, list[tuple[int, bool]]] = {"matching": [], "other": []}
    for row in range(len(evidence.query_ids)):
        part = truth.of(evidence.query_ids[row : row + 1])
        for gallery_row, found in evidence.inliers_of(row).items():
            if gallery_row not in part.junk[0]:
                pairs["matching" if gallery_row in part.relevant[0] else "other"].append(found)
    return {kind: tuple(np.array(found).reshape(-1, 2).T) for kind, found in pairs.items()}  # type: ignore[misc]


def verification_figures(pairs: Pairs, config: GeometricConfig) -> dict[str, Any]:
    """Return which share of matching and of other pairs was accepted, and the threshold that accepts 0.5 % of the others."""
    result: dict[str, Any] = {"accepted_from": [way.accepted_from for way in config.verify]}
    for kind, (_, accepted) in pairs.items():
        result |= {
            f"{kind}_pairs": len(accepted),
            f"accepted_{kind}": float(accepted.mean()) if len(accepted) else None,
        }
    if len(config.verify) == 1 and len(pairs["other"][0]):
        result["threshold_at_half_a_percent"] = choose_threshold(pairs["other"][0])
    return result
